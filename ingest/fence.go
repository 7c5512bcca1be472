package ingest

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/corastream/corastream"
)

// errTooLargeToAppend: a transaction is more than one record batch may hold.
var errTooLargeToAppend = errors.New("more than one record batch may hold")

// store writes changes of one (epoch, seq) as one batch and returns nil once it is known to count.
// After an error the process owns nothing (epoch 0): nobody knows what the log holds behind c.next,
// so it has to be read and claimed again.
func (c *Changelog) store(ctx context.Context, changes []corastream.Change) error {
	was := c.order
	err := c.tryStore(ctx, changes)
	if err != nil {
		c.epoch, c.order = 0, was // as of the offset that the caller has
		err = fmt.Errorf("append to the changelog of shard %d: %w", c.part.ID, err)
	}
	return err
}

func (c *Changelog) tryStore(ctx context.Context, changes []corastream.Change) error {
	p := &posting{part: c.part}
	size := 0
	headers := changeHeaders(changes[0].Epoch, changes[0].Seq)
	for _, ch := range changes {
		r := Record{Key: ch.Key, Value: ch.Value, Headers: headers}
		size += sizeOf(r)
		p.records = append(p.records, r)
	}
	if size > ownAppendBytes {
		return fmt.Errorf("a transaction of %d changes has %d bytes, over %d: %w (fix: learn in smaller batches: lower kafka.max_batch_events)",
			len(changes), size, ownAppendBytes, errTooLargeToAppend)
	}
	if err := corastream.Failpoint("changelog.append"); err != nil {
		return err
	}
	if err := c.insist(ctx, p, changes); err != nil {
		return err
	}
	return corastream.Failpoint("changelog.appended")
}

// check reads what others have written since.
func (c *Changelog) check(ctx context.Context) (next int64, void [][]byte, err error) {
	was := c.order
	if _, err := c.look(ctx, -1, corastream.Change{Epoch: c.epoch, Seq: math.MaxUint64}); err != nil {
		c.epoch, c.order = 0, was
		return 0, nil, fmt.Errorf("look at the changelog of shard %d: %w", c.part.ID, err)
	}
	return c.next, c.Void(), nil
}

// sizeOf is no less than a record's size in a batch.
func sizeOf(r Record) int {
	n := recordFrame + len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return n
}

// insist posts until the batch is stored or can not be.
//
// A lost answer is the hard case: the batch may be in the log or not. Posting again would do no
// harm, since a second copy is void or says the same once more. But if the batch is there, the next
// offset to expect is behind it, so the log is read first to see whether a copy is there.
func (c *Changelog) insist(ctx context.Context, p *posting, changes []corastream.Change) error {
	defer c.failing.Store(false)
	for fails := 0; ; {
		c.post.post(ctx, p)
		if p.err == nil {
			if fails > 0 {
				c.log.Info().Int("attempts", fails).Msg("writing the changelog again")
			}
			return c.landed(ctx, p.base, changes)
		}
		if fails++; fails == 1 && ctx.Err() == nil && retryable(p.err) {
			c.failing.Store(true)
			c.log.Warn().Err(p.err).Msg("writing the changelog stopped; trying again")
		}
		if p.maybe && ctx.Err() == nil {
			// The answer is lost, not the batch perhaps. A copy that comes later still is harmless: it is void, or the same once more.
			if there, err := c.look(ctx, -1, changes[0]); there || err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !retryable(p.err) {
			return p.err
		}
		if err := pause(ctx, fails); err != nil {
			return err
		}
	}
}

// landed decides whether a batch that lies at base counts. At c.next nobody else has written, and
// it counts. Behind c.next somebody has, and look reads who. Before c.next the log itself is
// another one.
func (c *Changelog) landed(ctx context.Context, base int64, changes []corastream.Change) error {
	if base < c.next {
		return fmt.Errorf("topic %s partition %d: the batch came to lie at %d, before the log's end at %d: the log was made anew or lost its tail (fix: learn from what the log still holds in a new --data folder): %w",
			c.part.Topic, c.part.ID, base, c.next, corastream.ErrGap)
	}
	if base > c.next {
		if _, err := c.look(ctx, base, changes[0]); err != nil || c.next < base {
			return err // or an earlier copy counts, and then another owner came: this copy is void
		}
	}
	for _, ch := range changes {
		c.pass(ch)
	}
	c.next = base + int64(len(changes))
	return nil
}

var errStop = errors.New("no more")

// look reads what others wrote from c.next up to `to` (below 0: the present end), moves c.next behind it (but not over a new owner's
// claim that comes after our batch), and says whether a copy of
// our batch, of which `ours` is the first change, is there. ErrFenced: our batch does not count, wherever it lies. A transaction is beaten by a higher epoch alone: what
// has a lower one is void, and what has our own is a lost claim or a copy of our own. A claim is beaten by anything that counts, since its
// owner has not read that.
func (c *Changelog) look(ctx context.Context, to int64, ours corastream.Change) (there bool, err error) {
	claiming := isClaim(ours.Key)
	reached, err := c.walk(ctx, c.next, to, func(seen []corastream.Change) error {
		for _, ch := range seen {
			higher := ch.Epoch > c.epoch
			switch {
			case there && higher:
				c.next = ch.Pos.Offset // the next append will find it there
				return errStop
			case higher:
				return fmt.Errorf("%s: %w", takenBy(ch), corastream.ErrFenced)
			case !c.pass(ch):
			case ch.Epoch == ours.Epoch && ch.Seq == ours.Seq && isClaim(ch.Key) == claiming && (!claiming || string(ch.Key) == string(ours.Key)):
				there = true
			case claiming && !there:
				return fmt.Errorf("epoch %d wrote transaction %d at offset %d while it was claimed: %w", ch.Epoch, ch.Seq, ch.Pos.Offset, corastream.ErrFenced)
			}
		}
		return nil
	})
	if errors.Is(err, errStop) {
		return true, nil
	}
	if err == nil {
		c.next = reached
	}
	return there, err
}

func takenBy(ch corastream.Change) string {
	if isClaim(ch.Key) {
		return fmt.Sprintf("%q claimed epoch %d at offset %d", ch.Value, ch.Epoch, ch.Pos.Offset)
	}
	return fmt.Sprintf("an owner of epoch %d wrote at offset %d", ch.Epoch, ch.Pos.Offset)
}
