package main

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

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/serve/llm"
)

// The prompt by which items are read for lists: the title, then the fields of corastream.NewAbout. The LLM's options cap both.
const (
	aboutField    = "corastream_about"
	aboutTemplate = "Item: {title}[. {" + aboutField + "}]\n#Answer:"
	aboutTokens   = 48 // of the title, and again of the fields
	codeBatch     = 64 // items that one call reads
)

// itemReader has the frozen LLM read items for lists, and keeps what it read on disk.
type itemReader struct {
	model *llm.Model
	file  string
	known map[[16]byte][]float32
}

// openItemReader opens the LLM a second time with the prompt for lists. The weights are mapped from the same cache.
func openItemReader(c LLMConfig, log zerolog.Logger) (*itemReader, error) {
	c.Options.Template.Item, c.Options.TitleTokens, c.Options.TopLayers = aboutTemplate, aboutTokens, 1
	c.Options.Device = "cpu"                              // equal texts have equal codes, whether a device is there or not
	c.Options.KVBytes, c.Options.DiskBytes = 1<<20, 1<<20 // states are kept here, keys and values nowhere
	dir := c.Options.CacheDir
	m, err := openLLM(c, log)
	if err != nil || m == nil {
		return nil, err
	}
	r := &itemReader{model: m, known: map[[16]byte][]float32{}}
	if dir != "" {
		name := sha256.Sum256(fmt.Appendf(nil, "answers 1 %s %s", m.Digest(), m.TemplateDigest()))
		r.file = filepath.Join(dir, fmt.Sprintf("answers-%x.f32", name[:8]))
		err = r.load()
	}
	if err != nil {
		m.Close()
		return nil, err
	}
	return r, nil
}

func (r *itemReader) close() { r.model.Close() }

// load reads what an earlier run read: records of a key [16], the state [hidden] as float32 and CRC-32 of both. A record that was
// cut short ends the file.
func (r *itemReader) load() error {
	b, err := os.ReadFile(r.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read item states: %w", err)
	}
	size := 16 + 4*r.model.Info().Hidden
	end := 0
	for ; len(b)-end >= size+4; end += size + 4 {
		rec := b[end : end+size]
		if crc32.ChecksumIEEE(rec) != binary.LittleEndian.Uint32(b[end+size:]) {
			break
		}
		state := make([]float32, r.model.Info().Hidden)
		for i := range state {
			state[i] = math.Float32frombits(binary.LittleEndian.Uint32(rec[16+4*i:]))
		}
		r.known[[16]byte(rec)] = state
	}
	if end < len(b) {
		if err := os.Truncate(r.file, int64(end)); err != nil {
			return fmt.Errorf("cut damaged item states: %w", err)
		}
	}
	return nil
}

func aboutKey(title, text string) [16]byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q", title, text))
	return [16]byte(sum[:16])
}

// answers reads the items that have a title or fields; the others' state is nil.
func (r *itemReader) answers(ctx context.Context, about corastream.About, items []corastream.Item, tell func(done, total int)) (out [][]float32, err error) {
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
			out[i] = s.Answer[len(s.Answer)-1]
			r.known[keys[i]] = out[i]
			from := len(record)
			record = append(record, keys[i][:]...)
			for _, v := range out[i] {
				record = binary.LittleEndian.AppendUint32(record, math.Float32bits(v))
			}
			record = binary.LittleEndian.AppendUint32(record, crc32.ChecksumIEEE(record[from:]))
		}
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
		batch = append(batch, corastream.Item{ID: it.ID, Title: it.Title, Fields: map[string]string{aboutField: text}})
		if places = append(places, i); len(batch) == codeBatch {
			if err := flush(i + 1); err != nil {
				return nil, err
			}
		}
	}
	return out, flush(len(items))
}

// itemCodes reads a catalogue and fits its item codes; an item that tells nothing has none.
func itemCodes(ctx context.Context, c LLMConfig, width int, items []corastream.Item, log zerolog.Logger) ([][]float32, error) {
	r, err := openItemReader(c, log)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, corastream.Usagef("llm", "name a GGUF with --llm FILE", "item codes need the LLM")
	}
	defer r.close()
	answers, err := r.answers(ctx, corastream.NewAbout(items), items, newProgress(log, "read catalogue for lists").Set)
	if err != nil {
		return nil, err
	}
	var have [][]float32
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

// codesOnce reads a catalogue at the first call and gives the same codes to all others.
func codesOnce(cfg Config, items []corastream.Item, log zerolog.Logger) func(context.Context) ([][]float32, error) {
	var codes [][]float32
	return func(ctx context.Context) ([][]float32, error) {
		if codes != nil {
			return codes, nil
		}
		var err error
		codes, err = itemCodes(ctx, cfg.LLM, cfg.Mix.Codes, items, log)
		return codes, err
	}
}
