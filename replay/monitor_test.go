package replay_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/replay"
)

// stream feeds a log to a pipeline's state and a Monitor, as Store.Commit does: pair, Observe, learn.
func stream(t *testing.T, m *replay.Monitor, s *corastream.Memory, cf replay.Model, events []corastream.Event) {
	t.Helper()
	for _, ev := range events {
		before, err := corastream.PairOf(s, cf, ev.User, ev.Item)
		if err != nil {
			t.Fatal(err)
		}
		u, err := s.User(ev.User)
		if err != nil {
			t.Fatal(err)
		}
		m.Observe(ev, before, u)
		if err := s.Apply(cf, ev); err != nil {
			t.Fatal(err)
		}
	}
}

type monitored struct {
	data    replay.Data
	state   *corastream.Memory
	cf      replay.Model
	deps    replay.MonitorDeps
	warned  []string
	monitor *replay.Monitor
}

func monitorOf(t *testing.T, c replay.MonitorConfig, change func(*replay.MonitorDeps)) *monitored {
	t.Helper()
	m := &monitored{data: makeLog(6, 3000), state: corastream.NewMemory()}
	title := map[string]string{}
	for _, it := range m.data.Items {
		m.state.Put(it)
		title[it.ID] = it.Title
	}
	var err error
	if m.cf, err = newModel(replay.CF, 0); err != nil {
		t.Fatal(err)
	}
	bias, err := newModel(replay.Bias, 0)
	if err != nil {
		t.Fatal(err)
	}
	m.deps = replay.MonitorDeps{
		Bias: bias, Generator: weigher{&[]int{}}, Scorer: scorerOf(m.data.Items),
		Prompt: func(item string) (corastream.Prompt, bool) {
			return corastream.Prompt{ItemID: item, Title: title[item]}, title[item] != ""
		},
		Warn: func(what string, err error) { m.warned = append(m.warned, what+": "+err.Error()) },
	}
	if change != nil {
		change(&m.deps)
	}
	if m.monitor, err = replay.NewMonitor(c, m.deps); err != nil {
		t.Fatal(err)
	}
	return m
}

func blocking() replay.MonitorConfig {
	c := replay.DefaultMonitor()
	c.Block, c.Queue, c.BatchRows, c.Window = true, 8, 7, 300
	return c
}

// TestMonitorJudgesTheLiveRowsOnWhatWasKnownBeforeThem: its figures are those of a plain loop over the same rows, after a backfill
// that teaches but is not judged.
func TestMonitorJudgesTheLiveRowsOnWhatWasKnownBeforeThem(t *testing.T) {
	m := monitorOf(t, blocking(), nil)
	stream(t, m.monitor, m.state, m.cf, m.data.Train)
	m.monitor.Start()
	stream(t, m.monitor, m.state, m.cf, m.data.Valid)
	if err := m.monitor.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	got := m.monitor.Figures()

	scores, labels := map[string][]float64{}, []bool{}
	for kind := range map[string]bool{replay.Bias: true, replay.CF: true} {
		model, err := newModel(kind, 0)
		if err != nil {
			t.Fatal(err)
		}
		s := corastream.NewMemory()
		for _, it := range m.data.Items {
			s.Put(it)
		}
		labels = labels[:0]
		for n, ev := range append(append([]corastream.Event{}, m.data.Train...), m.data.Valid...) {
			p, err := corastream.PairOf(s, model, ev.User, ev.Item)
			if err != nil {
				t.Fatal(err)
			}
			if n >= len(m.data.Train) {
				scores[kind], labels = append(scores[kind], float64(p.Logit())), append(labels, ev.Positive())
			}
			if err := s.Apply(model, ev); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got.Rows != int64(len(m.data.Valid)) || got.WindowRows != 300 || got.Dropped+got.Failed+got.Untitled+got.Skipped != 0 {
		t.Errorf("rows %+v", got)
	}
	for _, c := range []struct {
		name string
		all  replay.Number
		part replay.Number
		of   string
	}{{"bias", got.Bias, got.WindowBias, replay.Bias}, {"cf", got.CF, got.WindowCF, replay.CF}, {"cora", got.Cora, got.WindowCora, replay.CF}} {
		want := replay.AUC(scores[c.of], labels)
		if math.Abs(float64(c.all)-want) > 2e-4 { // the bins
			t.Errorf("%s: AUC %v, want %v", c.name, c.all, want)
		}
		from := len(labels) - 300
		if want := replay.AUC(scores[c.of][from:], labels[from:]); math.Abs(float64(c.part)-want) > 1e-4 { // cora's own rounding
			t.Errorf("%s: AUC of the window %v, want %v", c.name, c.part, want)
		}
	}
}

// gate is an LLM that waits.
type gate struct {
	scorer
	open chan struct{}
}

func (g gate) Score(ctx context.Context, p []corastream.Prompt, w []corastream.Weights, pr *corastream.Projection) ([]corastream.Logits, error) {
	select {
	case <-g.open:
		return g.scorer.Score(ctx, p, w, pr)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestSlowLLMNeverHoldsTheLogBack: Observe returns while the LLM stands still; what does not fit the queue is counted.
func TestSlowLLMNeverHoldsTheLogBack(t *testing.T) {
	c := replay.DefaultMonitor()
	c.Queue, c.BatchRows = 10, 5
	g := gate{open: make(chan struct{})}
	m := monitorOf(t, c, func(d *replay.MonitorDeps) { g.scorer = d.Scorer.(scorer); d.Scorer = g })
	m.monitor.Start()
	stream(t, m.monitor, m.state, m.cf, m.data.Valid) // would never return if it blocked
	dropped := m.monitor.Figures().Dropped
	if n := int64(len(m.data.Valid)); dropped < n-15 || dropped > n-10 {
		t.Errorf("%d of %d rows dropped, want all but the queue and one batch", dropped, n)
	}
	close(g.open)
	if err := m.monitor.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if f := m.monitor.Figures(); f.Rows+f.Dropped != int64(len(m.data.Valid)) || f.Waiting != 0 {
		t.Errorf("rows are missing: %+v", f)
	}
}

func TestMonitorClosesWhileTheLLMHangs(t *testing.T) {
	g := gate{open: make(chan struct{})}
	m := monitorOf(t, replay.DefaultMonitor(), func(d *replay.MonitorDeps) { d.Scorer = g })
	m.monitor.Start()
	stream(t, m.monitor, m.state, m.cf, m.data.Valid[:3])
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := m.monitor.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if f := m.monitor.Figures(); f.Failed != 3 || f.Rows != 0 {
		t.Errorf("figures %+v", f)
	}
}

// flaky fails every other batch.
type flaky struct {
	scorer
	n *atomic.Int64
}

func (f flaky) Score(ctx context.Context, p []corastream.Prompt, w []corastream.Weights, pr *corastream.Projection) ([]corastream.Logits, error) {
	if f.n.Add(1)%2 == 0 {
		return nil, errors.New("out of luck")
	}
	return f.scorer.Score(ctx, p, w, pr)
}

// TestRowsThatCoraCanNotScoreAreLeftOutOfAllModels: failed batches, untitled items, repeated and implicit events.
func TestRowsThatCoraCanNotScoreAreLeftOutOfAllModels(t *testing.T) {
	m := monitorOf(t, blocking(), func(d *replay.MonitorDeps) {
		d.Scorer = flaky{d.Scorer.(scorer), &atomic.Int64{}}
		prompt := d.Prompt
		d.Prompt = func(item string) (corastream.Prompt, bool) {
			p, ok := prompt(item)
			return p, ok && !strings.HasSuffix(item, "7")
		}
	})
	m.monitor.Start()
	events := append([]corastream.Event{}, m.data.Valid...)
	implicit := int64(0)
	for i := range events {
		if i%10 == 0 {
			events[i].Implicit, events[i].Label = true, 1
			implicit++
		}
	}
	stream(t, m.monitor, m.state, m.cf, events)
	stream(t, m.monitor, m.state, m.cf, events[len(events)-20:]) // a transaction is tried again
	if err := m.monitor.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	f := m.monitor.Figures()
	if f.Skipped != implicit+20 || f.Rows+f.Failed+f.Untitled+implicit != int64(len(events)) || f.Failed == 0 || f.Untitled == 0 || f.Rows == 0 {
		t.Errorf("figures %+v", f)
	}
	if len(m.warned) == 0 || !strings.Contains(m.warned[0], "out of luck") {
		t.Errorf("warned of %q", m.warned)
	}
}

func TestMonitorWithoutAnLLMJudgesBiasAndCF(t *testing.T) {
	m := monitorOf(t, blocking(), func(d *replay.MonitorDeps) { d.Generator, d.Scorer, d.Prompt = nil, nil, nil })
	m.monitor.Start()
	stream(t, m.monitor, m.state, m.cf, m.data.Valid)
	if err := m.monitor.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	f := m.monitor.Figures()
	if !(f.Bias > 0.5 && f.CF > 0.5) || f.Cora == f.Cora || f.WindowCora == f.WindowCora {
		t.Errorf("figures %+v", f)
	}
}

func TestBadMonitorConfigNamesItsKey(t *testing.T) {
	for key, c := range map[string]replay.MonitorConfig{
		"queue": {BatchRows: 1, Window: 10}, "batch_rows": {Queue: 1, Window: 10}, "window": {Queue: 1, BatchRows: 1},
	} {
		if _, err := replay.NewMonitor(c, replay.MonitorDeps{}); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", key, err)
		}
	}
	if _, err := replay.NewMonitor(replay.DefaultMonitor(), replay.MonitorDeps{}); err == nil {
		t.Error("a monitor without a yardstick was made")
	}
}
