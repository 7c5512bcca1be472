package cluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

// TestNewsThatFillsATransactionIsTakenBeforeItsTime: a shard would otherwise follow no more than newsLimit changes in each exchange's
// time, 10,000 a second by default, however idle it is.
func TestNewsThatFillsATransactionIsTakenBeforeItsTime(t *testing.T) {
	x := newExchange(nil, nil, time.Hour, "own")
	x.last = time.Now()
	part := corastream.Partition{Topic: "own", ID: 3}
	add := func(from, to int) {
		b := corastream.Batch{Spans: []corastream.Span{{Partition: part, From: int64(from), To: int64(to)}}}
		for n := from; n < to; n++ {
			b.Changes = append(b.Changes, corastream.Change{Pos: corastream.Position{Topic: "own", Partition: 3, Offset: int64(n)}, Key: fmt.Append(nil, "i:", n), Value: []byte{1}})
		}
		x.add(b)
	}
	add(0, NewsLimit-1)
	if _, ok := x.take(); ok {
		t.Fatal("an exchange before its time, though there was room")
	}
	add(NewsLimit-1, NewsLimit)
	b, ok := x.take()
	if !ok || len(b.Changes) != NewsLimit || len(b.Spans) != 1 || b.Spans[0].To != NewsLimit {
		t.Fatalf("taken: %v, %d changes, %v", ok, len(b.Changes), b.Spans)
	}
}
