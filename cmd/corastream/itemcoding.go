package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream/mix"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/serve"
)

// How `up` reads the catalogue for lists.
const (
	codingEvery = 2 * time.Second // it looks for items that are new or changed
	codingLeast = 50              // items: fewer span no codes
	codingMost  = 50_000          // items: of a larger catalogue the others have no code; a state takes 2 to 6 KB
	codingStep  = 256             // items that one transaction codes
)

// coding is how codes are made. It is kept in the data folder, so that codes of one list model always come from one basis.
type coding struct {
	LLM      string           `json:"llm"`
	Template string           `json:"template"`
	FittedOn int              `json:"fitted_on"` // items
	About    corastream.About `json:"about"`
	Coder    *generator.Coder `json:"coder"`
}

// codeCatalogue has the frozen LLM read titled items on one core, and tells the list model their codes. The first codes come when
// the catalogue has stood still for a moment; when it has grown by half, the basis is fitted anew and all items are coded again.
// It ends with ctx, or when it can not go on, which is a warning: lists are then the mixture's alone.
func (e *engine) codeCatalogue(ctx context.Context) {
	m, ok := e.ranker.(*mix.Model)
	if !ok || m.Spec().Codes == 0 || e.llm == nil || e.replica != nil {
		return
	}
	if err := e.keepCoded(ctx, m); err != nil && ctx.Err() == nil {
		e.log.Warn().Err(err).Msg("items are not read for lists any more; lists go on without the language model's part")
	}
}

func (e *engine) keepCoded(ctx context.Context, m *mix.Model) error {
	var r *itemReader
	defer func() {
		if r != nil {
			r.close()
		}
	}()
	var now *coding
	done := map[string][16]byte{}
	last := 0
	tick := time.NewTicker(codingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		items := e.catalogue.texts(codingMost)
		still := len(items) == last
		last = len(items)
		if len(items) < codingLeast || now == nil && !still {
			continue
		}
		var err error
		if r == nil {
			c := e.cfg.LLM
			c.Options.Threads = 1
			if r, err = openItemReader(c, e.log); err != nil || r == nil {
				return err
			}
			if now, err = e.loadCoding(r); err != nil {
				return err
			}
			if now != nil {
				for _, it := range items {
					if m.Coded(it.ID) {
						done[it.ID] = aboutKey(it.Title, now.About.Text(it))
					}
				}
			}
		}
		if now == nil || still && 2*len(items) >= 3*now.FittedOn {
			if now, err = e.fitCoding(ctx, r, m.Spec().Codes, items); err != nil {
				return err
			}
			clear(done)
		}
		if err := e.codeItems(ctx, r, now, m.Spec().Codes, items, done); err != nil {
			return err
		}
	}
}

// fitCoding reads all items, fits the basis and keeps it.
func (e *engine) fitCoding(ctx context.Context, r *itemReader, width int, items []corastream.Item) (*coding, error) {
	now := &coding{LLM: r.model.Digest(), Template: r.model.TemplateDigest(), FittedOn: len(items), About: corastream.NewAbout(items)}
	states, err := r.answers(ctx, now.About, items, newProgress(e.log, "read catalogue for lists").Set)
	if err != nil {
		return nil, err
	}
	states = slices.DeleteFunc(states, func(s []float32) bool { return s == nil })
	if now.Coder, err = generator.FitCoder(states, width); err != nil {
		return nil, err
	}
	b, err := json.Marshal(now)
	if err != nil {
		return nil, err
	}
	path := e.codingPath()
	if err := errors.Join(os.WriteFile(path+".tmp", b, 0o644), os.Rename(path+".tmp", path)); err != nil {
		return nil, fmt.Errorf("keep the basis of item codes: %w", err)
	}
	return now, nil
}

func (e *engine) codingPath() string { return filepath.Join(e.cfg.Data, "codes.json") }

// loadCoding is what an earlier run fitted; nil where there is none, or one of another LLM or prompt.
func (e *engine) loadCoding(r *itemReader) (*coding, error) {
	b, err := os.ReadFile(e.codingPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the basis of item codes: %w", err)
	}
	var c coding
	if err := json.Unmarshal(b, &c); err != nil || c.Coder == nil || !c.Coder.Sound() {
		e.log.Warn().Str("file", e.codingPath()).Msg("the basis of item codes is damaged; it is fitted anew")
		return nil, nil
	}
	if c.LLM != r.model.Digest() || c.Template != r.model.TemplateDigest() || c.Coder.In != r.model.Info().Hidden {
		return nil, nil
	}
	return &c, nil
}

// codeItems reads what is new or changed and stores its codes.
func (e *engine) codeItems(ctx context.Context, r *itemReader, now *coding, width int, items []corastream.Item, done map[string][16]byte) error {
	var part []corastream.Item
	flush := func() error {
		if len(part) == 0 {
			return nil
		}
		states, err := r.answers(ctx, now.About, part, func(int, int) {})
		if err != nil {
			return err
		}
		for i, s := range states {
			code, err := now.Coder.Code(s)
			if err != nil {
				return fmt.Errorf("item %q: %w", part[i].ID, err)
			}
			part[i].Code = append(code, make([]float32, width-len(code))...)
		}
		if err := e.store.Code(ctx, part); err != nil {
			return fmt.Errorf("store item codes: %w", err)
		}
		for _, it := range part {
			done[it.ID] = aboutKey(it.Title, now.About.Text(it))
		}
		part = part[:0]
		return nil
	}
	for _, it := range items {
		if key, ok := done[it.ID]; ok && key == aboutKey(it.Title, now.About.Text(it)) {
			continue
		}
		if part = append(part, it); len(part) == codingStep {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// texts are the titled items in the order of their ids, at most so many.
func (c *catalogue) texts(most int) []corastream.Item {
	var items []corastream.Item
	c.prompts.Range(func(_, v any) bool {
		p := v.(corastream.Prompt)
		items = append(items, corastream.Item{ID: p.ItemID, Title: p.Title, Fields: p.Fields})
		return true
	})
	slices.SortFunc(items, func(a, b corastream.Item) int { return strings.Compare(a.ID, b.ID) })
	return items[:min(len(items), most)]
}

// llmStatus says what the LLM's part does to the lists; nil where it has none.
func (e *engine) llmStatus() *serve.LLMStatus {
	m, ok := e.ranker.(*mix.Model)
	if !ok || e.llm == nil || m.Spec().Codes == 0 {
		return nil
	}
	w := m.Worth()
	return &serve.LLMStatus{
		Worth:   serve.LLMWorth{NDCG10With: w.With, NDCG10Without: w.Without, CI: w.CI, Rows: w.Rows},
		Version: w.Version, TrainedAtEvent: w.TrainedAt, Coded: m.CodedItems(),
	}
}
