package ingest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
)

// Consumer reads all partitions of one topic, without a group: `corastream consume`. Next is for one goroutine.
type Consumer struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	chunks chan []Record
	errs   chan error
	rest   []Record
}

// NewConsumer begins at from (its zero value: the log's beginning). With follow it waits for more without end, otherwise
// it ends at what the log holds now.
func NewConsumer(ctx context.Context, cfg Config, topic string, from Bound, follow bool, log zerolog.Logger) (*Consumer, error) {
	r, err := NewRange(ctx, cfg, []string{topic}, from, Bound{})
	if err != nil {
		return nil, err
	}
	c := &Consumer{chunks: make(chan []Record), errs: make(chan error, len(r.lanes))}
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	for _, l := range r.lanes {
		c.wg.Go(func() {
			defer l.cursor.tail.drop()
			if err := c.read(l, follow, log); err != nil && c.ctx.Err() == nil {
				c.errs <- err
			}
		})
	}
	go func() {
		c.wg.Wait()
		close(c.chunks)
	}()
	return c, nil
}

// FromEnd makes a consumer that sees only what is written from now on: it gives the bound for NewConsumer.
func FromEnd() Bound { return AtTime(time.Now().Add(24 * time.Hour)) }

// read passes one partition's records on.
func (c *Consumer) read(l *lane, follow bool, log zerolog.Logger) error {
	t := l.cursor.tail
	for fails := 0; follow || t.next < l.to; {
		ch, err := t.read(c.ctx, pollWait)
		if err != nil {
			if c.ctx.Err() != nil {
				return nil
			}
			if fails++; !retryable(err) && !isBeyond(err) || !follow && fails > maxFails {
				return fmt.Errorf("consume: %w", err)
			}
			if fails == 1 {
				log.Warn().Err(err).Str("topic", l.part.Topic).Int32("partition", l.part.ID).Msg("reading stopped; trying again")
			}
			if pause(c.ctx, fails) != nil {
				return nil
			}
			continue
		}
		fails = 0
		records := ch.records
		for !follow && len(records) > 0 && records[len(records)-1].Pos.Offset >= l.to {
			records = records[:len(records)-1]
		}
		if len(records) == 0 {
			continue
		}
		select {
		case c.chunks <- records:
		case <-c.ctx.Done():
			return nil
		}
	}
	return nil
}

// Next gives the next record, corastream.ErrEnd after the last. Order holds within a partition only.
func (c *Consumer) Next(ctx context.Context) (Record, error) {
	for len(c.rest) == 0 {
		select {
		case <-ctx.Done():
			return Record{}, context.Cause(ctx)
		case err := <-c.errs:
			return Record{}, err
		case records, ok := <-c.chunks:
			if !ok {
				return Record{}, c.over()
			}
			c.rest = records
		}
	}
	r := c.rest[0]
	c.rest = c.rest[1:]
	return r, nil
}

func (c *Consumer) over() error {
	select {
	case err := <-c.errs:
		return err
	default:
	}
	if err := context.Cause(c.ctx); err != nil {
		return err
	}
	return corastream.ErrEnd
}

// Close stops reading.
func (c *Consumer) Close() error {
	c.cancel(context.Canceled)
	for range c.chunks { // closed after the last reader
	}
	return nil
}
