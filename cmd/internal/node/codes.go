package node

import (
	"context"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream/mix"
	"github.com/corastream/corastream/cmd/internal/console"
	"github.com/corastream/corastream/cmd/internal/itemcodes"
	"github.com/corastream/corastream/cmd/internal/listworth"
	"github.com/corastream/corastream/serve"
)

// openItemReader opens the LLM a second time with the prompt for lists. The weights are mapped from the same cache. It is nil where
// the LLM is off.
func openItemReader(c LLMConfig, log zerolog.Logger) (*itemcodes.Reader, error) {
	limit := c.Options.DiskBytes
	c.Options = itemcodes.Options(c.Options, c.ListLayers)
	m, err := OpenLLM(c, log)
	if err != nil || m == nil {
		return nil, err
	}
	return itemcodes.NewReader(m, c.Options.CacheDir, limit)
}

// CodesOnce reads a catalogue at the first call and gives the same codes to all others.
func CodesOnce(cfg Config, items []corastream.Item, log zerolog.Logger) func(context.Context) ([][]float32, error) {
	var codes [][]float32
	return func(ctx context.Context) ([][]float32, error) {
		if codes != nil {
			return codes, nil
		}
		r, err := openItemReader(cfg.LLM, log)
		if err != nil {
			return nil, err
		}
		if r == nil {
			return nil, corastream.Usagef("llm", "name a GGUF with --llm FILE", "item codes need the LLM")
		}
		defer r.Close()
		codes, err = itemcodes.Fit(ctx, r, cfg.Mix.Codes, items, console.NewProgress(log, "read catalogue for lists").Set)
		return codes, err
	}
}

// codeCatalogue has the frozen LLM read titled items on one core, and tells the list model their codes. It ends with ctx, or when it
// can not go on, which is a warning: lists are then the mixture's alone.
//
// A replica tells its list model alone. Its store holds what the changelogs say and nothing else, and each replica fits a basis to
// the catalogue that it knows, so codes and versions are a replica's own.
func (e *Node) codeCatalogue(ctx context.Context) {
	m, ok := e.Ranker.(*mix.Model)
	if !ok || m.Spec().Codes == 0 || e.LLM == nil {
		return
	}
	store := e.Store.Code
	if e.replica != nil {
		store = func(_ context.Context, items []corastream.Item) error {
			m.Code(items)
			return nil
		}
	}
	bar := console.NewProgress(e.Log, "read catalogue for lists")
	defer e.reading.end()
	pace := itemcodes.Pace{ListLayers: e.Config.LLM.ListLayers, Scores: e.Stage != nil}
	var reader *itemcodes.Reader
	err := itemcodes.Keep(ctx, itemcodes.Deps{
		Open: func() (*itemcodes.Reader, error) {
			c := e.Config.LLM
			c.Options.Threads = 1
			return openItemReader(c, e.Log)
		},
		Opened: func(r *itemcodes.Reader) { reader, pace.Numerics = r, r.Numerics() },
		Texts:  e.Catalogue.texts, Coded: m.Coded, Store: store, Again: m.TellAgain, Width: m.Spec().Codes,
		Progress: func(done, total int) {
			bar.Set(done, total)
			pace.Layers = reader.Times()
			if says := e.reading.set(done, total, pace, time.Now()); says != nil {
				e.Log.Warn().Strs("advice", says[1:]).Msg(says[0])
			}
		},
		Path: filepath.Join(e.Config.Data, "codes.json"), Log: e.Log,
	})
	if err != nil && ctx.Err() == nil {
		e.Log.Warn().Err(err).Msg("items are not read for lists any more; lists go on without the language model's part")
	}
}

// watchLists logs what becomes of the versions of the LLM's part.
func (e *Node) watchLists(ctx context.Context) {
	if m, ok := e.Ranker.(*mix.Model); ok && e.LLM != nil && m.Spec().Codes > 0 {
		listworth.Watch(ctx, m, e.Log)
	}
}

// llmStatus says what the LLM's part does to the lists; nil where it has none.
func (e *Node) llmStatus() *serve.LLMStatus {
	m, ok := e.Ranker.(*mix.Model)
	if !ok || e.LLM == nil || m.Spec().Codes == 0 {
		return nil
	}
	s := listworth.Status(m)
	s.Reading = e.reading.now()
	return s
}

// reading is how far the LLM is with the catalogue.
type reading struct {
	mu     sync.Mutex
	at     *serve.LLMReading // nil: nothing is being read
	pace   console.Pace
	warned bool
}

// set takes how far the reading is. It returns the advice to log, once a reading.
func (r *reading) set(done, total int, p itemcodes.Pace, now time.Time) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if done >= total {
		r.at, r.warned = nil, false
		return nil
	}
	if r.at == nil {
		r.pace = console.NewPace(done, now)
	}
	r.at = &serve.LLMReading{Done: done, Total: total, ETAS: -1}
	left, known := r.pace.Left(done, total, now)
	if !known {
		return nil
	}
	p.Done, p.Total, p.Left, p.ItemsPerS = done, total, left, r.pace.PerS(done, now)
	r.at.ETAS, r.at.ItemsPerS, r.at.Advice = left.Seconds(), p.ItemsPerS, itemcodes.Advice(p)
	if r.warned || r.at.Advice == nil {
		return nil
	}
	r.warned = true
	return r.at.Advice
}

func (r *reading) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = nil
}

func (r *reading) now() *serve.LLMReading {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at
}
