// Package itemcodes has the frozen LLM read a catalogue's texts and makes of each item the code that the list model learns with:
// the first components of two of the LLM's states, at the answer token and over the item's text, in a basis fitted to the catalogue.
//
// A Reader reads, and keeps each state in a file that processes and data folders share, so that no text is read twice. Fit makes the
// codes of a catalogue at once, for a replay; Keep follows the catalogue of a running process. Equal texts, LLM and prompt give equal states, whatever device there is;
// codes of different bases must not meet in one list model, so the basis is kept in the data folder.
package itemcodes

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/serve/llm"
)

// The prompt by which items are read for lists: the title, then the fields of corastream.NewAbout. The LLM's options cap both.
const (
	aboutField    = "corastream_about"
	aboutTemplate = "Item: {title}[. {" + aboutField + "}]\n#Answer:"
	aboutTokens   = 48 // of the title, and again of the fields
	codeBatch     = 32 // items that one call reads; a kill loses at most these
)

// Reader has the frozen LLM read items for lists, and keeps what it read on disk. For one
// goroutine.
type Reader struct {
	model *llm.Model
	kept  *llm.StateFile // nil: none
}

// Options are those of an LLM that reads items for lists: the prompt of this package, one layer's states, the CPU. layers is how many
// layers it reads through for the state of the text alone; 0 is all of them, for both states.
func Options(o llm.Options, layers int) llm.Options {
	o.Template.Item, o.TitleTokens, o.TopLayers = aboutTemplate, aboutTokens, 1
	o.Device = "cpu"                      // equal texts have equal codes, whether a device is there or not
	o.KVBytes, o.DiskBytes = 1<<20, 1<<20 // states are kept here, keys and values nowhere
	o.ReadLayer, o.TextOnly = layers, layers > 0
	return o
}

// NewReader reads with an LLM that was opened with Options, and closes it. States are kept under dir in a file of at most limit bytes,
// which other processes and data folders may share; "" keeps none.
func NewReader(m *llm.Model, dir string, limit int64) (*Reader, error) {
	r := &Reader{model: m}
	if dir == "" {
		return r, nil
	}
	made := fmt.Sprintf("states 1 %s %s %s %d", m.Digest(), m.TemplateDigest(), m.Info().Numerics, r.layers())
	name := sha256.Sum256([]byte(made))
	var err error
	if r.kept, err = llm.OpenStates(filepath.Join(dir, fmt.Sprintf("states-%x.f32", name[:8])), made, r.width(), limit); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return r, nil
}

// Close closes the LLM and the file of states.
func (r *Reader) Close() error {
	err := r.model.Close()
	if r.kept != nil {
		err = errors.Join(err, r.kept.Close())
	}
	return err
}

// Times is what readings took in each layer of the LLM so far.
func (r *Reader) Times() []time.Duration { return r.model.ReadTimes() }

// Numerics is the LLM's precision: f32, bf16 or int8.
func (r *Reader) Numerics() string { return r.model.Info().Numerics }

// failure is why states are not kept any more, or nil.
func (r *Reader) failure() error {
	if r.kept == nil {
		return nil
	}
	return r.kept.Failure()
}

// layers is how many layers the state of the text alone is read through; 0: both states.
func (r *Reader) layers() int {
	if r.model.Info().TextOnly {
		return r.model.Info().ReadLayer
	}
	return 0
}

// width is how many numbers a state has: what o reads at the answer token of the last layer [hidden], then the mean over title and
// fields of the residual stream after two thirds of the layers [hidden]. The first knows what the question makes of the item, the
// second what the text is about. Each alone is better on some logs and worse on others (docs/measured/quality.md). Where it is read
// through some layers alone, there is the mean after these and nothing else.
func (r *Reader) width() int {
	if r.layers() > 0 {
		return r.model.Info().Hidden
	}
	return 2 * r.model.Info().Hidden
}

// aboutKey identifies a text. Quoting keeps title "a b" with text "" apart from title "a" with text "b".
func aboutKey(title, text string) [32]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%q %q", title, text))
}

// answers returns the state of each item that has a title or fields; the others' state is nil.
// States that the file has are taken from there, the rest is read codeBatch items at a time and kept
// after each batch, so a kill loses one batch of reading at most.
func (r *Reader) answers(ctx context.Context, about corastream.About, items []corastream.Item, tell func(done, total int)) ([][]float32, error) {
	out := make([][]float32, len(items))
	keys := make([][32]byte, len(items))
	var batch []corastream.Item
	var places []int
	told := false // progress is told only where something is read
	flush := func(done int) error {
		if len(batch) == 0 {
			return nil
		}
		states, err := r.model.Encode(ctx, batch)
		if err != nil {
			return fmt.Errorf("read items: %w", err)
		}
		for k, s := range states {
			i := places[k]
			text := s.Title[:r.model.Info().Hidden]
			if r.layers() > 0 {
				out[i] = text
			} else {
				out[i] = append(s.Answer[len(s.Answer)-1], text...)
			}
			if r.kept != nil {
				r.kept.Put(keys[i], out[i])
			}
		}
		batch, places = batch[:0], places[:0]
		tell(done, len(items))
		return nil
	}
	for i, it := range items {
		text := about.Text(it)
		if it.Removed || it.Title == "" && text == "" {
			continue
		}
		keys[i] = aboutKey(it.Title, text)
		if r.kept != nil {
			if out[i] = r.kept.Get(keys[i]); out[i] != nil {
				continue
			}
		}
		if !told {
			told = true
			tell(i, len(items))
		}
		// The text goes in as one field of its own, so that the prompt is the same whatever columns a catalogue has.
		batch = append(batch, corastream.Item{ID: it.ID, Title: it.Title, Fields: map[string]string{aboutField: text}})
		if places = append(places, i); len(batch) == codeBatch {
			if err := flush(i + 1); err != nil {
				return nil, err
			}
		}
	}
	if err := flush(len(items)); err != nil {
		return nil, err
	}
	if told {
		tell(len(items), len(items))
	}
	return out, nil
}

// Fit reads a catalogue and fits its codes [items][width]; an item that tells nothing has none.
func Fit(ctx context.Context, r *Reader, width int, items []corastream.Item, progress func(done, total int)) ([][]float32, error) {
	answers, err := r.answers(ctx, corastream.NewAbout(items), items, progress)
	if err != nil {
		return nil, err
	}
	var have [][]float32 // items without a text span nothing
	for _, a := range answers {
		if a != nil {
			have = append(have, a)
		}
	}
	coder, err := generator.FitCoder(have, width)
	if err != nil {
		return nil, err
	}
	codes := make([][]float32, len(items))
	for i, a := range answers {
		if a == nil {
			continue
		}
		if codes[i], err = coder.Code(a); err != nil {
			return nil, fmt.Errorf("item %q: %w", items[i].ID, err)
		}
	}
	return codes, nil
}
