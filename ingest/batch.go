package ingest

import (
	"cmp"
	"context"
	"time"

	"github.com/corastream/corastream"
)

func comparePartitions(a, b corastream.Partition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.ID, b.ID))
}

// Next waits for a micro-batch: up to MaxBatchEvents, or as much as came during a pause. The pause
// begins with the call and is as long as the caller took for the batch before, but at most
// MaxBatchWait.
//
// A fixed pause would have to be chosen for one load. This one adapts: a lone event is handed out
// at once, because the caller did nothing before it. Of a stream so many are gathered that the
// caller is busy half of the time with them, until batches are full. Where somebody waits for the
// batch (Hurry), there is no pause.
func (s *Source) Next(ctx context.Context) (corastream.Batch, error) {
	s.mu.Lock()
	pause := min(s.cfg.MaxBatchWait, time.Since(s.last))
	s.mu.Unlock()
	called := time.Now()
	for {
		s.mu.Lock()
		ready, idle := s.look()
		err, news := s.err, s.news
		if err == nil && ready > 0 {
			wait := pause - time.Since(called)
			if wait <= 0 || s.hurry || ready >= s.cfg.MaxBatchEvents {
				b := s.cut()
				s.mu.Unlock()
				return b, corastream.Failpoint("ingest.handed")
			}
			s.mu.Unlock()
			if err := sleep(ctx, s.ctx, news, wait); err != nil {
				return corastream.Batch{}, err
			}
			continue
		}
		s.mu.Unlock()
		switch {
		case err != nil:
			return corastream.Batch{}, err
		case idle == 0:
			return corastream.Batch{}, corastream.ErrEnd
		}
		if err := sleep(ctx, s.ctx, news, idle); err != nil {
			return corastream.Batch{}, err
		}
	}
}

// sleep waits for news, for d (below 0: without end) or for a context's end.
func sleep(ctx, own context.Context, news <-chan struct{}, d time.Duration) error {
	var after <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		after = t.C
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-own.Done():
		return context.Cause(own)
	case <-news:
	case <-after:
	}
	return nil
}

// look says, under the lock, how many outputs are ready, and how long until an idle source ends
// (below 0: not as things stand). A source is idle only while all its partitions are read to their
// ends and the connections are well; a broker that is away must not look like the end of the log.
func (s *Source) look() (ready int, idle time.Duration) {
	caught := s.placed // between two assignments nothing is idle
	for _, f := range s.feeds {
		ready += f.left
		caught = caught && f.caught
	}
	if s.cfg.ExitWhenIdle <= 0 || !caught || ready > 0 {
		return ready, -1
	}
	return ready, max(0, s.cfg.ExitWhenIdle-time.Since(s.active))
}

// cut makes a batch, under the lock. Every partition that has records gets an equal share, what one leaves goes to the
// others, and the first turn moves on from batch to batch. Each partition is one span, so the journal's line is short.
func (s *Source) cut() corastream.Batch {
	n := len(s.feeds)
	want := make([]int, n)
	have := make([]int, n)
	for i := range n {
		have[i] = s.feeds[(s.turn+i)%n].left
	}
	share(want, have, s.cfg.MaxBatchEvents)
	var b corastream.Batch
	for i := range n {
		f := s.feeds[(s.turn+i)%n]
		if want[i] > 0 {
			span := f.take(&b, want[i])
			s.handed[f.part] = span.To
			b.Spans = append(b.Spans, span)
		}
	}
	s.turn = (s.turn + 1) % n
	s.active = time.Now()
	s.last = s.active
	s.hurry = false
	return b
}

// share fills want with parts of total, none above have, as equal as can be; earlier ones get the remainder.
func share(want, have []int, total int) {
	for total > 0 {
		open := 0
		for i := range have {
			if want[i] < have[i] {
				open++
			}
		}
		if open == 0 {
			return
		}
		each := max(1, total/open)
		for i := range have {
			d := min(each, have[i]-want[i], total)
			want[i] += d
			total -= d
		}
	}
}

// take hands out about n outputs of the feed's queue. It ends before the record that would pass n,
// unless that is the first one: a record with more outputs than a batch may have must pass too.
func (f *feed) take(dst *corastream.Batch, n int) corastream.Span {
	span := corastream.Span{Partition: f.part, From: f.queue[0].from, To: -1}
	for len(f.queue) > 0 && n > 0 {
		b := f.queue[0]
		if span.To >= 0 && b.size(b.taken) > n {
			break
		}
		from, to, got := b.take(dst, n)
		if span.To < 0 {
			span.From = from
		}
		span.To = to
		n -= got
		f.left -= got
		if b.taken == len(b.marks) {
			f.queue[0] = nil
			f.queue = f.queue[1:]
			<-f.room
		}
	}
	return span
}
