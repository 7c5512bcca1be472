package ingest

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/ingest/decode"
)

// Bound is one end of a range of a topic; the zero value is the log's own beginning or end.
type Bound struct {
	offset int64
	time   time.Time
	kind   int8
}

const (
	boundNone int8 = iota
	boundOffset
	boundTime
	boundLast
)

// AtOffset is this offset in every partition.
func AtOffset(n int64) Bound { return Bound{offset: n, kind: boundOffset} }

// AtTime is the first record appended at or after t, in every partition.
func AtTime(t time.Time) Bound { return Bound{time: t, kind: boundTime} }

// Last is n records before the end, in every partition.
func Last(n int64) Bound { return Bound{offset: n, kind: boundLast} }

// ParseBound reads "", "earliest" or "latest" (the log's beginning or end), an offset, a time (RFC 3339 or a date), or
// last=2h (that long before now).
func ParseBound(key, s string) (Bound, error) {
	switch s {
	case "", startEarliest, startLatest:
		return Bound{}, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 {
		return AtOffset(n), nil
	}
	if ago, ok := strings.CutPrefix(s, "last="); ok {
		d, err := time.ParseDuration(ago)
		if err != nil || d <= 0 {
			return Bound{}, corastream.Usagef(key, "write last=2h or last=30m", "%q is not a length of time", ago)
		}
		return AtTime(time.Now().Add(-d)), nil
	}
	if t, ok := decode.Time(s); ok {
		return AtTime(t), nil
	}
	return Bound{}, corastream.Usagef(key, "give earliest, latest, an offset such as 1200, a time such as 2026-11-23T10:00:00Z, or last=2h", "%q is neither an offset nor a time", s)
}

// resolve gives the offset in one partition. The range is [first, last) as the log stands now.
func (b Bound) resolve(ctx context.Context, c *conn, p corastream.Partition, natural, last int64) (int64, error) {
	switch b.kind {
	case boundOffset:
		return min(b.offset, last), nil
	case boundLast:
		return max(natural, last-b.offset), nil
	case boundTime:
		n, err := c.offset(ctx, p, b.time.UnixMilli())
		if err == nil && n < 0 {
			n = last // after the newest record
		}
		return n, err
	}
	return natural, nil
}

// Range reads a part of topics once, as a corastream.Source for replays: all partitions, no group, no store. Partitions
// are merged by when events happened, ties by topic and partition, so two runs over one log give the same batches.
type Range struct {
	cfg     Config
	decoder *Decoder
	lanes   []*lane
}

// lane is one partition's part of a range.
type lane struct {
	cursor   *cursor
	part     corastream.Partition
	from, to int64
	block    *block // nil: to be read; its marks are all within the range
	wants    wants
}

// NewRange opens [from, to) of the topics; a topic that the config does not name is read as interactions.
func NewRange(ctx context.Context, cfg Config, topics []string, from, to Bound) (*Range, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a, err := newAccess(cfg)
	if err != nil {
		return nil, err
	}
	policies, err := compacted(ctx, a, cfg.Topics, topics)
	if err != nil {
		return nil, err
	}
	parts, err := a.partitions(ctx, topics)
	if err != nil {
		return nil, err
	}
	r := &Range{cfg: cfg, decoder: NewDecoder(cfg)}
	r.decoder.copies = false // a range of the log has events where they came first
	for _, p := range parts {
		l := &lane{part: p, cursor: &cursor{tail: cfg.tail(a, p, 0, policies[p.Topic])}}
		if err := l.resolve(ctx, from, to); err != nil {
			r.Close()
			return nil, err
		}
		r.lanes = append(r.lanes, l)
	}
	return r, nil
}

// resolve fixes the lane's offsets at the present end of the log.
func (l *lane) resolve(ctx context.Context, from, to Bound) error {
	t := l.cursor.tail
	cl, err := t.access.describe(ctx, l.part.Topic)
	if err != nil {
		return err
	}
	addr, err := cl.leader(l.part)
	if err != nil {
		return err
	}
	c, err := t.access.dial(ctx, addr)
	if err != nil {
		return err
	}
	defer c.Close()
	first, err := c.offset(ctx, l.part, firstOffset)
	if err != nil {
		return err
	}
	last, err := c.offset(ctx, l.part, lastOffset)
	if err != nil {
		return err
	}
	if l.from, err = from.resolve(ctx, c, l.part, first, last); err != nil {
		return err
	}
	if l.to, err = to.resolve(ctx, c, l.part, last, last); err != nil {
		return err
	}
	if l.from < first && l.from < l.to && !t.compacted {
		return t.gap("the range begins at %d, but the log at %d", l.from, first)
	}
	l.cursor.seek(l.from)
	return nil
}

// fill makes sure the lane has a block while it has offsets left.
func (l *lane) fill(ctx context.Context, d *Decoder) error {
	if l.block != nil && l.block.taken < len(l.block.marks) || l.cursor.at >= l.to {
		return nil
	}
	c := l.cursor
	from := c.at
	c.rest = nil
	if err := c.fill(ctx, l.to); err != nil {
		return err
	}
	ch := chunk{from: from, to: min(c.tail.next, l.to)}
	for _, r := range c.rest {
		if r.Pos.Offset < l.to {
			ch.records = append(ch.records, r)
		}
	}
	c.at = ch.to
	var err error
	l.block, err = decodeChunk(d, &l.wants, ch, time.Time{})
	return err
}

// head is when the lane's next record happened.
func (l *lane) head() (at int64, ok bool) {
	if l.block == nil || l.block.taken == len(l.block.marks) {
		return 0, false
	}
	return l.block.marks[l.block.taken].at, true
}

// Next gives the next batch, ErrEnd after the last.
func (r *Range) Next(ctx context.Context) (corastream.Batch, error) {
	var b corastream.Batch
	for n := 0; n < r.cfg.MaxBatchEvents; {
		l, err := r.earliest(ctx)
		if err != nil {
			return corastream.Batch{}, err
		}
		if l == nil {
			break
		}
		from, to, got := l.block.take(&b, 1)
		n += got
		if k := len(b.Spans); k > 0 && b.Spans[k-1].Partition == l.part && b.Spans[k-1].To == from {
			b.Spans[k-1].To = to
		} else {
			b.Spans = append(b.Spans, corastream.Span{Partition: l.part, From: from, To: to})
		}
	}
	if len(b.Spans) == 0 {
		return corastream.Batch{}, corastream.ErrEnd
	}
	return b, nil
}

// earliest is the lane whose next record happened first; nil when all are used up.
func (r *Range) earliest(ctx context.Context) (best *lane, err error) {
	var when int64
	for _, l := range r.lanes {
		if err := l.fill(ctx, r.decoder); err != nil {
			return nil, fmt.Errorf("read range: %w", err)
		}
		if at, ok := l.head(); ok && (best == nil || at < when) {
			best, when = l, at
		}
	}
	return best, nil
}

// Extent is one partition's part of a range: offsets [From, To).
type Extent struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	From      int64  `json:"from"`
	To        int64  `json:"to"`
}

// Extents are the range's parts, as they were fixed when it was opened.
func (r *Range) Extents() []Extent {
	out := make([]Extent, len(r.lanes))
	for i, l := range r.lanes {
		out[i] = Extent{l.part.Topic, l.part.ID, l.from, max(l.from, l.to)}
	}
	return out
}

// Len is how many offsets the range holds, for progress; control records and holes count.
func (r *Range) Len() (n int64) {
	for _, l := range r.lanes {
		n += max(0, l.to-l.from)
	}
	return n
}

// Counts of what was decoded.
func (r *Range) Counts() *Counts { return r.decoder.Counts }

// Close closes the connections.
func (r *Range) Close() error {
	for _, l := range r.lanes {
		l.cursor.tail.drop()
	}
	return nil
}
