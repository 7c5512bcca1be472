package replay

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/corastream/corastream"
)

// MonitorConfig bounds a Monitor.
type MonitorConfig struct {
	// Queue is how many observed rows may wait for the LLM. Default 4096, range 1..1048576.
	Queue int `yaml:"queue"`
	// BatchRows is how many rows one call of generator and LLM scores. Default 32, range 1..4096.
	BatchRows int `yaml:"batch_rows"`
	// Window is the number of last rows in the windowed figures. Default 500, range 10..100000.
	Window int `yaml:"window"`
	// Block makes Observe wait for room instead of dropping the row: every row is then counted, and the LLM's pace holds
	// the log back. For demonstrations and tests. Default false.
	Block bool `yaml:"block"`
	// ListsPerS is up to how many likes a second are judged by the list made just before them; beyond it likes pass unjudged.
	// Default 50, range 0..100000; 0 judges none.
	ListsPerS int `yaml:"lists_per_s"`
	// LateEvents is how many events may wait for the list model that learns an hour late. Where an hour of the log has more, it
	// is less late. Default 262144, range 1..16777216.
	LateEvents int `yaml:"late_events"`
}

// DefaultMonitor returns the defaults above.
func DefaultMonitor() MonitorConfig {
	return MonitorConfig{Queue: 4096, BatchRows: 32, Window: 500, ListsPerS: 50, LateEvents: 1 << 18}
}

// Validate reports the first key that is out of range.
func (c MonitorConfig) Validate() error {
	for _, err := range []error{
		inRange("queue", float64(c.Queue), 1, 1<<20), inRange("batch_rows", float64(c.BatchRows), 1, 4096),
		inRange("window", float64(c.Window), 10, 100000), inRange("lists_per_s", float64(c.ListsPerS), 0, 100000),
		inRange("late_events", float64(c.LateEvents), 1, 1<<24),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// MonitorDeps are the stages a Monitor asks.
type MonitorDeps struct {
	// Bias is a model of kind Bias: the yardstick learns beside the pipeline, in a state of its own.
	Bias Model
	// Generator and Scorer make cora's scores; with either nil only bias and cf are judged.
	Generator corastream.Generator
	Scorer    corastream.Scorer
	// Prompt of an item; false when the item has no title yet, and the row is then left out. It is called from the
	// Monitor's own goroutine and must not wait for the pipeline's transaction: with Block that would be a deadlock.
	Prompt func(item string) (corastream.Prompt, bool)
	// Ranker serves the lists that are judged; nil: none are. It is asked within Observe, so before the event can reach it.
	Ranker corastream.Ranker
	// NewRanker makes an empty one of its kind, for the shadow that learns an hour late; nil: there is no shadow.
	NewRanker func() (corastream.Ranker, error)
	// Likes are those of before, by item, for the list of what most people like; may be nil.
	Likes map[string]int
	// Warn hears of a failed batch; may be nil.
	Warn func(what string, err error)
}

// Running are a Monitor's figures. The AUCs of all models are over the same rows; NaN until both labels occurred.
type Running struct {
	Rows       int64  `json:"rows"` // rows judged
	Bias       Number `json:"bias"`
	CF         Number `json:"cf"`
	Cora       Number `json:"cora"`
	WindowRows int    `json:"window_rows"`
	WindowBias Number `json:"window_bias"`
	WindowCF   Number `json:"window_cf"`
	WindowCora Number `json:"window_cora"`
	Waiting    int    `json:"waiting"`  // rows in the queue
	Dropped    int64  `json:"dropped"`  // rows left out because the queue was full
	Untitled   int64  `json:"untitled"` // rows left out because their item had no title yet
	Failed     int64  `json:"failed"`   // rows left out because the LLM or the yardstick failed
	Skipped    int64  `json:"skipped"`  // events seen before (a retried transaction), and implicit ones: no label to judge by
	Hits       Hits   `json:"hits10"`
}

// Monitor is a running prequential evaluation of the live stream: each event is judged on what was
// known before it was learnt. It implements corastream.Monitor. Memory is bounded but for the
// yardstick's two numbers per user and item, and the late list model, which bounds its own.
//
// Observe runs inside the store's commit and therefore only gathers: the pair as it is now, and the
// yardstick's score. The LLM's score is made by the Monitor's goroutine, which takes rows from the
// queue. The row carries the pair from before the event, so the score knows nothing later, whenever
// it is made. mu guards the figures alone and is a leaf.
type Monitor struct {
	config MonitorConfig
	deps   MonitorDeps
	on     atomic.Bool
	onList atomic.Bool
	lists  *lists // nil: there is no Ranker
	queue  chan observed
	done   chan struct{}
	cancel context.CancelFunc

	bias *corastream.Memory // Observe's alone
	last map[corastream.Partition]int64

	dropped, untitled, failed, left atomic.Int64

	mu     sync.Mutex
	all    [3]histogram
	window [3][]float64
	labels []bool // of the window, a ring
	rows   int64
}

type observed struct {
	pair     corastream.Pair
	bias     float64
	positive bool
}

// NewMonitor starts the Monitor's goroutine; Close ends it. Nothing is judged before Start.
func NewMonitor(c MonitorConfig, d MonitorDeps) (*Monitor, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if d.Bias == nil || d.Scorer != nil && d.Generator != nil && d.Prompt == nil {
		return nil, fmt.Errorf("monitor: needs a bias model, and prompts where there is an LLM")
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &Monitor{
		config: c, deps: d, cancel: cancel, queue: make(chan observed, c.Queue), done: make(chan struct{}),
		bias: corastream.NewMemory(), last: map[corastream.Partition]int64{},
	}
	for i := range m.all {
		m.all[i] = newHistogram()
	}
	var err error
	if m.lists, err = newLists(c, d); err != nil {
		cancel()
		return nil, err
	}
	go func() {
		defer close(m.done)
		m.scoreQueue(ctx)
	}()
	return m, nil
}

// Start switches judging on: what came before (a backfill) only taught the yardstick.
func (m *Monitor) Start() {
	m.StartLists()
	m.on.Store(true)
}

// StartLists switches on the judging of lists alone, which needs no LLM.
func (m *Monitor) StartLists() { m.onList.Store(true) }

// Describe tells the late list model of a catalogue record. It may be called at any time.
func (m *Monitor) Describe(it corastream.Item) {
	if m.lists != nil && m.lists.shadow != nil {
		m.lists.shadow.Describe(it)
	}
}

// Observe implements corastream.Monitor: it is called by the learner alone, just before ev is
// learnt.
//
// A commit that failed is tried again with the same events, so each partition's last offset is kept
// and repeats are left out. A full queue drops the row (unless Block is set): the figures then rest
// on fewer rows, and the log is not held back.
func (m *Monitor) Observe(ev corastream.Event, before corastream.Pair, user *corastream.UserState) {
	at := corastream.Partition{Topic: ev.Pos.Topic, ID: ev.Pos.Partition}
	if last, ok := m.last[at]; ok && ev.Pos.Offset <= last {
		m.left.Add(1)
		return
	}
	m.last[at] = ev.Pos.Offset
	if ev.Retract { // nothing to guess
		if m.lists != nil {
			m.lists.takeBack(ev)
		}
		if err := m.deps.Bias.Learn(m.bias, ev); err != nil {
			m.warn("learn the yardstick", err)
			m.failed.Add(1)
		}
		m.left.Add(1)
		return
	}
	if m.lists != nil {
		m.lists.observe(ev, user, before.User, m.onList.Load())
	}
	pair, err := corastream.PairOf(m.bias, m.deps.Bias, ev.User, ev.Item)
	if err == nil {
		err = m.deps.Bias.Learn(m.bias, ev)
	}
	if err != nil {
		m.warn("learn the yardstick", err)
		m.failed.Add(1)
		return
	}
	if !m.on.Load() {
		return
	}
	if ev.Implicit {
		m.left.Add(1)
		return
	}
	o := observed{pair: before, bias: float64(pair.Logit()), positive: ev.Positive()}
	if m.config.Block {
		m.queue <- o
		return
	}
	select {
	case m.queue <- o:
	default:
		m.dropped.Add(1)
	}
}

// Close judges what waits, then ends the goroutine; ctx bounds the wait. Observe must not be called
// afterwards, since the queue is closed. When ctx ends first, the goroutine's context is cancelled:
// what is left in the queue then fails at once, and Close still waits for the goroutine to return.
func (m *Monitor) Close(ctx context.Context) error {
	close(m.queue)
	defer m.cancel()
	ended := make(chan struct{})
	if m.lists != nil {
		close(m.lists.queue)
	}
	go func() {
		defer close(ended)
		<-m.done
		if m.lists != nil {
			<-m.lists.done
		}
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		m.cancel()
		<-ended
		return fmt.Errorf("close monitor: %w", context.Cause(ctx))
	}
}

// scoreQueue takes batches off the queue until it is closed and empty. A batch is whatever waits,
// up to BatchRows, so a lone row is judged at once.
func (m *Monitor) scoreQueue(ctx context.Context) {
	batch := make([]observed, 0, m.config.BatchRows)
	for first := range m.queue {
		batch = append(batch[:0], first)
		for more := true; more && len(batch) < m.config.BatchRows; {
			select {
			case o, ok := <-m.queue:
				if more = ok; ok {
					batch = append(batch, o)
				}
			default:
				more = false
			}
		}
		m.scoreRows(ctx, batch)
	}
}

func (m *Monitor) scoreRows(ctx context.Context, batch []observed) {
	if m.deps.Generator == nil || m.deps.Scorer == nil {
		for _, o := range batch {
			m.count(o, float64(o.pair.Logit()), 0)
		}
		return
	}
	rows := make([]observed, 0, len(batch))
	pairs, prompts := make([]corastream.Pair, 0, len(batch)), make([]corastream.Prompt, 0, len(batch))
	for _, o := range batch {
		prompt, ok := m.deps.Prompt(o.pair.ItemID)
		if !ok {
			m.untitled.Add(1)
			continue
		}
		rows, pairs, prompts = append(rows, o), append(pairs, o.pair), append(prompts, prompt)
	}
	if len(rows) == 0 {
		return
	}
	cora, err := scoreBatch(ctx, m.deps.Generator, m.deps.Scorer, pairs, prompts)
	if err != nil {
		m.failed.Add(int64(len(rows)))
		m.warn(fmt.Sprintf("judge %d rows", len(rows)), err)
		return
	}
	for i, o := range rows {
		m.count(o, float64(o.pair.Logit()), cora[i])
	}
}

// count adds one judged row to the figures over all rows and over the window.
func (m *Monitor) count(o observed, cf, cora float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := int(m.rows % int64(m.config.Window))
	fresh := len(m.labels) < m.config.Window
	if fresh {
		m.labels = append(m.labels, o.positive)
	} else {
		m.labels[at] = o.positive
	}
	for i, z := range [3]float64{o.bias, cf, cora} {
		m.all[i].add(z, o.positive)
		if fresh {
			m.window[i] = append(m.window[i], z)
		} else {
			m.window[i][at] = z
		}
	}
	m.rows++
}

// Figures so far; safe to call at any time.
func (m *Monitor) Figures() Running {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := Running{
		Rows: m.rows, Bias: Number(m.all[0].auc()), CF: Number(m.all[1].auc()), Cora: Number(m.all[2].auc()),
		WindowRows: len(m.labels), WindowBias: Number(AUC(m.window[0], m.labels)),
		WindowCF: Number(AUC(m.window[1], m.labels)), WindowCora: Number(AUC(m.window[2], m.labels)),
		Dropped: m.dropped.Load(), Untitled: m.untitled.Load(), Failed: m.failed.Load(), Waiting: len(m.queue),
		Skipped: m.left.Load(), Hits: m.lists.figures(),
	}
	if m.deps.Generator == nil || m.deps.Scorer == nil {
		r.Cora, r.WindowCora = nan, nan
	}
	return r
}

func (m *Monitor) warn(what string, err error) {
	if m.deps.Warn != nil {
		m.deps.Warn(what, err)
	}
}
