package ingest

import (
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// TestWhoeverWaitsForABatchGetsItWithoutAPause: after a batch that took long, the next one is gathered for a while, but not once
// somebody waits until it is learnt; the one after that is gathered again.
func TestWhoeverWaitsForABatchGetsItWithoutAPause(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg Config) {
		const pause = 3 * time.Second
		cfg.MaxBatchWait = pause
		p, err := NewProducer(cfg, zerolog.Nop())
		must(t, err)
		defer p.Close()
		src, err := NewSource(t.Context(), cfg, noOffsets())
		must(t, err)
		defer src.Close()
		next := func(n int) time.Duration {
			t.Helper()
			must(t, p.Events(t.Context(), events(n, 1)))
			began := time.Now()
			b, err := src.Next(t.Context())
			must(t, err)
			if len(b.Events) != 1 {
				t.Fatalf("%d events", len(b.Events))
			}
			return time.Since(began)
		}
		next(0)
		time.Sleep(pause) // as if it took that long to learn
		src.Hurry()
		if took := next(1); took > pause/2 {
			t.Errorf("with somebody waiting, the batch came after %v", took)
		}
		time.Sleep(pause)
		if took := next(2); took < pause/2 {
			t.Errorf("with nobody waiting, the batch came after %v", took)
		}
	})
}
