package cluster

import (
	"slices"
	"sync"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/store"
)

// duties are recommendations owed, with the records of the log that asked for them. They live in
// memory alone. A record that is not paid is not reported to the group, so the next process that
// has its partition reads it again.
//
// A duty covers one or more records, and a partition is paid up to its first record that is covered
// by an open duty. The reader of duties (take), the pipeline (owed, settle) and the reporter (paid)
// run in different goroutines under mu, a leaf.
type duties struct {
	mu       sync.Mutex
	queue    []*duty                           // oldest first
	moved    map[string]*duty                  // by user: not handed out yet
	marks    map[corastream.Partition]*headway // what is read, and what of it is paid
	reported map[corastream.Partition]int64
	covered  int // records that duties cover
	seq      uint64
}

// dutiesLimit is how many records of the log a replica's duties may cover at a time, which is about 10 MB.
const dutiesLimit = 1 << 16

func (d *duties) full() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.covered >= dutiesLimit
}

// duty is one answer owed. It covers a request, or all moves of a user until it is handed out. A
// user who moves again after that is another duty, since the answer on its way knows nothing of the
// new move.
type duty struct {
	owed   corastream.Owed
	covers []corastream.Position
	handed bool
}

// headway is how far one partition has come: everything before next is read, and of that all but
// open is paid.
type headway struct {
	next int64   // read up to here
	open []int64 // offsets not paid yet, rising
}

func (d *duties) init() {
	d.moved, d.marks, d.reported = map[string]*duty{}, map[corastream.Partition]*headway{}, map[corastream.Partition]int64{}
}

// open counts the duties.
func (d *duties) open() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.queue)
}

// take adds the requests and moved users of a batch. A span that begins before what was read shows
// that the partition was elsewhere in between. Its duties are forgotten and come again with the
// records, or they would be answered twice and never leave the list.
func (d *duties) take(b corastream.Batch) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range b.Spans {
		p := d.marks[s.Partition]
		if p == nil || s.From < p.next { // new here, or back after it was elsewhere: what was open is to be read again
			d.forget(s.Partition)
			p = &headway{}
			d.marks[s.Partition] = p
			delete(d.reported, s.Partition)
		}
		p.next = s.To
	}
	for i := range b.Requests {
		q := b.Requests[i]
		d.add(&duty{owed: corastream.Owed{User: q.User, Cause: q.Pos, Request: &q}}, q.Pos)
	}
	for _, c := range b.Changes {
		o, ok, err := store.MovedUser(c)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if before := d.moved[o.User]; before != nil {
			before.owed.Cause = o.Cause
			if o.Oldest.Before(before.owed.Oldest) {
				before.owed.Oldest = o.Oldest
			}
			d.cover(before, c.Pos)
			continue
		}
		one := &duty{owed: o}
		d.moved[o.User] = one
		d.add(one, c.Pos)
	}
	return nil
}

func (d *duties) add(one *duty, pos corastream.Position) {
	d.seq++
	one.owed.Seq = d.seq
	d.queue = append(d.queue, one)
	d.cover(one, pos)
}

func (d *duties) cover(one *duty, pos corastream.Position) {
	one.covers = append(one.covers, pos)
	d.covered++
	if p := d.marks[corastream.Partition{Topic: pos.Topic, ID: pos.Partition}]; p != nil {
		p.open = append(p.open, pos.Offset)
	}
}

// forget drops the duties of a partition that is no longer ours.
func (d *duties) forget(part corastream.Partition) {
	d.queue = slices.DeleteFunc(d.queue, func(one *duty) bool {
		before := len(one.covers)
		one.covers = slices.DeleteFunc(one.covers, func(pos corastream.Position) bool {
			return pos.Topic == part.Topic && pos.Partition == part.ID
		})
		d.covered -= before - len(one.covers)
		if len(one.covers) > 0 {
			return false
		}
		if d.moved[one.owed.User] == one {
			delete(d.moved, one.owed.User)
		}
		return true
	})
	delete(d.marks, part)
}

// owed hands out up to n duties, requests first, each oldest first. Duties that were handed out and
// not settled come again, since the pipeline asks again only after a failure.
//
// ready says whether the store has read the newest record that a duty covers. A recommendation from
// older vectors would pay the duty for nothing. An empty assignment is the moment between two
// generations, in which nothing is known to be somebody else's.
func (d *duties) owed(n int, ready func(corastream.Position) (bool, error), assigned map[corastream.Partition]bool) ([]corastream.Owed, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for part := range d.marks {
		if !assigned[part] && len(assigned) > 0 {
			d.forget(part)
		}
	}
	var out []corastream.Owed
	for _, requests := range []bool{true, false} {
		for _, one := range d.queue {
			if len(out) == n {
				return out, nil
			}
			if (one.owed.Request != nil) != requests {
				continue
			}
			if !requests && !one.handed {
				ok, err := ready(one.covers[len(one.covers)-1])
				if err != nil {
					return nil, err
				}
				if !ok {
					continue
				}
				one.handed = true
				delete(d.moved, one.owed.User) // later moves are another duty
			}
			out = append(out, one.owed)
		}
	}
	return out, nil
}

// settle takes paid duties off the list.
func (d *duties) settle(paid []corastream.Owed) {
	d.mu.Lock()
	defer d.mu.Unlock()
	done := make(map[uint64]bool, len(paid))
	for _, o := range paid {
		done[o.Seq] = true
	}
	d.queue = slices.DeleteFunc(d.queue, func(one *duty) bool {
		if !done[one.owed.Seq] {
			return false
		}
		d.covered -= len(one.covers)
		for _, pos := range one.covers {
			p := d.marks[corastream.Partition{Topic: pos.Topic, ID: pos.Partition}]
			if p == nil {
				continue
			}
			if i, found := slices.BinarySearch(p.open, pos.Offset); found {
				p.open = slices.Delete(p.open, i, i+1)
			}
		}
		return true
	})
}

// paid returns, for each partition that has moved on, the run of offsets up to the first that is
// not paid. It notes them as reported, so a run is returned once.
func (d *duties) paid() (spans []corastream.Span) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for part, p := range d.marks {
		to := p.next
		if len(p.open) > 0 {
			to = p.open[0]
		}
		if from := d.reported[part]; to > from {
			spans = append(spans, corastream.Span{Partition: part, From: from, To: to})
			d.reported[part] = to
		}
	}
	return spans
}
