package store

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/corastream/corastream"
	"github.com/dgraph-io/badger/v4"
)

const (
	topic   = "interactions"
	catalog = "items"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// eventAt is the event at an offset of a partition: the whole log is a function, so every process sees the same.
func eventAt(part int32, offset int64, users, items int) corastream.Event {
	r := rand.New(rand.NewPCG(uint64(part)+1, uint64(offset)+1))
	at := epoch.Add(time.Duration(offset)*time.Second + time.Duration(part)*time.Millisecond)
	ev := corastream.Event{
		Pos:  corastream.Position{Topic: topic, Partition: part, Offset: offset},
		User: fmt.Sprintf("u%d-%d", part, skewed(r, users)), Item: fmt.Sprintf("i%d", skewed(r, items)),
		Label: float32(r.IntN(2)), Weight: 1, Time: at.Add(-time.Minute), Appended: at,
	}
	switch takes := rand.New(rand.NewPCG(uint64(part)+9, uint64(offset)+9)); takes.IntN(25) {
	case 0: // takes back
		ev.Label, ev.Retract, ev.Kind = 0, true, "unlike"
	case 1: // takes a like back, where there is one
		ev.Label, ev.Kind = 0, "dislike"
	case 2: // says what the user is
		ev.Label, ev.Item, ev.Kind, ev.Labels = 0, "", corastream.KindLabels, [][]string{{"a"}, {"a", "lang=de"}, {}}[takes.IntN(3)]
	}
	if r.IntN(3) > 0 {
		ev.ID = fmt.Sprintf("e%d-%d", part, offset)
		if r.IntN(20) == 0 && offset > 0 { // a producer's repeat
			ev = eventAt(part, offset-1, users, items)
			ev.Pos.Offset, ev.Appended = offset, at
		}
	}
	return ev
}

// skewed draws small numbers far more often.
func skewed(r *rand.Rand, n int) int { return int(float64(n) * math.Pow(r.Float64(), 2)) }

// biasLearner is a learner of bias and vectors of 64 floats with their Adagrad sums, deterministic and order-sensitive.
func biasLearner(s corastream.State, ev corastream.Event) error {
	shared, err := s.Shared()
	if err != nil {
		return err
	}
	u, err := s.User(ev.User)
	if err != nil {
		return err
	}
	it, err := s.Item(ev.Item)
	if err != nil {
		return err
	}
	grow(&u.Embedding)
	grow(&it.Embedding)
	z := shared.Bias + u.Bias + it.Bias
	for k := range u.Vec {
		z += u.Vec[k] * it.Vec[k]
	}
	g := ev.Weight * (ev.Label - 1/(1+float32(math.Exp(-float64(z)))))
	for k := range u.Vec {
		du, di := g*it.Vec[k], g*u.Vec[k]
		u.Acc[k] += du * du
		it.Acc[k] += di * di
		u.Vec[k] += 0.05 * du / float32(math.Sqrt(float64(u.Acc[k]+1e-6)))
		it.Vec[k] += 0.05 * di / float32(math.Sqrt(float64(it.Acc[k]+1e-6)))
	}
	shared.Bias += 0.001 * g
	u.Bias += 0.05 * g
	it.Bias += 0.05 * g
	for _, e := range []*corastream.Embedding{shared, &u.Embedding, &it.Embedding} {
		e.Version++
		e.Count++
	}
	return nil
}

func grow(e *corastream.Embedding) {
	if len(e.Vec) == 0 {
		e.Vec, e.Acc = make([]float32, 64), make([]float32, 64)
		for k := range e.Vec {
			e.Vec[k] = float32(k%7) / 50
		}
	}
}

func testConfig() Config {
	c := Default()
	c.MemoryLimit, c.ReserveBytes, c.SyncWrites = 64<<20, 64<<20, false
	return c
}

func mustOpen(t testing.TB, dir string, c Config, opts ...Option) *Store {
	t.Helper()
	s, err := Open(dir, c, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// run is n events of one partition as a batch.
func run(part int32, from, to int64, users, items int) corastream.Batch {
	b := corastream.Batch{Spans: []corastream.Span{{Partition: corastream.Partition{Topic: topic, ID: part}, From: from, To: to}}}
	for o := from; o < to; o++ {
		b.Events = append(b.Events, eventAt(part, o, users, items))
	}
	return b
}

func mustCommit(t testing.TB, s *Store, b corastream.Batch) corastream.Commit {
	t.Helper()
	done, err := s.Commit(context.Background(), b, biasLearner)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// scanValues calls f for every key and value.
func scanValues(sn *snap, f func(key, value []byte)) error {
	return scan(sn.txn, nil, nil, func(key []byte, it *badger.Item) (bool, error) {
		return true, it.Value(func(v []byte) error { f(key, v); return nil })
	})
}
