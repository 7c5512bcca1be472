package replay

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/corastream/corastream"
)

// The lists that a Monitor judges have hitsAt items, and the late one is made from what was known lateBy of event time ago.
const (
	hitsAt = 10
	lateBy = time.Hour
)

// Hits are the running shares of likes whose item stood among the first 10 of a list made just before (HR@10), all over the
// same rows. NaN where nothing was judged.
type Hits struct {
	Rows       int64  `json:"rows"`       // likes judged
	Mix        Number `json:"mix"`        // the Ranker's lists, as served
	Popularity Number `json:"popularity"` // what most people have liked
	Late       Number `json:"late"`       // the same Ranker, model and history of the user an hour late
	WindowRows int    `json:"window_rows"`
	WindowMix  Number `json:"window_mix"`
	WindowPop  Number `json:"window_popularity"`
	WindowLate Number `json:"window_late"`
	Passed     int64  `json:"passed"`  // likes not judged, because ListsPerS were
	Dropped    int64  `json:"dropped"` // events that the shadow did not learn, because the queue was full
	Early      int64  `json:"early"`   // events that the shadow learnt less than an hour late, because LateEvents waited
}

// lists judges what a Ranker would have listed just before each like. The Ranker itself is asked in
// observe, before the event can reach it. The late shadow and the count of likes belong to the
// goroutine, which gets every event over the queue, in order.
//
// The late shadow is a second list model that learns each event an hour of the log's time after it
// happened. Its distance to the Ranker is what freshness is worth on this very stream. mu guards
// the figures and is a leaf.
type lists struct {
	config MonitorConfig
	ranker corastream.Ranker
	shadow corastream.Ranker // nil: none
	queue  chan listRow
	done   chan struct{}

	tails map[string][]corastream.Interaction // observe's alone: the last events of some users, oldest first
	next  time.Time                           // the same: no list is judged before it

	likes   *mostLiked // the goroutine's alone
	waiting []listRow  // the same: not learnt by the shadow yet, oldest first
	newest  time.Time  // the same: the highest event time so far

	mu     sync.Mutex
	rows   int64
	hits   [3]int64  // mix, popularity, late
	window [][3]bool // the last rows, a ring

	passed, dropped, early int64
}

// listRow is one event on its way to the shadow.
type listRow struct {
	item     string
	positive bool
	met      bool
	at       time.Time
	before   []corastream.Interaction // the user's last events, oldest first
	judged   bool
	mix      bool // the Ranker's list had the item
	user     corastream.Embedding
	labels   []string
	skip     map[string]bool
	repeats  bool
}

// tailUsers bounds tails: so many users' last events are kept at hand, some KB each.
const tailUsers = 4096

func newLists(c MonitorConfig, d MonitorDeps) (*lists, error) {
	if d.Ranker == nil || c.ListsPerS == 0 {
		return nil, nil
	}
	l := &lists{
		config: c, ranker: d.Ranker, queue: make(chan listRow, c.Queue), done: make(chan struct{}),
		tails: map[string][]corastream.Interaction{}, likes: newMostLiked(d.Likes),
	}
	if d.NewRanker != nil {
		var err error
		if l.shadow, err = d.NewRanker(); err != nil {
			return nil, fmt.Errorf("monitor: make the late list model: %w", err)
		}
		if err := copyState(l.shadow, d.Ranker); err != nil {
			return nil, fmt.Errorf("monitor: copy the list model: %w", err)
		}
	}
	go func() {
		defer close(l.done)
		for row := range l.queue {
			l.take(row)
		}
	}()
	return l, nil
}

// copyState brings a shadow to what the Ranker knows from before this process, where both can be written and read.
func copyState(to, from corastream.Ranker) error {
	dst, ok := to.(corastream.Derived)
	src, ok2 := from.(corastream.Derived)
	if !ok || !ok2 {
		return nil
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(src.Save(w)) }()
	err := dst.Load(r)
	r.CloseWithError(err)
	return err
}

// observe is called by the learner alone, just before ev is learnt. It asks the Ranker for a list now and then, a twentieth of
// the time at most.
func (l *lists) observe(ev corastream.Event, user *corastream.UserState, embedding corastream.Embedding, judge bool) {
	row := listRow{item: ev.Item, positive: ev.Positive(), at: ev.Time, before: l.tail(ev, user), labels: user.Labels}
	row.met = slices.ContainsFunc(user.History, func(h corastream.Interaction) bool { return h.Item == ev.Item })
	if judge && row.positive {
		l.judge(&row, user, embedding)
	}
	if l.config.Block {
		l.queue <- row
		return
	}
	select {
	case l.queue <- row:
	default:
		l.mu.Lock()
		l.dropped++
		l.mu.Unlock()
	}
}

// judge asks the Ranker, unless the item can not be listed or enough lists were judged of late. It
// runs inside a commit, so the pause to the next list is at least twenty times what this one took.
func (l *lists) judge(row *listRow, user *corastream.UserState, embedding corastream.Embedding) {
	began := time.Now()
	if !l.config.Block && began.Before(l.next) {
		l.mu.Lock()
		l.passed++
		l.mu.Unlock()
		return
	}
	r, ok := l.ranker.(corastream.Repeater)
	var again bool
	if row.skip, again = corastream.Unseen(user.History, ok && r.Repeats()); row.skip[row.item] {
		return
	}
	row.judged, row.user, row.repeats = true, embedding, again
	row.mix = has(l.ranker.Rank(row.query(newestFirst(row.before))), row.item)
	l.next = began.Add(max(time.Second/time.Duration(l.config.ListsPerS), 20*time.Since(began)))
}

func (row *listRow) query(recent []corastream.Interaction) corastream.Query {
	return corastream.Query{
		User: row.user, Recent: recent, Labels: row.labels, Now: row.at, N: hitsAt, Repeats: row.repeats,
		Skip: func(id string) bool { return row.skip[id] },
	}
}

// tail gives the user's last events and notes ev behind them. Steps of one user share memory: each event of a user adds one
// interaction, and none is ever written over.
func (l *lists) tail(ev corastream.Event, user *corastream.UserState) []corastream.Interaction {
	width := l.ranker.Window()
	t, ok := l.tails[ev.User]
	n := len(user.History)
	same := ok && n > 0 && len(t) > 0 && t[len(t)-1].Item == user.History[n-1].Item && t[len(t)-1].Time.Equal(user.History[n-1].Time)
	if !same || len(t) >= 4*width+16 {
		t = append(make([]corastream.Interaction, 0, min(n, width)+8), user.History[n-min(n, width):]...)
	}
	if !ok && len(l.tails) >= tailUsers {
		clear(l.tails)
	}
	if ev.Opposes() && slices.ContainsFunc(t, ev.TakesBack) {
		defer l.takeBack(ev)
	}
	l.tails[ev.User] = append(t, corastream.Interaction{Item: ev.Item, Label: ev.Label, Time: ev.Time, Shown: ev.Shown()})
	return t[len(t)-min(len(t), width) : len(t) : len(t)]
}

// takeBack forgets the user's tail: it is read from the history again, which then lacks what ev takes back.
func (l *lists) takeBack(ev corastream.Event) { delete(l.tails, ev.User) }

func newestFirst(history []corastream.Interaction) []corastream.Interaction {
	out := slices.Clone(history)
	slices.Reverse(out)
	return out
}

func has(list []corastream.Candidate, item string) bool {
	return slices.ContainsFunc(list, func(c corastream.Candidate) bool { return c.Item == item })
}

// take judges one row by the shadow and by the count of likes, and then lets both learn: the count
// at once, the shadow once the log is an hour further. The shadow sees the user's history of an
// hour ago as well, since a late model would not know more of the user than of anything else.
func (l *lists) take(row listRow) {
	if row.at.After(l.newest) {
		l.newest = row.at
	}
	for len(l.waiting) > 0 && !l.waiting[0].at.After(l.newest.Add(-lateBy)) {
		l.learn()
	}
	if row.judged {
		hit := [3]bool{row.mix, slices.Contains(l.likes.top(hitsAt, row.skip), row.item), false}
		if l.shadow != nil {
			known := slices.DeleteFunc(newestFirst(row.before), func(h corastream.Interaction) bool {
				return h.Time.After(row.at.Add(-lateBy))
			})
			hit[2] = has(l.shadow.Rank(row.query(known)), row.item)
		}
		l.count(hit)
	}
	if row.positive {
		l.likes.add(row.item)
	}
	if l.shadow == nil {
		return
	}
	row.skip, row.user = nil, corastream.Embedding{}
	if l.waiting = append(l.waiting, row); len(l.waiting) > l.config.LateEvents {
		l.learn()
		l.mu.Lock()
		l.early++
		l.mu.Unlock()
	}
}

// learn teaches the shadow the event that waited longest.
func (l *lists) learn() {
	row := l.waiting[0]
	l.waiting[0] = listRow{}
	l.waiting = l.waiting[1:]
	l.shadow.Learn(corastream.Step{
		Item: row.item, Positive: row.positive, Met: row.met, Time: row.at, Recent: newestFirst(row.before), Labels: row.labels,
	})
}

func (l *lists) count(hit [3]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, on := range hit {
		if on {
			l.hits[i]++
		}
	}
	if len(l.window) < l.config.Window {
		l.window = append(l.window, hit)
	} else {
		l.window[l.rows%int64(l.config.Window)] = hit
	}
	l.rows++
}

func (l *lists) figures() Hits {
	if l == nil {
		return Hits{Mix: nan, Popularity: nan, Late: nan, WindowMix: nan, WindowPop: nan, WindowLate: nan}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	share := func(n, of int64) Number {
		if of == 0 {
			return nan
		}
		return Number(float64(n) / float64(of))
	}
	var last [3]int64
	for _, hit := range l.window {
		for i, on := range hit {
			if on {
				last[i]++
			}
		}
	}
	n := int64(len(l.window))
	h := Hits{
		Rows: l.rows, Mix: share(l.hits[0], l.rows), Popularity: share(l.hits[1], l.rows), Late: share(l.hits[2], l.rows),
		WindowRows: int(n), WindowMix: share(last[0], n), WindowPop: share(last[1], n), WindowLate: share(last[2], n),
		Passed: l.passed, Dropped: l.dropped, Early: l.early,
	}
	if l.shadow == nil {
		h.Late, h.WindowLate = nan, nan
	}
	return h
}

// mostLiked keeps items in the order of their likes, most first. An item that overtakes changes places with the first of those
// it was level with, so adding a like takes constant time.
type mostLiked struct {
	order []string
	count []int
	at    map[string]int
	first map[int]int // likes -> the first place with so many
}

func newMostLiked(likes map[string]int) *mostLiked {
	m := &mostLiked{at: make(map[string]int, len(likes)), first: map[int]int{}}
	for id, n := range likes {
		if n > 0 {
			m.order = append(m.order, id)
		}
	}
	slices.SortFunc(m.order, func(a, b string) int {
		if likes[a] != likes[b] {
			return likes[b] - likes[a]
		}
		if a < b {
			return -1
		}
		return 1
	})
	for i, id := range m.order {
		m.count = append(m.count, likes[id])
		m.at[id] = i
		if _, ok := m.first[likes[id]]; !ok {
			m.first[likes[id]] = i
		}
	}
	return m
}

func (m *mostLiked) add(id string) {
	i, ok := m.at[id]
	if !ok {
		i = len(m.order)
		m.order, m.count, m.at[id] = append(m.order, id), append(m.count, 0), i
		m.first[0] = i
	}
	n := m.count[i]
	j := m.first[n]
	m.order[i], m.order[j] = m.order[j], m.order[i]
	m.at[m.order[i]], m.at[id] = i, j
	m.count[j] = n + 1
	if j+1 < len(m.order) && m.count[j+1] == n {
		m.first[n] = j + 1
	} else {
		delete(m.first, n)
	}
	if _, ok := m.first[n+1]; !ok {
		m.first[n+1] = j
	}
}

// top are the first n that skip does not name.
func (m *mostLiked) top(n int, skip map[string]bool) []string {
	out := make([]string, 0, n)
	for _, id := range m.order {
		if len(out) == n {
			break
		}
		if !skip[id] {
			out = append(out, id)
		}
	}
	return out
}
