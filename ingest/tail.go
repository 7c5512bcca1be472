package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	kafka "github.com/segmentio/kafka-go"

	"github.com/corastream/corastream"
)

// Where a tail starts when it has no offset.
const (
	fromFirst int64 = -2
	fromEnd   int64 = -1
)

// tail reads one partition in order, from an offset on. It never jumps: where records are missing
// it returns corastream.ErrGap. It is used by one goroutine.
//
// kafka-go's reader is not used for this. It skips to the log's beginning when records were
// deleted, and waits for ever when the log was made anew and is shorter than our offset.
type tail struct {
	access    *access
	part      corastream.Partition
	next      int64 // the offset wanted; fromFirst or fromEnd before the first attach
	compacted bool  // holes are normal, and the log's beginning may move past us
	size      int   // bytes to ask for
	limits    limits
	patience  time.Duration
	vet       func(brokersView) error // refuses another cluster or another topic of the same name; may be nil
	now       func() time.Time

	conn   *conn
	beyond time.Time // since when the log has ended before next; zero: it does not
}

// chunk is what one read gave: the records within [from, to).
type chunk struct {
	from, to int64
	records  []Record
	end      int64 // where the readable part of the partition ended at that moment
}

// errBeyond: the log ends before the next offset. Right after its start a broker may say so while it recovers.
var errBeyond = errors.New("the log ends before the next offset")

// attach finds the leader, checks that the log still holds the next offset, and connects.
func (t *tail) attach(ctx context.Context) error {
	cl, err := t.access.describe(ctx, t.part.Topic)
	if err != nil {
		return err
	}
	addr, err := cl.leader(t.part)
	if err != nil {
		return err
	}
	if t.vet != nil {
		if err := t.vet(cl); err != nil {
			return err
		}
	}
	c, err := t.access.dial(ctx, addr)
	if err != nil {
		return err
	}
	if err := t.seek(ctx, c); err != nil {
		c.Close()
		return err
	}
	t.conn = c
	return nil
}

// seek compares the next offset with the log's first and last one.
//
// An offset behind the end is not an error at once. A broker that has just started may not know its
// end yet, so t.patience passes before it is called a gap. An offset before the beginning is normal
// on a compacted topic, where newer records stand for the older ones. Anywhere else events are
// gone.
func (t *tail) seek(ctx context.Context, c *conn) error {
	first, err := c.offset(ctx, t.part, firstOffset)
	if err != nil {
		return err
	}
	last, err := c.offset(ctx, t.part, lastOffset)
	if err != nil {
		return err
	}
	switch {
	case t.next == fromFirst:
		t.next = first
	case t.next == fromEnd:
		t.next = last
	case t.next > last:
		if t.beyond.IsZero() {
			t.beyond = t.now()
		}
		if t.now().Sub(t.beyond) < t.patience {
			return fmt.Errorf("%s/%d: next is %d, the end %d: %w", t.part.Topic, t.part.ID, t.next, last, errBeyond)
		}
		return t.gap("the log ends at %d, before the next offset %d: it was made anew or lost its tail", last, t.next)
	case t.next < first && t.compacted:
		t.next = first // what was there has been superseded by newer records
	case t.next < first:
		return t.gap("the log begins at %d: %d records from the next offset %d on are gone, by retention or deletion", first, first-t.next, t.next)
	}
	t.beyond = time.Time{}
	return nil
}

// gap says what is missing and what to do. Going on would lose events silently, so nothing here does.
func (t *tail) gap(format string, args ...any) error {
	return fmt.Errorf("topic %s partition %d: %s (fix: learn from what the log still holds in a new --data folder, and give the topic a longer retention.ms): %w",
		t.part.Topic, t.part.ID, fmt.Sprintf(format, args...), corastream.ErrGap)
}

// read gives the next chunk, empty when none came within wait. After an error the next call connects anew.
func (t *tail) read(ctx context.Context, wait time.Duration) (chunk, error) {
	out, err := t.tryRead(ctx, wait)
	if err != nil {
		t.drop()
	}
	return out, err
}

func (t *tail) tryRead(ctx context.Context, wait time.Duration) (chunk, error) {
	if t.conn == nil {
		if err := t.attach(ctx); err != nil {
			return chunk{}, err
		}
	}
	f, err := t.conn.fetch(ctx, t.part, t.next, t.size, wait)
	if err != nil {
		return chunk{}, err
	}
	if f.code == kafka.OffsetOutOfRange {
		// The same question as at attach, and the same answers; if all is well by now, fetch again.
		if err := t.seek(ctx, t.conn); err != nil {
			return chunk{}, err
		}
		return chunk{from: t.next, to: t.next, end: -1}, nil
	}
	if f.code != 0 {
		return chunk{}, fmt.Errorf("fetch %s/%d: %w", t.part.Topic, t.part.ID, f.code)
	}
	if err := corastream.Failpoint("ingest.fetched"); err != nil {
		return chunk{}, err
	}
	out, err := t.unpack(f)
	if err != nil {
		return chunk{}, err
	}
	t.next = out.to
	return out, nil
}

// unpack takes the record batches of an answer apart, leaves out control records and what was
// rolled back, and checks for holes.
//
// An answer may begin before the offset that was asked for, since brokers send whole batches, and
// may end within a batch. The list of aborted transactions gives the offset at which each one
// began: a producer's records from there to its next control record are left out.
func (t *tail) unpack(f fetched) (chunk, error) {
	out := chunk{from: t.next, to: t.next, end: min(f.high, f.stable)}
	if f.stable < 0 {
		out.end = f.high
	}
	undone := map[int64]bool{} // producers whose transaction, at this place, ends in an abort
	for rest := f.batches; ; {
		b, tail, ok, err := nextRecordBatch(rest)
		if err != nil {
			return chunk{}, fmt.Errorf("%s/%d: %w", t.part.Topic, t.part.ID, err)
		}
		if !ok {
			if len(rest) > 0 && out.to == out.from && len(rest) == len(f.batches) {
				return chunk{}, fmt.Errorf("%s/%d: the record batch at offset %d is %w", t.part.Topic, t.part.ID, t.next, errAnswerTooLarge)
			}
			return out, nil
		}
		rest = tail
		for len(f.aborted) > 0 && f.aborted[0].first <= b.last {
			undone[f.aborted[0].producer] = true
			f.aborted = f.aborted[1:]
		}
		if b.attrs&attrControl != 0 {
			delete(undone, b.producer)
		}
		if b.last < out.to {
			continue // the answer may begin before what was asked for
		}
		if !t.compacted && b.base > out.to {
			return chunk{}, t.gap("offsets %d to %d are missing from the log", out.to, b.base-1)
		}
		skip := b.attrs&attrControl != 0 || b.attrs&attrTransactional != 0 && undone[b.producer]
		if !skip {
			n := len(out.records)
			if out.records, err = b.records(out.records, t.part, out.to, t.limits); err != nil {
				return chunk{}, fmt.Errorf("%s/%d: %w", t.part.Topic, t.part.ID, err)
			}
			if err := t.dense(b, out.records[n:], out.to); err != nil {
				return chunk{}, err
			}
		}
		out.to = b.last + 1
	}
}

// dense checks for holes within a batch.
func (t *tail) dense(b recordBatch, records []Record, from int64) error {
	if t.compacted {
		return nil
	}
	for _, r := range records {
		if r.Pos.Offset != max(from, b.base) {
			return t.gap("offsets %d to %d are missing from the log", max(from, b.base), r.Pos.Offset-1)
		}
		from = r.Pos.Offset + r.Covers
	}
	if from != b.last+1 {
		return t.gap("offsets %d to %d are missing from the log", from, b.last)
	}
	return nil
}

// drop closes the connection.
func (t *tail) drop() {
	if t.conn != nil {
		t.conn.Close()
		t.conn = nil
	}
}

func isBeyond(err error) bool { return errors.Is(err, errBeyond) }
