package replay

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/corastream/corastream"
)

// Run replays a log: every model learns train, then each row of valid and test is scored by every model with what was
// known before it. Static: nothing more is learnt. Prequential: the row is learnt once its label's delay is over.
func Run(ctx context.Context, c Config, data Data, d Deps) (*Report, error) {
	start := time.Now()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if err := d.check(c.Models); err != nil {
		return nil, err
	}
	rows, err := rowsOf(data)
	if err != nil {
		return nil, err
	}
	t := timing{}
	scores := map[string][]float64{}
	if slices.Contains(c.Models, Bias) {
		seen, err := c.cfPass(ctx, data, d, Bias, rows, &t)
		if err != nil {
			return nil, err
		}
		scores[Bias] = cfScores(seen)
	}
	if slices.ContainsFunc(c.Models, func(m string) bool { return m != Bias }) {
		seen, err := c.cfPass(ctx, data, d, CF, rows, &t)
		if err != nil {
			return nil, err
		}
		scores[CF] = cfScores(seen)
		for _, m := range c.Models {
			if m == Bias || m == CF {
				continue
			}
			began := time.Now()
			if m == Reader {
				scores[m], err = c.readerScores(ctx, data, d, seen)
			} else {
				scores[m], err = c.llmScores(ctx, d, m, rows, seen)
			}
			if err != nil {
				return nil, fmt.Errorf("score by %s: %w", m, err)
			}
			t.add(m+"_rows_per_s", float64(len(rows))/time.Since(began).Seconds())
		}
	}
	r := c.report(data, d, rows, scores)
	t.add("events_per_s", t.eventsPerS())
	t.add("seconds", time.Since(start).Seconds())
	r.Timing = t.figures
	return r, nil
}

// row is one evaluated line.
type row struct {
	corastream.Event
	test bool
	// What train holds of its user and item, and how many earlier lines the user has over all data.
	userRows, itemRows, earlier int
}

// rowsOf merges valid and test in time order (valid first where equal) and counts what came before each row.
func rowsOf(data Data) ([]row, error) {
	var rows []row
	for _, ev := range data.Valid {
		rows = append(rows, row{Event: ev})
	}
	for _, ev := range data.Test {
		rows = append(rows, row{Event: ev, test: true})
	}
	if len(data.Train) == 0 || len(rows) == 0 {
		return nil, corastream.Usagef("train, valid, test", "give train, and valid or test, with rows",
			"%d rows to learn from, %d to evaluate", len(data.Train), len(rows))
	}
	slices.SortStableFunc(rows, func(a, b row) int { return a.Time.Compare(b.Time) })
	users, items := map[string]int{}, map[string]int{}
	for _, ev := range data.Train {
		users[ev.User]++
		items[ev.Item]++
	}
	earlier := map[string]int{}
	for i := range rows {
		r := &rows[i]
		r.userRows, r.itemRows = users[r.User], items[r.Item]
		r.earlier = r.userRows + earlier[r.User]
		earlier[r.User]++
	}
	return rows, nil
}

// sight is what CF knew of a row before its label, and the prompt it gives.
type sight struct {
	pair   corastream.Pair
	prompt corastream.Prompt
}

func cfScores(seen []sight) []float64 {
	out := make([]float64, len(seen))
	for i := range seen {
		out[i] = float64(seen[i].pair.Logit())
	}
	return out
}

// cfPass learns train and then walks the rows.
func (c Config) cfPass(ctx context.Context, data Data, d Deps, kind string, rows []row, t *timing) ([]sight, error) {
	began := time.Now()
	model, err := d.NewModel(kind)
	if err != nil {
		return nil, fmt.Errorf("make model %s: %w", kind, err)
	}
	state := newState(data.Items)
	d.progress("learn "+kind, 0, len(data.Train)*c.Epochs)
	if err := fit(ctx, state, model, data.Train, c.Epochs); err != nil {
		return nil, fmt.Errorf("learn %s: %w", kind, err)
	}
	d.progress("learn "+kind, len(data.Train)*c.Epochs, len(data.Train)*c.Epochs)
	events := make([]corastream.Event, len(rows))
	for i := range rows {
		events[i] = rows[i].Event
	}
	seen, err := walk(ctx, state, model, events, c.Mode == Prequential, c.LabelDelay, c.History)
	if err != nil {
		return nil, fmt.Errorf("replay %s: %w", kind, err)
	}
	t.learnt += len(data.Train) * c.Epochs
	if c.Mode == Prequential {
		t.learnt += len(rows)
	}
	t.learning += time.Since(began)
	return seen, nil
}

func newState(items []corastream.Item) *corastream.Memory {
	m := corastream.NewMemory()
	for _, it := range items {
		m.Put(it)
	}
	return m
}

// fit makes the passes over train, in time order; the first one writes the histories.
func fit(ctx context.Context, s *corastream.Memory, l corastream.Learner, train []corastream.Event, epochs int) error {
	train = slices.Clone(train)
	slices.SortStableFunc(train, func(a, b corastream.Event) int { return a.Time.Compare(b.Time) })
	for epoch := range epochs {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for _, ev := range train {
			var err error
			if epoch == 0 {
				err = s.Apply(l, ev)
			} else {
				err = l.Learn(s, ev)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// walk goes through rows in time order and notes what was known before each. A label of time t is known to rows later
// than t+delay, never to rows of that very time: rows of equal times are all seen before any of them is learnt. Without
// learning, labels still reach the histories (prompts hold them), and nothing else.
func walk(ctx context.Context, s *corastream.Memory, m Model, rows []corastream.Event, learn bool, delay time.Duration,
	history int,
) ([]sight, error) {
	seen := make([]sight, len(rows))
	known := 0 // rows[:known] have given their labels
	for i, ev := range rows {
		if i%1024 == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		for ; rows[known].Time.Add(delay).Before(ev.Time); known++ {
			if err := tell(s, m, rows[known], learn); err != nil {
				return nil, err
			}
		}
		pair, err := corastream.PairOf(s, m, ev.User, ev.Item)
		if err != nil {
			return nil, err
		}
		if seen[i].prompt, err = promptOf(s, ev.User, ev.Item, history); err != nil {
			return nil, err
		}
		seen[i].pair = pair
	}
	return seen, nil
}

func tell(s *corastream.Memory, m Model, ev corastream.Event, learn bool) error {
	if learn {
		return s.Apply(m, ev)
	}
	u, err := s.User(ev.User)
	if err != nil {
		return err
	}
	u.Remember(ev, s.HistoryLimit)
	return nil
}

func promptOf(s corastream.State, user, item string, history int) (corastream.Prompt, error) {
	it, err := s.Item(item)
	if err != nil {
		return corastream.Prompt{}, err
	}
	p := corastream.Prompt{ItemID: item, Title: it.Title, Fields: it.Fields}
	if history == 0 {
		return p, nil
	}
	u, err := s.User(user)
	if err != nil {
		return p, err
	}
	for _, id := range u.Liked(history) {
		liked, err := s.Item(id)
		if err != nil {
			return p, err
		}
		if liked.Title != "" {
			p.History = append(p.History, liked.Title)
		}
	}
	return p, nil
}
