package train

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/corastream/corastream"
)

// row is one event with the embeddings of the moment before it was learnt.
type row struct {
	pair   corastream.Pair
	label  float32
	prompt corastream.Prompt
}

// split cuts the training log: CF's passes, the generator's rows, the rows that decide the epoch.
func split(n int, cfg *Config) (warm, rows int) {
	holdout := int(float64(n) * cfg.Holdout)
	warm = int(float64(n) * cfg.Warm)
	return min(warm, n-holdout), n - holdout
}

// snapshots learns CF over the log and takes the rows on the way.
type snapshots struct {
	train, holdout, valid []row
	skipped               int // events of items without a title: there is nothing to prompt with
	sampled               int // rows of items that were drawn, because the log says nothing of what was not taken
}

func (r *runner) snapshots(ctx context.Context) (*snapshots, error) {
	cf, err := r.deps.NewCF()
	if err != nil {
		return nil, fmt.Errorf("make the CF model: %w", err)
	}
	mem := corastream.NewMemory()
	mem.HistoryLimit = max(64, 4*r.cfg.History)
	for _, it := range r.items {
		mem.Put(it)
	}
	log := corastream.Settled(r.data.Train)
	warm, held := split(len(log), &r.cfg)
	total := r.cfg.Passes*warm + len(log) - warm + len(r.data.Valid)
	done := 0
	tick := func() error {
		if done++; done%4096 == 0 {
			r.tell(Progress{Phase: "cf", Done: done, Total: total})
			return ctx.Err()
		}
		return nil
	}
	for pass := range r.cfg.Passes {
		for i, ev := range log[:warm] {
			if err := cf.Learn(mem, ev); err != nil {
				return nil, fmt.Errorf("cf: event %d of user %q: %w", i, ev.User, err)
			}
			if pass == r.cfg.Passes-1 {
				u, _ := mem.User(ev.User)
				u.Remember(ev, mem.HistoryLimit)
			}
			if err := tick(); err != nil {
				return nil, err
			}
		}
	}
	s := &snapshots{}
	var others *sampler
	if onlyTaken(log) {
		others = &sampler{rnd: rand.New(rand.NewPCG(r.cfg.Seed, 0x6f74)), seen: log[:warm:warm]}
	}
	walk := func(events []corastream.Event, to *[]row, limit int) error {
		for i, ev := range events {
			it, err := mem.Item(ev.Item)
			if err != nil {
				return err
			}
			if it.Title == "" {
				s.skipped++
			} else {
				x, err := r.snapshot(mem, cf, ev, it)
				if err != nil {
					return fmt.Errorf("cf: event %d of user %q: %w", i, ev.User, err)
				}
				if *to = append(*to, x); others != nil {
					if x, ok, err := r.untaken(mem, cf, ev, others); err != nil {
						return err
					} else if ok {
						*to = append(*to, x)
						s.sampled++
					}
				}
				if len(*to) >= 2*limit { // a long log shall not be held in memory
					*to = newest(*to, limit)
				}
			}
			if err := mem.Apply(cf, ev); err != nil {
				return fmt.Errorf("cf: event %d of user %q: %w", i, ev.User, err)
			}
			if others != nil {
				others.seen = append(others.seen, ev)
			}
			if err := tick(); err != nil {
				return err
			}
		}
		*to = newest(*to, limit)
		return nil
	}
	if err := walk(log[warm:held], &s.train, r.cfg.Rows); err != nil {
		return nil, err
	}
	if err := walk(log[held:], &s.holdout, r.cfg.Judges); err != nil {
		return nil, err
	}
	return s, walk(r.data.Valid, &s.valid, r.cfg.Report)
}

// newest keeps the last n rows, without holding on to the others' memory.
func newest(rows []row, n int) []row {
	if len(rows) <= n {
		return rows
	}
	return append([]row(nil), rows[len(rows)-n:]...)
}

func (r *runner) snapshot(mem *corastream.Memory, cf CF, ev corastream.Event, it *corastream.ItemState) (row, error) {
	pair, err := corastream.PairOf(mem, cf, ev.User, ev.Item)
	if err != nil {
		return row{}, err
	}
	pair.User, pair.Item = pair.User.Clone(), pair.Item.Clone() // they must not follow what comes later
	x := row{pair: pair, label: ev.Label, prompt: corastream.Prompt{ItemID: ev.Item, Title: it.Title, Fields: it.Fields}}
	if r.cfg.Blank != "" {
		x.prompt = corastream.Prompt{Title: r.cfg.Blank}
		return x, nil
	}
	if r.cfg.History > 0 {
		u, err := mem.User(ev.User)
		if err != nil {
			return row{}, err
		}
		if x.prompt.History, err = corastream.LikedTitles(mem, u, r.cfg.History); err != nil {
			return row{}, err
		}
	}
	return x, nil
}
