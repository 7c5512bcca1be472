package replay

import (
	"slices"
	"time"

	"github.com/corastream/corastream"
)

// The tasks of the next-item figures. In TaskUnseen a positive row whose item its user met before is no row, and the others are
// ranked among the items that their user has not met. In TaskAll every positive is a row, ranked among all items. TaskAuto is TaskAll
// where at least repeatsForAll of the log's positives repeat an item of their user.
const (
	TaskAuto   = "auto"
	TaskUnseen = "unseen"
	TaskAll    = "all"
)

const repeatsForAll = 0.1

// chronicle is what the log alone says, whatever a model makes of it: who had met which item, and which rows a task asks about.
type chronicle struct {
	task    string
	repeats float64          // share of the log's positives that repeat an item of their user
	users   map[string]int32 // by number
	// train is what is learnt before the walk begins, held the last of train's events: from the first one on whose user has a scored
	// row at that very time. The walk goes through them first, so that rows of one user and time stay together.
	train, held []corastream.Event
	met         [][]int32 // by user: the items of `train`, each once
}

// asks says whether a row is one that the task asks about.
func (c *chronicle) asks(r *row) bool { return r.Positive() && (c.task == TaskAll || !r.met) }

// metBefore is a copy that a ranker may add to.
func (c *chronicle) metBefore() [][]int32 {
	out := make([][]int32, len(c.met))
	for u := range out {
		out[u] = slices.Clip(c.met[u])
	}
	return out
}

// newChronicle reads the log once, moment by moment, and completes its rows: what came before each of them, ties left out.
func newChronicle(task string, train []corastream.Event, rows []row, u *universe) *chronicle {
	c := &chronicle{task: task, users: map[string]int32{}, train: train}
	c.hold(rows)
	events := make([]corastream.Event, 0, len(train)+len(rows))
	events = append(events, train...)
	for i := range rows {
		events = append(events, rows[i].Event)
	}
	type pair struct{ user, item int32 }
	items := map[string]int32{}
	met := map[pair]bool{}
	var ofUser, ofItem []int
	var positives, repeats int
	dayStamped := true
	order, ends := moments(events)
	start := int32(0)
	for _, end := range ends {
		moment := order[start:end]
		start = end
		first := events[moment[0]]
		dayStamped = dayStamped && first.Time.UnixMilli()%(24*time.Hour).Milliseconds() == 0
		user := number(c.users, first.User)
		if int(user) == len(ofUser) {
			ofUser = append(ofUser, 0)
		}
		for k, at := range moment {
			ev := events[at]
			item := number(items, ev.Item)
			if int(item) == len(ofItem) {
				ofItem = append(ofItem, 0)
			}
			before := met[pair{user, item}]
			if ev.Positive() {
				positives++
				if before {
					repeats++
				}
			}
			if i := int(at) - len(train); i >= 0 {
				r := &rows[i]
				r.met, r.itemBefore, r.userBefore, r.opens = before, ofItem[item], ofUser[user], k == 0
			}
		}
		for _, at := range moment {
			item := items[events[at].Item]
			met[pair{user, item}] = true
			ofItem[item]++
			ofUser[user]++
		}
	}
	if !dayStamped {
		for i := range rows {
			rows[i].opens = false
		}
	}
	if positives > 0 {
		c.repeats = float64(repeats) / float64(positives)
	}
	if c.task == TaskAuto {
		if c.task = TaskUnseen; c.repeats >= repeatsForAll {
			c.task = TaskAll
		}
	}
	c.meet(u)
	return c
}

// meet gathers what each user met in the part of train that is learnt before the walk.
func (c *chronicle) meet(u *universe) {
	c.met = make([][]int32, len(c.users))
	type pair struct{ user, item int32 }
	known := make(map[pair]bool, len(c.train))
	for _, ev := range c.train {
		n, ok := u.number[ev.Item]
		p := pair{c.users[ev.User], n}
		if ok && !known[p] {
			known[p] = true
			c.met[p.user] = append(c.met[p.user], n)
		}
	}
}

// hold cuts train before the first event whose user has a scored row at the same time.
func (c *chronicle) hold(rows []row) {
	train := c.train
	last := train[len(train)-1].Time
	there := map[string]bool{}
	for i := range rows {
		if !rows[i].Time.Equal(last) {
			break
		}
		there[rows[i].User] = true
	}
	for at := len(train) - 1; at >= 0 && len(there) > 0 && train[at].Time.Equal(last); at-- {
		if there[train[at].User] {
			c.train, c.held = train[:at], train[at:]
		}
	}
	if len(c.train) == 0 { // a log of one moment: something must be learnt first
		c.train, c.held = train, nil
	}
}

func number(of map[string]int32, id string) int32 {
	n, ok := of[id]
	if !ok {
		n = int32(len(of))
		of[id] = n
	}
	return n
}

// moments orders rows so that those of one user and time stand together, where the first of them stood. Each moment is
// order[ends[m-1]:ends[m]]. Rows must be in time order.
func moments(rows []corastream.Event) (order, ends []int32) {
	order = make([]int32, 0, len(rows))
	for from := 0; from < len(rows); {
		to := from + 1
		for to < len(rows) && rows[to].Time.Equal(rows[from].Time) {
			to++
		}
		if to-from == 1 {
			order = append(order, int32(from))
			ends = append(ends, int32(len(order)))
		} else {
			place := map[string]int32{}
			var groups [][]int32
			for i := from; i < to; i++ {
				g := number(place, rows[i].User)
				if int(g) == len(groups) {
					groups = append(groups, nil)
				}
				groups[g] = append(groups[g], int32(i))
			}
			for _, g := range groups {
				order = append(order, g...)
				ends = append(ends, int32(len(order)))
			}
		}
		from = to
	}
	return order, ends
}
