package replay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/corastream/corastream"
)

// Run replays a log: every model learns train, then each row of valid and test is scored by every model with what was
// known before it. Static: nothing more is learnt. Prequential: the row is learnt once its label's delay is over.
func Run(ctx context.Context, c Config, data Data, d Deps) (*Report, error) {
	e, outcomes, err := evaluate(ctx, c, data, d)
	if err != nil {
		return nil, err
	}
	return e.finish(ctx, outcomes)
}

// evaluate scores all rows by every model.
func evaluate(ctx context.Context, c Config, data Data, d Deps) (*evaluation, map[string]outcome, error) {
	began := time.Now()
	if err := c.Validate(); err != nil {
		return nil, nil, err
	}
	if err := d.check(c.Models); err != nil {
		return nil, nil, err
	}
	data, err := c.split(data)
	if err != nil {
		return nil, nil, err
	}
	if err := data.checkLists(); err != nil {
		return nil, nil, err
	}
	rows, err := rowsOf(data)
	if err != nil {
		return nil, nil, err
	}
	e := &evaluation{
		Config: c, deps: d, data: data, rows: rows, universe: universeOf(data), timing: &timing{}, contents: map[string][]corastream.Item{},
		done: map[pass]map[string]outcome{}, given: data, began: began,
	}
	if d.Resume != "" {
		e.print = c.fingerprint(data, d.Manifest)
	}
	e.data.Train = inOrder(data.Train)
	e.log = newChronicle(c.Task, e.data.Train, rows, e.universe)
	outcomes, err := e.run(ctx, e.pass(c.Mode, c.LabelDelay, 0), c.Models)
	return e, outcomes, err
}

// split holds out the last part of train when the choice is being made there.
func (c Config) split(data Data) (Data, error) {
	if c.Dev == 0 {
		return data, nil
	}
	if len(data.Test) > 0 || len(data.Valid) > 0 {
		return data, corastream.Usagef("dev", "give train alone", "with dev, the rows scored are train's own last ones")
	}
	train := inOrder(data.Train)
	cut := int(float64(len(train)) * (1 - c.Dev))
	data.Train, data.Valid = train[:cut], train[cut:]
	return data, nil
}

// row is one evaluated line.
type row struct {
	corastream.Event
	test bool
	// What train holds of its user and item, and how many earlier lines the user has over all data.
	userRows, itemRows, earlier int
	// What the log holds of its user and item before its moment, learnt or not: whether that user had met that item, and their events.
	met                    bool
	userBefore, itemBefore int
	opens                  bool // the first row of its user's day; in logs whose times are days alone
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

// pass is one way through the log.
type pass struct {
	learn bool
	delay time.Duration
	seed  uint64
	half  string // of the mixture: halfUser or halfModel learns, the other part is frozen; "": both
}

// outcome is what one model gave over all rows of a pass.
type outcome struct {
	score, alone []float64
	gain, hit    []float64 // nil where the model ranks nothing
	ranks        *ranks    // the same
	logit        bool      // score is a logit, so it has a log loss
	silent       bool      // it gives lists alone, and no scores
}

// evaluation is one Run. Passes are kept, so that none is made twice.
type evaluation struct {
	Config
	deps     Deps
	data     Data // train in time order
	rows     []row
	universe *universe
	log      *chronicle
	timing   *timing
	contents map[string][]corastream.Item
	done     map[pass]map[string]outcome
	given    Data // as it was given
	print    string
	began    time.Time
}

func (e *evaluation) pass(mode string, delay time.Duration, seed uint64) pass {
	return pass{learn: mode == Prequential, delay: delay, seed: seed}
}

// run makes one pass with each of the models.
func (e *evaluation) run(ctx context.Context, p pass, models []string) (map[string]outcome, error) {
	if e.done[p] == nil {
		e.done[p] = map[string]outcome{}
	}
	done := e.done[p]
	var seen []sight // CF's, which all models on top of it share
	for _, m := range models {
		if _, ok := done[m]; ok {
			continue
		}
		if o, ok := e.load(p, m); ok {
			done[m] = o
			continue
		}
		began := time.Now()
		var o outcome
		var err error
		switch {
		case isLearner(m), slices.Contains(counters, m), isList(m), steered(m) && e.deps.Generator == nil:
			var own []sight
			if o, own, err = e.contend(ctx, p, m); m == CF {
				seen = own
			}
		default:
			if seen == nil {
				var below outcome
				if below, seen, err = e.contend(ctx, p, CF); err != nil {
					break
				}
				if slices.Contains(models, CF) {
					done[CF] = below
				}
			}
			if o, err = e.onTop(ctx, m, seen); err == nil && steered(m) && e.RankLLM == 0 && e.deps.Codes != nil && e.deps.NewRanker != nil {
				var list outcome
				if list, _, err = e.contend(ctx, p, m); err == nil { // the list's figures are the list model's
					o.gain, o.hit, o.ranks = list.gain, list.hit, list.ranks
				}
			}
			e.timing.add(m+"_rows_per_s", float64(len(e.rows))/time.Since(began).Seconds())
		}
		if err != nil {
			return nil, fmt.Errorf("score by %s: %w", m, err)
		}
		done[m] = o
		if err := e.store(p, m, o); err != nil {
			return nil, err
		}
	}
	return done, nil
}

// contend has a model learn train and walk the rows.
func (e *evaluation) contend(ctx context.Context, p pass, name string) (outcome, []sight, error) {
	began := time.Now()
	k, err := e.contender(ctx, name, p.seed)
	if err != nil {
		return outcome{}, nil, err
	}
	if m, ok := k.(*mix); ok {
		m.half = p.half
	}
	train := e.log.train
	learnt := len(train)
	if c, ok := k.(*cf); ok {
		learnt *= c.epochs
		c.progress = func(done, total int) { e.deps.progress("learn "+name, done, total) }
	}
	if err := k.fit(ctx, train); err != nil {
		return outcome{}, nil, fmt.Errorf("learn train: %w", err)
	}
	if c, ok := k.(*cluster); ok && !p.learn { // what stands still has heard of everything
		if err := c.settle(); err != nil {
			return outcome{}, nil, fmt.Errorf("learn train: %w", err)
		}
	}
	e.deps.progress("learn "+name, learnt, learnt)
	top := 0
	if name == CF {
		top = e.RankLLM
	}
	rk := newRanker(e.universe, e.log, e.rows, e.RankRows, top)
	events := slices.Clone(e.log.held)
	for i := range e.rows {
		events = append(events, e.rows[i].Event)
	}
	step := "replay " + name
	if len(e.Freshness) > 0 {
		step += " (" + p.name() + ")"
	}
	seen, err := walk(ctx, k, events, walking{
		learn: p.learn, delay: p.delay, from: len(e.log.held), rk: rk, progress: func(done, total int) { e.deps.progress(step, done, total) },
	})
	if err != nil {
		return outcome{}, nil, fmt.Errorf("replay: %w", err)
	}
	e.timing.learnt += len(e.data.Train)
	if p.learn {
		e.timing.learnt += len(e.rows)
	}
	e.timing.learning += time.Since(began)
	silent := isList(name) || steered(name)
	o := outcome{gain: rk.gain, hit: rk.hit, ranks: rk.ranks, logit: !slices.Contains(counters, name) && !silent, silent: silent}
	o.score, o.alone = make([]float64, len(seen)), make([]float64, len(seen))
	for i := range seen {
		o.score[i], o.alone[i] = seen[i].score, seen[i].alone
	}
	if !o.logit { // counters know no user bias
		o.alone = nil
	}
	if e.RankRows == 0 {
		o.gain, o.hit, o.ranks = nil, nil, nil
	}
	return o, seen, nil
}

func (e *evaluation) contender(ctx context.Context, name string, seed uint64) (contender, error) {
	switch name {
	case Popularity, Recent:
		return newPopularity(e.universe, name, e.HalfLife), nil
	case ItemKNN:
		return newItemKNN(e.universe, e.KNNShrink), nil
	case EASE:
		return newEASE(e.universe, e.EASEPenalty, e.deps.progress), nil
	case Mix, Words, All, Cora, CoraShuffled:
		model, err := e.deps.NewRanker(name, e.log.task == TaskAll)
		if err != nil {
			return nil, fmt.Errorf("make the list model: %w", err)
		}
		items, err := e.coded(ctx, name)
		if err != nil {
			return nil, err
		}
		return newMix(name, model, items, e.deps.progress), nil
	}
	content, kind := contentOf(name), name
	if content == "" {
		content = e.Content
	} else {
		kind = CF
	}
	items, err := e.items(ctx, content)
	if err != nil {
		return nil, err
	}
	model, err := e.deps.NewModel(kind, seed)
	if err != nil {
		return nil, fmt.Errorf("make model %s: %w", kind, err)
	}
	shards := make([]*cf, e.Sharding.Shards)
	for i := range shards {
		if shards[i], err = newCF(model, items, e.universe, e.Epochs, e.History, e.Demand); err != nil {
			return nil, err
		}
	}
	if len(shards) == 1 {
		return shards[0], nil
	}
	return newCluster(e.Sharding, shards)
}

// coded is the catalogue with the item codes that a list model reads. CoraShuffled gets each code at an item drawn for it.
func (e *evaluation) coded(ctx context.Context, name string) ([]corastream.Item, error) {
	if !steered(name) {
		return e.data.Items, nil
	}
	codes, err := e.deps.Codes(ctx)
	if err != nil {
		return nil, fmt.Errorf("item codes: %w", err)
	}
	if len(codes) != len(e.data.Items) {
		return nil, fmt.Errorf("item codes: %d for %d items", len(codes), len(e.data.Items))
	}
	if name == CoraShuffled {
		codes = slices.Clone(codes)
		rand.New(rand.NewPCG(e.Config.Seed, 0xc0de)).Shuffle(len(codes), func(i, j int) { codes[i], codes[j] = codes[j], codes[i] })
	}
	items := slices.Clone(e.data.Items)
	for i := range items {
		items[i].Code = codes[i]
	}
	return items, nil
}

// items is the catalogue with one of the contents.
func (e *evaluation) items(ctx context.Context, content string) ([]corastream.Item, error) {
	if e.deps.Content == nil {
		return e.data.Items, nil
	}
	if items, ok := e.contents[content]; ok {
		return items, nil
	}
	vectors, err := e.deps.Content(ctx, content)
	if err != nil {
		return nil, fmt.Errorf("content %s: %w", content, err)
	}
	if len(vectors) != len(e.data.Items) {
		return nil, fmt.Errorf("content %s: %d vectors for %d items", content, len(vectors), len(e.data.Items))
	}
	items := slices.Clone(e.data.Items)
	for i := range items {
		items[i].Content = vectors[i]
	}
	e.contents[content] = items
	return items, nil
}

// onTop scores by a model that reads what CF saw.
func (e *evaluation) onTop(ctx context.Context, m string, seen []sight) (outcome, error) {
	switch m {
	case Reader:
		return e.reader(ctx, seen)
	case Stack:
		return e.stack(ctx, seen)
	}
	o, err := e.llm(ctx, m, seen)
	if strings.HasPrefix(m, Cora) {
		// Its score is distilled from z and lives on the same scale, so CF's b_u is what a user's own level is in it.
		o.alone = make([]float64, len(seen))
		for i := range seen {
			o.alone[i] = float64(seen[i].pair.User.Bias)
		}
	}
	return o, err
}
