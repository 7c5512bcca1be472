package mix

import (
	"strings"
	"sync"
	"time"

	"github.com/corastream/corastream"
)

// Model implements corastream.Derived. Safe for concurrent use: Ranks run beside each other,
// learning runs alone.
//
// mu is held by Learn and Describe to write and by Rank and Save to read. The store calls Learn
// inside a commit, so a Rank that takes long holds the log up. Under mu Learn may wait for a
// goroutine of its own (ease.go, llm.go), which takes no lock.
type Model struct {
	spec Spec

	mu      sync.RWMutex
	number  map[string]int32
	items   []item
	sources []source
	weights weights
	covisit *covisit
	popular *popularity
	content *content
	quality *quality
	vectors *vectors
	labels  *labels
	steer   *steer // nil where the spec leaves it out

	events    int64 // learnt
	likes     int64
	repeats   int64  // likes of items that the user had had
	draws     uint64 // the state of the generator that draws uniform others
	described int
	scratch   sync.Pool
	asking    *ask // Learn's own
}

// item is what all sources share of an item.
type item struct {
	id        string
	described bool // it is in the catalogue
	gone      bool // withdrawn or removed
}

// source is a retrieval source. Its methods are called in the order find, fill for each query, under the model's lock; they keep
// what they need of one query in the ask.
type source interface {
	// name is what a Candidate's Source says, and features how many rows of the table fill writes, by name.
	name() string
	features() []string
	// grow makes room for items up to n.
	grow(n int)
	// find adds candidates.
	find(q *ask)
	// fill writes the features of the candidates in q.pick: f[k][i] is feature k of candidate q.pick[i].
	fill(q *ask, f [][]float32)
	// learn takes in an event.
	learn(e *event)
	// from names the item of the history that speaks most for candidate c, -1 when there is none.
	from(q *ask, c int) int32
	// code writes or reads the source's state.
	code(c *coder)
}

// event is a Step in numbers.
type event struct {
	item     int32
	positive bool
	met      bool
	at       float64 // seconds
	repeats  bool    // whether repeats are listed at this moment
	past     []past  // newest first
	labels   []int32 // of the user
}

// past is one of a user's last events.
type past struct {
	item  int32
	liked bool
	at    float64
}

// New returns an empty model.
func New(spec Spec) (*Model, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	m := &Model{spec: spec}
	m.reset()
	return m, nil
}

func (m *Model) reset() {
	m.number, m.items = map[string]int32{}, nil
	m.events, m.likes, m.repeats, m.draws, m.described = 0, 0, 0, 11, 0
	m.covisit, m.popular, m.content, m.quality = newCovisit(m), newPopularity(m), newContent(m), newQuality(m)
	m.vectors = newVectors(m)
	m.sources = []source{m.covisit, m.popular, m.quality, newOwn(), m.content, m.vectors}
	if m.spec.Factors > 0 {
		m.sources = append(m.sources, newSequence(m))
	}
	if m.spec.EASEItems > 0 {
		m.sources = append(m.sources, newEASE(m))
	}
	m.steer = nil
	if m.spec.Codes > 0 {
		m.steer = newSteer(m)
		m.sources = append(m.sources, m.steer)
	}
	m.labels = newLabels(m)
	m.sources = append(m.sources, m.labels) // the last: where there are none, it adds zeros to sums that are made
	var names []string
	for _, s := range m.sources {
		names = append(names, s.features()...)
	}
	m.weights = newWeights(names)
	m.scratch = sync.Pool{New: func() any { return new(ask) }}
	m.asking = new(ask)
}

// Spec is what the model was made of.
func (m *Model) Spec() Spec { return m.spec }

// Window implements corastream.Ranker.
func (m *Model) Window() int { return window }

// window is how much of a history is read: likes for the linear autoencoder, and what has been met. Spec.History of it is paired.
const window = 200

// Repeats says whether items that the user has had are listed at this moment.
func (m *Model) Repeats() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.lists()
}

// repeatsFrom is how many likes auto needs to have seen.
const repeatsFrom = 50

func (m *Model) lists() bool {
	switch m.spec.Repeats {
	case RepeatsYes:
		return true
	case RepeatsNo:
		return false
	}
	return m.likes >= repeatsFrom && m.repeats*10 >= m.likes
}

// of is the item's number, made when it is new.
func (m *Model) of(id string) int32 {
	if n, ok := m.number[id]; ok {
		return n
	}
	n := int32(len(m.items))
	id = strings.Clone(id) // the caller's string may hold on to a whole record
	m.number[id] = n
	m.items = append(m.items, item{id: id})
	for _, s := range m.sources {
		s.grow(int(n) + 1)
	}
	return n
}

// Describe implements corastream.Ranker.
func (m *Model) Describe(it corastream.Item) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.of(it.ID)
	if !m.items[n].described {
		m.items[n].described = true
		m.described++
	}
	m.items[n].gone = it.Withdrawn || it.Removed
	m.content.describe(n, it.Title, m.content.fields(it))
	m.vectors.describe(n, it.Fields[corastream.FieldEmbedding], it.Removed)
	if m.steer != nil {
		m.steer.describe(n, it.Code, it.Removed)
	}
}

// Learn implements corastream.Ranker: the weights first, with what was known before the event, then every source.
func (m *Model) Learn(st corastream.Step) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.asking
	e := event{item: m.of(st.Item), positive: st.Positive, met: st.Met, at: seconds(st.Time), repeats: m.lists()}
	e.past = q.past[:0]
	for _, h := range st.Recent[:min(len(st.Recent), window)] {
		e.past = append(e.past, past{item: m.of(h.Item), liked: h.Label >= 0.5, at: seconds(h.Time)})
	}
	q.past = e.past
	q.labels = m.labels.of(q.labels, st.Labels, !st.Retract && st.Positive)
	e.labels = q.labels
	if st.Retract {
		m.takeBack(&e, st.Likes)
		return
	}
	if e.positive && (!e.met || e.repeats) && m.weights.due(m.likes) {
		m.teach(q, &e)
	}
	for _, s := range m.sources {
		s.learn(&e)
	}
	m.events++
	if e.positive {
		m.likes++
		if e.met {
			m.repeats++
		}
	}
}

// undoer is a source that can take back what an event taught it: e.past[k], whose own past was e.past[k+1:].
type undoer interface{ undo(e *event, k int) }

// takeBack undoes the events with e's item among the user's last ones, the newest first. The sums of pairs, the counts of likes and
// the share of likes are undone as far as they still hold them; what the weights, the sequence factors and the linear autoencoder
// learnt stays, and so does what lies further back than the window.
func (m *Model) takeBack(e *event, likes bool) {
	for k, p := range e.past {
		if p.item != e.item || p.at > e.at || likes && !p.liked {
			continue
		}
		for _, s := range m.sources {
			if s, ok := s.(undoer); ok {
				s.undo(e, k)
			}
		}
	}
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixNano()) / 1e9
}
