package ingest

import (
	"context"
	"slices"

	"github.com/corastream/corastream"
)

// Spans reads given offsets again, for a replay in the journal's order. For one goroutine.
type Spans struct {
	// Keep must be what Hooks.Keep was.
	Keep func(key []byte) bool

	cfg     Config
	access  *access
	decoder *Decoder
	compact map[string]bool
	cursors map[corastream.Partition]*cursor
}

// NewSpans makes a reader; it connects when first used.
func NewSpans(cfg Config) (*Spans, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a, err := newAccess(cfg)
	if err != nil {
		return nil, err
	}
	return &Spans{cfg: cfg, access: a, decoder: NewDecoder(cfg), cursors: map[corastream.Partition]*cursor{}}, nil
}

// ReadSpans reads exactly these offsets, in this order, and gives the batch that Next gave with these spans: decoding is
// a function of the record and the config alone. Missing records are ErrGap, but on a compacted topic, where records
// that newer ones superseded are absent.
func (s *Spans) ReadSpans(ctx context.Context, spans []corastream.Span) (corastream.Batch, error) {
	b := corastream.Batch{Spans: slices.Clone(spans)}
	for _, sp := range spans {
		if err := s.one(ctx, &b, sp); err != nil {
			return corastream.Batch{}, err
		}
	}
	return b, nil
}

func (s *Spans) one(ctx context.Context, b *corastream.Batch, sp corastream.Span) error {
	c, err := s.cursor(ctx, sp.Partition)
	if err != nil {
		return err
	}
	c.seek(sp.From)
	for c.at < sp.To {
		if len(c.rest) == 0 {
			if err := c.fill(ctx, sp.To); err != nil {
				return err
			}
			continue
		}
		r := c.rest[0]
		if r.Pos.Offset >= sp.To {
			c.at = sp.To // what is between was control records or holes
			break
		}
		if err := s.decoder.take(b, &c.wants, r); err != nil {
			return err
		}
		c.rest = c.rest[1:]
		c.at = r.Pos.Offset + r.Covers
	}
	return nil
}

func (s *Spans) cursor(ctx context.Context, p corastream.Partition) (*cursor, error) {
	if c := s.cursors[p]; c != nil {
		return c, nil
	}
	if _, ok := s.compact[p.Topic]; !ok {
		m, err := compacted(ctx, s.access, s.cfg.Topics, []string{p.Topic})
		if err != nil {
			return nil, err
		}
		if s.compact == nil {
			s.compact = map[string]bool{}
		}
		s.compact[p.Topic] = m[p.Topic]
	}
	c := &cursor{tail: s.cfg.tail(s.access, p, 0, s.compact[p.Topic]), at: -1, wants: wants{keep: s.Keep}}
	s.cursors[p] = c
	return c, nil
}

// Counts of what was decoded.
func (s *Spans) Counts() *Counts { return s.decoder.Counts }

// Close closes the connections.
func (s *Spans) Close() error {
	for _, c := range s.cursors {
		c.tail.drop()
	}
	return nil
}

// cursor walks one partition record by record and keeps what it has read ahead.
type cursor struct {
	tail *tail
	at   int64    // every offset before it is done
	rest []Record // read, not used

	wants wants
}

func (c *cursor) seek(offset int64) {
	if c.at == offset {
		return
	}
	if offset < c.at {
		c.wants.order = order{}
	}
	c.at, c.rest, c.tail.next = offset, nil, offset
}

// fill reads on, through restarts of the broker, until there is a record or `to` is passed.
func (c *cursor) fill(ctx context.Context, to int64) error {
	for fails := 0; ; {
		ch, err := c.tail.read(ctx, pollWait)
		switch {
		case err != nil:
			if fails++; ctx.Err() != nil || !retryable(err) && !isBeyond(err) || fails > maxFails {
				return err
			}
			if err := pause(ctx, fails); err != nil {
				return err
			}
		case len(ch.records) > 0:
			c.rest = ch.records
			return nil
		case ch.to > ch.from:
			if c.at = ch.to; c.at >= to { // control records, or holes
				return nil
			}
		case ch.end >= 0 && ch.end < to:
			return c.tail.gap("the log ends at %d, before %d", ch.end, to)
		default:
			fails = 0
		}
	}
}

// maxFails bounds a bounded read's attempts in a row: about a minute of a broker's absence.
const maxFails = 60
