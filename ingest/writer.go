package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	kafka "github.com/segmentio/kafka-go"

	"github.com/corastream/corastream"
)

const (
	writeAtOnce  = 5000             // records handed to kafka-go in one call
	writeBytes   = 1_000_000        // of a record or batch; brokers take 1,048,588 by default, the batch's head included
	writeTimeout = time.Millisecond // that a record waits for others that could go with it
)

// writer stores records and returns when every in-sync replica has them. It goes on trying while that can help, so that
// an absent broker holds its caller up rather than losing anything; only the context ends that.
type writer struct {
	w   *kafka.Writer
	tr  *kafka.Transport
	log zerolog.Logger

	failing atomic.Int32 // calls whose last attempt failed
}

// newWriter makes a writer for records of up to size bytes. kafka-go's own defaults would not wait for any broker
// (RequireNone) and hold a lone record back for a second.
func newWriter(c Config, size int64, log zerolog.Logger) (*writer, error) {
	a, err := newAccess(c)
	if err != nil {
		return nil, err
	}
	tr := a.transport()
	return &writer{tr: tr, log: log, w: &kafka.Writer{
		Addr: kafka.TCP(c.Brokers...), Transport: tr, Balancer: kafka.Murmur2Balancer{}, RequiredAcks: kafka.RequireAll,
		BatchSize: writeAtOnce, BatchBytes: size, BatchTimeout: writeTimeout,
		MaxAttempts: 3, WriteBackoffMin: backoffMin, WriteBackoffMax: backoffMax,
		ReadTimeout: callTimeout, WriteTimeout: callTimeout, Completion: notePositions,
	}}, nil
}

// notePositions fills in the positions that Append asked for. kafka-go calls it before WriteMessages returns.
func notePositions(msgs []kafka.Message, err error) {
	if err != nil {
		return
	}
	for i := range msgs {
		if at, ok := msgs[i].WriterData.(*corastream.Position); ok {
			*at = corastream.Position{Topic: msgs[i].Topic, Partition: int32(msgs[i].Partition), Offset: msgs[i].Offset}
		}
	}
}

// write stores all records, in order per partition but for those that had to be sent again.
func (w *writer) write(ctx context.Context, msgs []kafka.Message) error {
	for len(msgs) > 0 {
		n := min(len(msgs), writeAtOnce)
		if err := w.chunk(ctx, msgs[:n]); err != nil {
			return err
		}
		msgs = msgs[n:]
	}
	return nil
}

func (w *writer) chunk(ctx context.Context, msgs []kafka.Message) error {
	for fails := 0; ; {
		err := w.w.WriteMessages(ctx, msgs...)
		if err == nil {
			if fails > 0 {
				w.log.Info().Str("topic", msgs[0].Topic).Int("attempts", fails).Msg("writing again")
			}
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !retryable(err) {
			return fmt.Errorf("write to %s: %w", msgs[0].Topic, oneOf(err))
		}
		msgs = unwritten(msgs, err)
		if fails++; fails == 1 {
			w.failing.Add(1)
			defer w.failing.Add(-1)
			w.log.Warn().Err(oneOf(err)).Str("topic", msgs[0].Topic).Int("records", len(msgs)).Msg("writing stopped; trying again")
		}
		if err := pause(ctx, fails); err != nil {
			return err
		}
	}
}

// oneOf is the first error of many: kafka-go lists one per record.
func oneOf(err error) error {
	var each kafka.WriteErrors
	if errors.As(err, &each) {
		for _, e := range each {
			if e != nil {
				return e
			}
		}
	}
	return err
}

// unwritten is what must be sent again.
func unwritten(msgs []kafka.Message, err error) []kafka.Message {
	var each kafka.WriteErrors
	if !errors.As(err, &each) || len(each) != len(msgs) {
		return msgs
	}
	var out []kafka.Message
	for i, e := range each {
		if e != nil {
			out = append(out, msgs[i])
		}
	}
	return out
}

func (w *writer) close() error {
	err := w.w.Close()
	w.tr.CloseIdleConnections()
	return err
}
