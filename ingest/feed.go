package ingest

import (
	"context"
	"errors"
	"time"

	"github.com/corastream/corastream"
)

const (
	pollWait    = 500 * time.Millisecond // how long a broker may hold an empty answer back
	maxCorrupt  = 3                      // a checksum that fails this often in a row is the disk's, not the wire's
	blocksAhead = 2                      // decoded answers that wait for the learner, per partition
)

// mark says what one record came to: the ends of its outputs within the block's slices, and the offset after it.
type mark struct {
	to                            int64
	at                            int64 // when it happened, unix ms: its first event's time, else the record's
	events, items, requests, bads int
	changes, parcels              int
}

// block is one decoded chunk of a partition, handed out piece by piece. marks has the end of each
// record within the outputs, so that a batch can end between any two records and its span is exact.
type block struct {
	from, to int64
	marks    []mark
	batch    corastream.Batch
	taken    int // marks handed out
	came     time.Time
}

// decodeChunk decodes all records of a chunk. The last mark reaches the chunk's end, over control records and holes. It fails only on
// what is not ours on a cluster's own topics.
func decodeChunk(d *Decoder, w *wants, c chunk, came time.Time) (*block, error) {
	b := &block{from: c.from, to: c.to, came: came, marks: make([]mark, 0, max(1, len(c.records)))}
	for _, r := range c.records {
		n, at := len(b.batch.Events), r.Time
		if err := d.take(&b.batch, w, r); err != nil {
			return nil, err
		}
		if len(b.batch.Events) > n {
			at = b.batch.Events[n].Time
		}
		m := mark{
			to: r.Pos.Offset + r.Covers, at: at.UnixMilli(),
			events: len(b.batch.Events), items: len(b.batch.Items), requests: len(b.batch.Requests), bads: len(b.batch.Bad),
			changes: len(b.batch.Changes), parcels: len(b.batch.Parcels),
		}
		if k := len(b.marks); k > 0 && d.topics.own(r.Pos.Topic) && m.outputs() == b.marks[k-1].outputs() {
			b.marks[k-1].to = m.to // not wanted: it costs no share of a batch
			continue
		}
		b.marks = append(b.marks, m)
	}
	if len(b.marks) == 0 {
		b.marks = append(b.marks, mark{})
	}
	b.marks[len(b.marks)-1].to = c.to
	return b, nil
}

// size of the i-th mark as a share of a batch: its outputs, and at least 1.
func (b *block) size(i int) int {
	n := b.marks[i].outputs()
	if i > 0 {
		n -= b.marks[i-1].outputs()
	}
	return max(1, n)
}

func (m mark) outputs() int { return m.events + m.items + m.requests + m.bads + m.changes + m.parcels }

// left is how much of the block has not been handed out.
func (b *block) left() (n int) {
	for i := b.taken; i < len(b.marks); i++ {
		n += b.size(i)
	}
	return n
}

// take appends up to n outputs, but at least one record's, to dst and returns the offsets covered and how many outputs.
func (b *block) take(dst *corastream.Batch, n int) (from, to int64, got int) {
	start, from := mark{to: b.from}, b.from
	if b.taken > 0 {
		start = b.marks[b.taken-1]
		from = start.to
	}
	for b.taken < len(b.marks) && (got == 0 || got+b.size(b.taken) <= n) {
		got += b.size(b.taken)
		b.taken++
	}
	end := b.marks[b.taken-1]
	dst.Changes = append(dst.Changes, b.batch.Changes[start.changes:end.changes]...)
	dst.Parcels = append(dst.Parcels, b.batch.Parcels[start.parcels:end.parcels]...)
	dst.Events = append(dst.Events, b.batch.Events[start.events:end.events]...)
	dst.Items = append(dst.Items, b.batch.Items[start.items:end.items]...)
	dst.Requests = append(dst.Requests, b.batch.Requests[start.requests:end.requests]...)
	dst.Bad = append(dst.Bad, b.batch.Bad[start.bads:end.bads]...)
	return from, end.to, got
}

// feed reads one partition in the background and keeps a few decoded blocks ready. The fields below
// room belong to the source's lock. Everything above them is the feed's own goroutine's.
type feed struct {
	s      *Source
	part   corastream.Partition
	tail   *tail
	wants  wants
	cancel context.CancelFunc
	done   chan struct{}
	room   chan struct{} // one token per block that may still be queued

	queue  []*block
	left   int   // outputs in queue
	end    int64 // of the partition, as last seen; -1 before
	read   int64 // the offset after the last block queued
	caught bool  // read to the end, and the connection is well
	lost   bool  // the last read failed
}

// run reads until its context ends or the partition can not be read.
//
// A token of room is taken before the read and not after it, so at most blocksAhead blocks exist,
// the one being decoded included. An empty answer or an error gives the token back.
//
// Errors are of three sorts. Those that another attempt may mend are tried again with growing
// pauses (retryable), and so is a log that ends before our offset, because a broker that is
// starting may say so. A checksum that fails is tried again a few times, as it may be the network's
// fault. Everything else ends the source: a gap, another cluster, a recreated topic. Going on would
// lose or mix up events without a word.
func (f *feed) run(ctx context.Context) {
	defer close(f.done)
	defer f.tail.drop()
	for fails, corrupt := 0, 0; ; {
		select {
		case f.room <- struct{}{}:
		case <-ctx.Done():
			return
		}
		c, err := f.tail.read(ctx, pollWait)
		if err == nil {
			if fails > 0 {
				f.s.recovered(f)
			}
			fails, corrupt = 0, 0
		}
		if err == nil && c.to > c.from {
			b, err := decodeChunk(f.s.decoder, &f.wants, c, time.Now())
			if err != nil {
				f.s.fail(err)
				return
			}
			f.s.put(f, b, c.end)
			continue
		}
		<-f.room
		if err == nil {
			f.s.idle(f, c.end)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, corastream.ErrCorrupt) {
			corrupt++
		}
		if !retryable(err) && !isBeyond(err) || corrupt > maxCorrupt {
			f.s.fail(err)
			return
		}
		fails++
		f.s.trouble(f, err)
		if pause(ctx, fails) != nil {
			return
		}
	}
}
