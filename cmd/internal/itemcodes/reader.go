// Package itemcodes has the frozen LLM read a catalogue's texts and makes of each item the code that the list model learns with:
// the first components of two of the LLM's states, at the answer token and over the item's text, in a basis fitted to the catalogue.
//
// A Reader reads, and keeps each state in a file, so that no text is read twice. Fit makes the codes of a catalogue at once, for a
// replay; Keep follows the catalogue of a running process. Equal texts, LLM and prompt give equal states, whatever device there is;
// codes of different bases must not meet in one list model, so the basis is kept in the data folder.
package itemcodes

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"

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
	file  string
	known map[[16]byte][]float32 // aboutKey of a text, to its state
}

// Options are those of an LLM that reads items for lists: the prompt of this package, one layer's states, the CPU.
func Options(o llm.Options) llm.Options {
	o.Template.Item, o.TitleTokens, o.TopLayers = aboutTemplate, aboutTokens, 1
	o.Device = "cpu"                      // equal texts have equal codes, whether a device is there or not
	o.KVBytes, o.DiskBytes = 1<<20, 1<<20 // states are kept here, keys and values nowhere
	return o
}

// NewReader reads with an LLM that was opened with Options, and closes it. States are kept under dir; "" keeps none.
func NewReader(m *llm.Model, dir string) (*Reader, error) {
	r := &Reader{model: m, known: map[[16]byte][]float32{}}
	if dir == "" {
		return r, nil
	}
	// The file is named after LLM and prompt: a state of another one must never be taken for this one's.
	name := sha256.Sum256(fmt.Appendf(nil, "answers 2 %s %s", m.Digest(), m.TemplateDigest()))
	r.file = filepath.Join(dir, fmt.Sprintf("answers-%x.f32", name[:8]))
	if err := r.load(); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return r, nil
}

// Close closes the LLM.
func (r *Reader) Close() error { return r.model.Close() }

// width is how many numbers a state has: what o reads at the answer token of the last layer [hidden], then the mean over title and
// fields of the residual stream after two thirds of the layers [hidden]. The first knows what the question makes of the item, the
// second what the text is about. Each alone is better on some logs and worse on others (docs/measured/quality.md).
func (r *Reader) width() int { return 2 * r.model.Info().Hidden }

// load reads what an earlier run read: records of a key [16], the state [width] as float32 and CRC-32 of both. A record that was
// cut short ends the file.
func (r *Reader) load() error {
	b, err := os.ReadFile(r.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read item states: %w", err)
	}
	size := 16 + 4*r.width()
	end := 0
	for ; len(b)-end >= size+4; end += size + 4 {
		rec := b[end : end+size]
		if crc32.ChecksumIEEE(rec) != binary.LittleEndian.Uint32(b[end+size:]) {
			break
		}
		state := make([]float32, r.width())
		for i := range state {
			state[i] = math.Float32frombits(binary.LittleEndian.Uint32(rec[16+4*i:]))
		}
		r.known[[16]byte(rec)] = state
	}
	if end < len(b) { // a kill in the middle of a record: what is appended next would be unreadable behind it
		if err := os.Truncate(r.file, int64(end)); err != nil {
			return fmt.Errorf("cut damaged item states: %w", err)
		}
	}
	return nil
}

// aboutKey identifies a text. Quoting both parts keeps title "a b" with text "" apart from title "a" with text "b".
func aboutKey(title, text string) [16]byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q", title, text))
	return [16]byte(sum[:16])
}

// answers returns the state of each item that has a title or fields; the others' state is nil.
// States at hand are taken from memory, the rest is read codeBatch items at a time. Each batch is
// appended to the file at once, so a kill loses one batch of reading at most.
func (r *Reader) answers(ctx context.Context, about corastream.About, items []corastream.Item, tell func(done, total int)) (out [][]float32, err error) {
	var file io.WriteCloser
	if r.file != "" {
		if err := os.MkdirAll(filepath.Dir(r.file), 0o755); err != nil {
			return nil, fmt.Errorf("keep item states: %w", err)
		}
		if file, err = os.OpenFile(r.file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err != nil {
			return nil, fmt.Errorf("keep item states: %w", err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
	}
	out = make([][]float32, len(items))
	keys := make([][16]byte, len(items))
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
		var record []byte
		for k, s := range states {
			i := places[k]
			out[i] = append(s.Answer[len(s.Answer)-1], s.Title[:r.width()/2]...)
			r.known[keys[i]] = out[i] // equal texts of other items are not read
			from := len(record)
			record = append(record, keys[i][:]...)
			for _, v := range out[i] {
				record = binary.LittleEndian.AppendUint32(record, math.Float32bits(v))
			}
			record = binary.LittleEndian.AppendUint32(record, crc32.ChecksumIEEE(record[from:]))
		}
		// One write for the batch: a kill cuts its last record at most, and load drops that by its checksum.
		if file != nil {
			if _, err := file.Write(record); err != nil {
				return fmt.Errorf("keep item states: %w", err)
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
		if out[i] = r.known[keys[i]]; out[i] != nil {
			continue
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
