package ingest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/ingest/devbroker"
)

func benchBrokers(b *testing.B, run func(b *testing.B, cfg Config)) {
	at := func(b *testing.B, addr string) Config {
		cfg := Default()
		cfg.Brokers, cfg.Group, cfg.Create.Replication = []string{addr}, "", 1
		suffix := time.Now().Format(".150405.000000")
		for _, p := range []*string{&cfg.Topics.Interactions, &cfg.Topics.Items, &cfg.Topics.Requests, &cfg.Topics.Recommendations, &cfg.Topics.DeadLetters} {
			*p += suffix
		}
		if err := EnsureTopics(b.Context(), cfg); err != nil {
			b.Fatal(err)
		}
		return cfg
	}
	b.Run("embedded", func(b *testing.B) {
		br, err := devbroker.Start(devbroker.Options{Dir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		defer br.Close()
		run(b, at(b, br.Addr()))
	})
	if addr := os.Getenv("CORASTREAM_KAFKA"); addr != "" {
		b.Run("kafka", func(b *testing.B) { run(b, at(b, addr)) })
	}
}

func noOffsets() Hooks {
	return Hooks{Next: func(corastream.Partition) (int64, bool, error) { return 0, false, nil }, Log: zerolog.Nop()}
}

// BenchmarkStream writes 100,000 events and reads them as batches, broker included.
func BenchmarkStream(b *testing.B) {
	benchBrokers(b, func(b *testing.B, cfg Config) {
		const total = 100_000
		in := events(0, total)
		p, err := NewProducer(cfg, zerolog.Nop())
		if err != nil {
			b.Fatal(err)
		}
		defer p.Close()
		for b.Loop() {
			start := time.Now()
			if err := p.Events(b.Context(), in); err != nil {
				b.Fatal(err)
			}
			wrote := time.Since(start)
			start = time.Now()
			src, err := NewSource(b.Context(), cfg, noOffsets())
			if err != nil {
				b.Fatal(err)
			}
			n := 0
			for n < total {
				batch, err := src.Next(b.Context())
				if err != nil && !errors.Is(err, corastream.ErrEnd) {
					b.Fatal(err)
				}
				n += len(batch.Events)
			}
			b.ReportMetric(total/wrote.Seconds(), "written/s")
			b.ReportMetric(float64(n)/time.Since(start).Seconds(), "read/s")
			src.Close()
		}
	})
}

// BenchmarkLatency is the time from handing a lone event to a producer until Next returns it, with MaxBatchWait at 1 ms.
func BenchmarkLatency(b *testing.B) {
	benchBrokers(b, func(b *testing.B, cfg Config) {
		cfg.MaxBatchWait = time.Millisecond
		p, err := NewProducer(cfg, zerolog.Nop())
		if err != nil {
			b.Fatal(err)
		}
		defer p.Close()
		src, err := NewSource(b.Context(), cfg, noOffsets())
		if err != nil {
			b.Fatal(err)
		}
		defer src.Close()
		var took []time.Duration
		for b.Loop() {
			start := time.Now()
			if err := p.Events(b.Context(), events(0, 1)); err != nil {
				b.Fatal(err)
			}
			if _, err := src.Next(b.Context()); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(start))
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	})
}

// BenchmarkChangelog writes 100,000 vectors of about 500 bytes in transactions of 1,000 and reads them from the first on, by codec.
func BenchmarkChangelog(b *testing.B) {
	benchBrokers(b, func(b *testing.B, cfg Config) {
		const total, each = 100_000, 1000
		random := rand.New(rand.NewPCG(1, 2))
		all := make([]corastream.Change, total)
		for i := range all {
			v := []byte{1, 7, 12}
			for range 61 { // parameters
				v = binary.LittleEndian.AppendUint32(v, math.Float32bits(float32(random.NormFloat64()*.1)))
			}
			for range 61 { // Adagrad sums
				v = binary.LittleEndian.AppendUint32(v, math.Float32bits(float32(.01+random.ExpFloat64())))
			}
			all[i] = corastream.Change{Key: fmt.Append(nil, "u:", i), Value: v}
		}
		for code, name := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
			if name == "gzip" {
				continue
			}
			b.Run(name, func(b *testing.B) {
				cfg := cfg
				cfg.Shards = 1
				cfg.Topics.Embeddings += fmt.Sprint(name, time.Now().UnixNano())
				cfg.Topics.Gradients += fmt.Sprint(name, time.Now().UnixNano())
				if err := EnsureTopics(b.Context(), cfg); err != nil {
					b.Fatal(err)
				}
				c, err := OpenChangelog(cfg, 0, "bench", zerolog.Nop())
				if err != nil {
					b.Fatal(err)
				}
				defer c.Close()
				c.post.codec = protocol.Attributes(code)
				seq, next := uint64(0), int64(0)
				if err := c.Claim(b.Context(), 0); err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					start := time.Now()
					for i := 0; i < total; i += each {
						seq++
						if next, _, err = c.Append(b.Context(), seq, all[i:i+each]); err != nil {
							b.Fatal(err)
						}
					}
					b.ReportMetric(total/time.Since(start).Seconds(), "written/s")
					r, err := OpenChangelog(cfg, 0, "bench", zerolog.Nop())
					if err != nil {
						b.Fatal(err)
					}
					start = time.Now()
					n := 0
					if _, err := r.Read(b.Context(), next-total, func(changes []corastream.Change) error { n += len(changes); return nil }); err != nil || n != total {
						b.Fatal(n, err)
					}
					b.ReportMetric(total/time.Since(start).Seconds(), "read/s")
					r.Close()
				}
			})
		}
	})
}
