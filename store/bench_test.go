//go:build linux || darwin || freebsd

package store

import (
	"context"
	"fmt"
	"io"
	mrand "math/rand"
	"syscall"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

// BenchmarkCommit is events/s with vectors of 64 floats and their Adagrad sums, 200k users and 50k items by Zipf's law, two
// thirds of the events with ids, SyncWrites as in production. It starts from an empty store, so every user is new once.
func BenchmarkCommit(b *testing.B) {
	const users, items = 200_000, 50_000
	log := make([]corastream.Event, 400_000)
	r := mrand.New(mrand.NewSource(1))
	byUser, byItem := mrand.NewZipf(r, 1.1, 8, users-1), mrand.NewZipf(r, 1.1, 8, items-1)
	for i := range log {
		log[i] = eventAt(0, int64(i), users, items)
		log[i].User, log[i].Item = fmt.Sprint("user-", byUser.Uint64()), fmt.Sprint("item-", byItem.Uint64())
	}
	for _, size := range []int{256, 1024, 4096} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			c := Default()
			s := mustOpen(b, b.TempDir(), c)
			b.ReportAllocs()
			before := cpu()
			b.ResetTimer()
			parts, records := 0, 0
			for n := 0; n < b.N; n += size {
				at := n % (len(log) - size)
				round := int64(n/(len(log)-size)) * int64(len(log))
				batch := corastream.Batch{
					Spans:  []corastream.Span{{Partition: corastream.Partition{Topic: topic}, From: int64(at) + round, To: int64(at+size) + round}},
					Events: make([]corastream.Event, size),
				}
				copy(batch.Events, log[at:at+size])
				for i := range batch.Events {
					batch.Events[i].Pos.Offset += round
				}
				seq := s.snap.seq
				done, err := s.Commit(context.Background(), batch, biasLearner)
				if err != nil {
					b.Fatal(err)
				}
				records += len(done.Users) + len(done.Items)
				parts += int(s.snap.seq - seq)
			}
			b.StopTimer()
			b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "cpu-us/event")
			b.ReportMetric(float64(b.N)/(cpu()-before).Seconds(), "events/cpu-s")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(records)/float64(b.N), "records/event")
			b.ReportMetric(float64(parts)*float64(size)/float64(b.N), "txn/batch")
		})
	}
}

// cpu is the time that all threads of the process have used: Badger's flushes and compactions and the collector included.
func cpu() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkCommitSteps is what a list model costs beside itself: synced batches of 1,024 events by Zipf's law as in
// BenchmarkCommit, without one and with one that does nothing and looks back 50 interactions. `heavy` are 20 users of
// 4,000 interactions each.
func BenchmarkCommitSteps(b *testing.B) {
	const size = 1024
	for _, limit := range []int{256, 4096} {
		for _, window := range []int{0, 50} {
			for _, heavy := range []bool{false, true} {
				b.Run(fmt.Sprintf("history_limit=%d/window=%d/heavy=%v", limit, window, heavy), func(b *testing.B) {
					r := mrand.New(mrand.NewSource(1))
					byUser, byItem := mrand.NewZipf(r, 1.1, 8, 200_000-1), mrand.NewZipf(r, 1.1, 8, 50_000-1)
					c := Default()
					c.HistoryLimit = limit
					var opts []Option
					if window > 0 {
						opts = append(opts, WithDerived(idle(window)))
					}
					s := mustOpen(b, b.TempDir(), c, opts...)
					at := int64(0)
					commit := func(size int64) {
						batch := corastream.Batch{Spans: []corastream.Span{{Partition: corastream.Partition{Topic: topic}, From: at, To: at + size}}}
						for range size {
							ev := eventAt(0, at, 10, 10)
							ev.ID, ev.User, ev.Item = "", fmt.Sprint("user-", byUser.Uint64()), fmt.Sprint("item-", byItem.Uint64())
							if heavy {
								ev.User = fmt.Sprint("user-", r.Intn(20))
							}
							batch.Events = append(batch.Events, ev)
							at++
						}
						b.StartTimer()
						if _, err := s.Commit(context.Background(), batch, biasLearner); err != nil {
							b.Fatal(err)
						}
						b.StopTimer()
					}
					b.StopTimer()
					if heavy {
						for at < 80_000 {
							commit(4096)
						}
					}
					b.ResetTimer()
					before := cpu()
					first := at
					for at-first < int64(b.N) {
						commit(size)
					}
					n := float64(at - first)
					b.ReportMetric(float64((cpu()-before).Microseconds())/n, "cpu-us/event")
					b.ReportMetric(n/b.Elapsed().Seconds(), "events/s")
					if s.derived != nil {
						b.ReportMetric(float64(s.derived.bytes)/float64(s.derived.events), "step-bytes/event")
					}
				})
			}
		}
	}
}

// idle is a list model that keeps nothing.
type idle int

func (w idle) Window() int                                { return int(w) }
func (idle) Describe(corastream.Item)                     {}
func (idle) Learn(corastream.Step)                        {}
func (idle) Rank(corastream.Query) []corastream.Candidate { return nil }
func (idle) Save(io.Writer) error                         { return nil }
func (idle) Load(io.Reader) error                         { return nil }

// BenchmarkOpenAppliesSteps is opening a store that was killed so many events after its last table file, with a list model
// that does nothing, against one without.
func BenchmarkOpenAppliesSteps(b *testing.B) {
	r := mrand.New(mrand.NewSource(1))
	byUser, byItem := mrand.NewZipf(r, 1.1, 8, 200_000-1), mrand.NewZipf(r, 1.1, 8, 50_000-1)
	s := mustOpen(b, b.TempDir(), Default(), WithDerived(idle(50)))
	s.derived.every = 1 << 30
	for at := int64(0); at < tableEvents; at += 1000 {
		batch := corastream.Batch{Spans: []corastream.Span{{Partition: corastream.Partition{Topic: topic}, From: at, To: at + 1000}}}
		for o := at; o < at+1000; o++ {
			ev := eventAt(0, o, 10, 10)
			ev.ID, ev.User, ev.Item = "", fmt.Sprint("user-", byUser.Uint64()), fmt.Sprint("item-", byItem.Uint64())
			batch.Events = append(batch.Events, ev)
		}
		mustCommit(b, s, batch)
	}
	k := killedCopy(b, s)
	k.Close()
	dir := k.dir
	for _, opts := range [][]Option{nil, {WithDerived(idle(50))}} {
		b.Run(fmt.Sprintf("list=%v", len(opts) > 0), func(b *testing.B) {
			for b.Loop() {
				k, err := Open(dir, Default(), opts...)
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				k.failed = ErrFailed // no table file
				k.Close()
				b.StartTimer()
			}
		})
	}
}

// BenchmarkTableFile is a table of 256 MiB: how long commits wait while it is copied, its writing beside them, its reading.
func BenchmarkTableFile(b *testing.B) {
	table := &block{idle(5), make([]byte, 256<<20)}
	for b.Loop() {
		s := mustOpen(b, b.TempDir(), testConfig(), WithDerived(table))
		mustCommit(b, s, run(0, 0, 100, 10, 10))
		s.writer.Lock()
		began := time.Now()
		s.save()
		b.ReportMetric(time.Since(began).Seconds()*1e3, "copy-ms")
		s.saved(<-s.derived.saving)
		b.ReportMetric(time.Since(began).Seconds()*1e3, "written-ms")
		s.writer.Unlock()
		s.Close()
		began = time.Now()
		mustOpen(b, s.dir, testConfig(), WithDerived(table)).Close()
		b.ReportMetric(time.Since(began).Seconds()*1e3, "opened-ms")
	}
}

// block is a list model whose table is so many bytes.
type block struct {
	idle
	b []byte
}

func (l *block) Save(w io.Writer) error {
	_, err := w.Write(l.b)
	return err
}

func (l *block) Load(r io.Reader) error {
	_, err := io.ReadFull(r, l.b)
	return err
}
