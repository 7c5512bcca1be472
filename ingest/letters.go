package ingest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/ingest/decode"
)

// Letters reads the dead-letter topic, and sends what its letters hold again to the topic that it came from.
type Letters struct {
	cfg      Config
	producer *Producer
	log      zerolog.Logger
}

// NewLetters makes one. It connects when it is used.
func NewLetters(cfg Config, producer *Producer, log zerolog.Logger) *Letters {
	return &Letters{cfg, producer, log}
}

// Letter is a dead letter where it lies.
type Letter struct {
	corastream.DeadLetter
	At   corastream.Position // on the dead-letter topic
	Time time.Time           // of its record there
	Size int                 // bytes of Value, also where Newest cut it
	Cut  bool                // the topic has only the beginning of what the record held
}

func readLetter(r Record) Letter {
	l := Letter{DeadLetter: DecodeLetter(r), At: r.Pos, Time: r.Time, Size: len(r.Value)}
	l.Cut = r.TooLarge > 0 || l.Reason == decode.ReasonTooLarge || slices.ContainsFunc(r.Headers, func(h Header) bool { return h.Key == headerCut })
	return l
}

// Newest returns the newest n letters at most, newest first, each with the first 8 KiB of its bytes.
func (l *Letters) Newest(ctx context.Context, n int) ([]Letter, error) {
	in, err := NewConsumer(ctx, l.cfg, l.cfg.Topics.DeadLetters, Last(int64(n)), false, l.log)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	var out []Letter
	for {
		r, err := in.Next(ctx)
		if errors.Is(err, corastream.ErrEnd) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read dead letters: %w", err)
		}
		letter := readLetter(r)
		letter.Key, letter.Value = bytes.Clone(letter.Key[:min(keepLarge, len(letter.Key))]), bytes.Clone(letter.Value[:min(keepLarge, len(letter.Value))])
		out = append(out, letter)
	}
	slices.SortStableFunc(out, func(a, b Letter) int {
		return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(b.At.Offset, a.At.Offset))
	})
	return out[:min(n, len(out))], nil
}

// Find returns the letter at a position of the dead-letter topic; ErrUnknown when none lies there.
func (l *Letters) Find(ctx context.Context, partition int32, offset int64) (Letter, error) {
	r, err := l.record(ctx, corastream.Position{Topic: l.cfg.Topics.DeadLetters, Partition: partition, Offset: offset})
	if err != nil {
		return Letter{}, err
	}
	return readLetter(r), nil
}

// Resend writes a letter's record again, as it was: key, bytes and headers are read from the log where it still has them, and from
// the letter otherwise. It returns where the new record lies.
func (l *Letters) Resend(ctx context.Context, letter Letter) (corastream.Position, error) {
	from, t := letter.Pos, l.cfg.Topics
	if !slices.Contains([]string{t.Interactions, t.Items, t.Requests}, from.Topic) {
		return corastream.Position{}, corastream.Usagef("id", "produce the record to the topic that it belongs on",
			"it came from topic %.80q, which this program does not read", from.Topic)
	}
	again, err := l.record(ctx, from)
	switch {
	case errors.Is(err, corastream.ErrUnknown) || err == nil && !bytes.HasPrefix(again.Value, letter.Value):
		if letter.Cut {
			return corastream.Position{}, corastream.Usagef("id", "produce the record again",
				"the letter holds the beginning of the record alone, and the record is no longer at %s", place(from))
		}
		again = Record{Key: letter.Key, Value: letter.Value}
	case err != nil:
		return corastream.Position{}, err
	case again.TooLarge > 0:
		return corastream.Position{}, corastream.Usagef("id", "raise kafka.max_record_bytes, start again, and send it then",
			"the record has %d bytes, which is still too much", again.TooLarge)
	}
	at, err := l.producer.Append(ctx, from.Topic, []Record{again})
	if tooLargeToWrite(err) {
		return corastream.Position{}, corastream.Usagef("id", "produce the record again, or raise max.message.bytes of the topic",
			"the record has %d bytes, more than one batch holds", len(again.Value))
	}
	if err != nil {
		return corastream.Position{}, fmt.Errorf("send a dead letter again: %w", err)
	}
	return at[0], nil
}

func place(p corastream.Position) string {
	return p.Topic + "/" + strconv.Itoa(int(p.Partition)) + "@" + strconv.FormatInt(p.Offset, 10)
}

// record reads the record at a position. It is ErrUnknown when the log does not have it, or not any more.
func (l *Letters) record(ctx context.Context, at corastream.Position) (Record, error) {
	none := fmt.Errorf("nothing lies at %s: %w", place(at), corastream.ErrUnknown)
	a, err := newAccess(l.cfg)
	if err != nil {
		return Record{}, err
	}
	parts, err := a.partitions(ctx, []string{at.Topic})
	if err != nil {
		return Record{}, fmt.Errorf("read %s: %w", place(at), err)
	}
	part := corastream.Partition{Topic: at.Topic, ID: at.Partition}
	if at.Offset < 0 || !slices.Contains(parts, part) {
		return Record{}, none
	}
	t := l.cfg.tail(a, part, at.Offset, true) // a log that begins later is no error here
	t.patience = 0
	defer t.drop()
	for fails := 0; ; {
		ch, err := t.read(ctx, pollWait)
		switch {
		case errors.Is(err, corastream.ErrGap):
			return Record{}, none
		case err != nil && ctx.Err() == nil && retryable(err) && fails < maxFails:
			if fails++; pause(ctx, fails) != nil {
				return Record{}, context.Cause(ctx)
			}
			continue
		case err != nil:
			return Record{}, fmt.Errorf("read %s: %w", place(at), err)
		}
		for _, r := range ch.records {
			if r.Pos.Offset == at.Offset {
				return r, nil
			}
		}
		if ch.to > at.Offset || ch.end >= 0 && ch.end <= at.Offset {
			return Record{}, none
		}
	}
}
