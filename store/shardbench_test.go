//go:build linux || darwin || freebsd

package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/rs/zerolog"
)

// tapped is a changelog that counts, and keeps what followers would read.
type tapped struct {
	next  int64
	n     map[string]float64
	bytes map[string]float64
	items []corastream.Change
}

func (l *tapped) Append(_ context.Context, _ uint64, changes []corastream.Change) (int64, [][]byte, error) {
	for _, c := range changes {
		kind := string(c.Key[:2])
		if kind == corastream.ChangeOther && c.Key[2] == pItem {
			kind = "copy"
		}
		l.n[kind]++
		l.bytes[kind] += float64(len(c.Key) + len(c.Value))
		if kind == corastream.ChangeItem {
			l.items = append(l.items, corastream.Change{
				Pos: corastream.Position{Topic: changelogs, Offset: l.next}, Epoch: 1, Seq: c.Seq, Key: append([]byte(nil), c.Key...), Value: append([]byte{}, c.Value...),
			})
		}
		l.next++
	}
	return l.next, nil, nil
}

// BenchmarkShard gives the service times and record sizes of `go run ./cmd/scalesim`, in processor time: one round is 40
// transactions of 1,000 ratings (or clicks, with 4 negatives each) of 200,000 users on 50,000 items by Zipf's law, in one shard of four.
//
//	go test ./store -run - -bench Shard -benchtime 1x
func BenchmarkShard(b *testing.B) {
	const shards, users, items, each, rounds = 4, 200_000, 50_000, 1000, 40
	model, err := cfstream.New(cfstream.Default())
	if err != nil {
		b.Fatal(err)
	}
	c := Default()
	c.SyncWrites = false // a transaction is in the changelog first
	ctx := context.Background()
	r, when := rand.New(rand.NewPCG(1, 2)), time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	user, item := rand.NewZipf(r, 1.1, 8, users-1), rand.NewZipf(r, 1.1, 8, items-1)
	commit := func(b *testing.B, s *Store, batch corastream.Batch) {
		b.Helper()
		if _, err := s.Commit(ctx, batch, model.Learn); err != nil {
			b.Fatal(err)
		}
	}
	open := func(b *testing.B, k int) (*Store, *tapped) {
		s, err := Open(b.TempDir(), c, WithShard(Shard{Index: k, Of: shards, Merger: model.(corastream.Merger)}))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { s.Close() })
		log := &tapped{n: map[string]float64{}, bytes: map[string]float64{}}
		s.Ship(log, 1)
		for from := 0; from < items; from += each {
			batch := corastream.Batch{Spans: []corastream.Span{{Partition: corastream.Partition{Topic: "items"}, From: int64(from), To: int64(from + each)}}}
			var read []corastream.Item
			for n := from; n < from+each; n++ {
				it := corastream.Item{ID: fmt.Sprint("i", n), Title: fmt.Sprintf("A title of the usual length (%d)", n), Pos: corastream.Position{Topic: "items", Offset: int64(n)}}
				batch.Items = append(batch.Items, it)
				if it.Content = make([]float32, 64); s.shard.owns(it.ID) {
					for j := range it.Content {
						it.Content[j] = float32(r.NormFloat64() * .3)
					}
					corastream.QuantizeContent(it.Content)
					read = append(read, it)
				}
			}
			commit(b, s, batch)
			if err := s.Join(ctx, read); err != nil {
				b.Fatal(err)
			}
		}
		return s, log
	}
	// learn makes a shard learn for a while and returns what it sends to the first one.
	learn := func(b *testing.B, s *Store, k int, implicit bool) (sent []corastream.Parcel, us float64) {
		for range rounds {
			p := corastream.Partition{Topic: "in", ID: int32(k)}
			from, _, err := s.Next(p)
			if err != nil {
				b.Fatal(err)
			}
			batch := corastream.Batch{Spans: []corastream.Span{{Partition: p, From: from, To: from + each}}}
			for n := range int64(each) {
				batch.Events = append(batch.Events, corastream.Event{
					Pos: corastream.Position{Topic: p.Topic, Partition: p.ID, Offset: from + n}, User: fmt.Sprint("u", k, "-", user.Uint64()),
					Item: fmt.Sprint("i", item.Uint64()), Label: 1, Weight: 1, Implicit: implicit, Time: when, Appended: when,
				})
			}
			before := cpu()
			commit(b, s, batch)
			us += float64((cpu() - before).Microseconds())
			out := s.Outbox(1 << 20)
			for _, parcel := range out {
				if parcel.To == 0 {
					parcel.Pos = corastream.Position{Topic: "gradients", Offset: int64(len(sent))}
					sent = append(sent, parcel)
				}
			}
			s.Sent(len(out))
		}
		return sent, us / (rounds * each)
	}
	for b.Loop() {
		s, log := open(b, 1)
		clear(log.n)
		clear(log.bytes)
		sent, us := learn(b, s, 1, false)
		b.ReportMetric(us, "us/rating")
		for kind, name := range map[string]string{corastream.ChangeUser: "user", corastream.ChangeItem: "item", "copy": "copy"} {
			b.ReportMetric(log.bytes[kind]/log.n[kind], "B/"+name)
		}
		_, us = learn(b, s, 1, true)
		b.ReportMetric(us, "us/click")

		owner, changes := open(b, 0)
		var batch corastream.Batch
		bytes, merged := 0, 0
		for _, p := range sent {
			batch.Parcels = append(batch.Parcels, p)
			bytes += len(p.Body)
		}
		batch.Spans = []corastream.Span{{Partition: corastream.Partition{Topic: "gradients"}, From: 0, To: int64(len(sent))}}
		for _, p := range sent {
			rd := reader{b: p.Body[2:]}
			if p.Body[1] == 1 {
				rd.embedding()
			}
			merged += rd.count(2)
		}
		before := cpu()
		commit(b, owner, batch)
		b.ReportMetric(float64((cpu()-before).Microseconds())/float64(merged), "us/merged")
		b.ReportMetric(float64(bytes)/float64(merged), "B/parcel-item")

		changes.items = changes.items[:0]
		learn(b, owner, 0, false)
		before = cpu()
		from, n := int64(0), 0
		for ; n+500 <= len(changes.items); n += 500 {
			part := changes.items[n : n+500]
			to := part[499].Pos.Offset + 1
			commit(b, s, corastream.Batch{Changes: part, Spans: []corastream.Span{{Partition: corastream.Partition{Topic: changelogs}, From: from, To: to}}})
			from = to
		}
		b.ReportMetric(float64((cpu()-before).Microseconds())/float64(n), "us/followed")

		cp, err := OpenCopy(b.TempDir(), c, zerolog.Nop())
		if err != nil {
			b.Fatal(err)
		}
		const records = 200_000
		before = cpu()
		for n := 0; n < records; n += each {
			part := make([]corastream.Change, each)
			for i := range part {
				part[i] = changes.items[(n+i)%len(changes.items)]
				part[i].Key, part[i].Seq = fmt.Append(nil, corastream.ChangeUser, n+i), uint64(n+1)
			}
			if err := cp.Apply(context.Background(), part, int64(n+each)); err != nil {
				b.Fatal(err)
			}
		}
		if err := cp.Close(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64((cpu()-before).Microseconds())/records, "us/restored")
	}
}
