package store

import (
	"fmt"

	"github.com/corastream/corastream"
)

// plan follows a batch through its spans: what of it is new, and, when it becomes several
// transactions, which offsets each of them covers. A record whose position names no topic comes
// from no log and is always new.
//
// An offset in the store promises that everything before it is applied. The plan keeps that promise
// for each partition: done is how far records were applied, cut is how far the closed transactions
// say so, and a part may end only where the two agree.
type plan struct {
	spans []corastream.Span              // cut down to what is new, in the order read
	done  map[corastream.Partition]int64 // the next offset to apply
	cut   map[corastream.Partition]int64 // up to where earlier parts reach
	end   map[corastream.Partition]int64 // up to where the batch reaches
	last  corastream.Position            // of the record asked for last: one record may hold several events
	took  bool                           // whether it was new
}

// newPlan checks that the batch's records lie in its spans, events in the order in which the spans were read: otherwise
// the journal would tell a lie.
func newPlan(b corastream.Batch, offsets map[corastream.Partition]int64) (*plan, error) {
	p := &plan{
		done: map[corastream.Partition]int64{}, cut: map[corastream.Partition]int64{}, end: map[corastream.Partition]int64{},
	}
	for _, s := range b.Spans {
		if s.From < 0 || s.To < s.From || s.Topic == "" {
			return nil, fmt.Errorf("span %s:%d [%d,%d) is none", s.Topic, s.ID, s.From, s.To)
		}
		end, seen := p.end[s.Partition]
		if !seen {
			known, ok := offsets[s.Partition]
			if end = s.From; ok {
				end = known
			}
			p.done[s.Partition], p.cut[s.Partition] = end, end
		}
		p.end[s.Partition] = max(end, s.To)
		if s.From = max(s.From, end); s.From < s.To {
			p.spans = append(p.spans, s)
		}
	}
	walk := walker{spans: b.Spans}
	for i := range b.Events {
		if err := walk.to(b.Events[i].Pos); err != nil {
			return nil, fmt.Errorf("event %w", err)
		}
	}
	walk.i = 0
	for i := range b.Items {
		if err := walk.to(b.Items[i].Pos); err != nil {
			return nil, fmt.Errorf("item %w", err)
		}
	}
	walk.i = 0
	for i := range b.Requests {
		if err := walk.to(b.Requests[i].Pos); err != nil {
			return nil, fmt.Errorf("request %w", err)
		}
	}
	return p, nil
}

// walker moves through the spans as records come.
type walker struct {
	spans []corastream.Span
	i     int
}

func (w *walker) to(pos corastream.Position) error {
	if pos.Topic == "" {
		return nil
	}
	for ; w.i < len(w.spans); w.i++ {
		s := &w.spans[w.i]
		if s.ID == pos.Partition && pos.Offset >= s.From && pos.Offset < s.To && s.Topic == pos.Topic {
			return nil
		}
	}
	return fmt.Errorf("at %s:%d@%d lies in no span of the batch, or not in the order of the spans",
		pos.Topic, pos.Partition, pos.Offset)
}

// fresh says whether a record is new, and counts it as applied if so. One record may hold several
// events with one position, so the answer for the last position is kept: the second event must not
// count as a repeat of the first.
func (p *plan) fresh(pos corastream.Position) bool {
	if pos.Topic == "" {
		return true
	}
	if pos == p.last {
		return p.took
	}
	part := corastream.Partition{Topic: pos.Topic, ID: pos.Partition}
	p.last, p.took = pos, pos.Offset >= p.done[part]
	if p.took {
		p.done[part] = pos.Offset + 1
	}
	return p.took
}

// part closes a transaction: its spans reach up to the first record of each partition that is still
// to come (rest). It is not possible (ok false) while an applied record lies behind one that is
// still to come, as when an event was applied and a catalogue record of the same partition before
// it was not. Its offset would promise too much.
func (p *plan) part(rest func(yield func(corastream.Position))) (spans []corastream.Span, next map[corastream.Partition]int64, ok bool) {
	first := map[corastream.Partition]int64{}
	rest(func(pos corastream.Position) {
		part := corastream.Partition{Topic: pos.Topic, ID: pos.Partition}
		if pos.Topic == "" || pos.Offset < p.cut[part] {
			return
		}
		if at, seen := first[part]; !seen || pos.Offset < at {
			first[part] = pos.Offset
		}
	})
	next = map[corastream.Partition]int64{}
	for part, end := range p.end {
		to, more := first[part]
		if !more {
			to = end
		} else if p.done[part] > to && p.done[part] > p.cut[part] {
			return nil, nil, false
		}
		if to > p.cut[part] {
			next[part] = to
		}
	}
	for _, s := range p.spans {
		to, moved := next[s.Partition]
		if s.From, s.To = max(s.From, p.cut[s.Partition]), min(s.To, to); moved && s.From < s.To {
			spans = append(spans, s)
		}
	}
	for part, to := range next {
		p.cut[part] = to
	}
	return spans, next, true
}

// positions yields where the records from the given indices on lie.
func positions(b *corastream.Batch, items, events, requests int) func(func(corastream.Position)) {
	return func(yield func(corastream.Position)) {
		for i := items; i < len(b.Items); i++ {
			yield(b.Items[i].Pos)
		}
		for i := events; i < len(b.Events); i++ {
			yield(b.Events[i].Pos)
		}
		for i := requests; i < len(b.Requests); i++ {
			yield(b.Requests[i].Pos)
		}
	}
}

// everything is the rest of a batch that is used up.
func everything(func(corastream.Position)) {}
