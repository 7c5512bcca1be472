package ingest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	kafka "github.com/segmentio/kafka-go"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/ingest/devbroker"
)

func TestReadingGoesOnFromTheWatermark(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg Config) {
		p := producer(t, cfg)
		s := newStore()
		for i := range 4 {
			must(t, p.Events(t.Context(), events(i*250, 250)))
			if i == 2 {
				cfg.Group = "" // without a group it is the same
			}
			mustDrain(t, cfg, s)
			sameIDs(t, s.events(), (i+1)*250)
		}
		if s.repeated+s.below > 0 {
			t.Errorf("%d records handed out twice, %d below the watermark", s.repeated, s.below)
		}
	})
}

func TestGroupOffsetsAreReported(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg Config) {
		must(t, producer(t, cfg).Events(t.Context(), events(0, 200)))
		s := newStore()
		mustDrain(t, cfg, s)
		client := &kafka.Client{Addr: kafka.TCP(cfg.Brokers...), Transport: &kafka.Transport{}}
		res, err := client.OffsetFetch(t.Context(), &kafka.OffsetFetchRequest{
			GroupID: cfg.Group,
			Topics:  map[string][]int{cfg.Topics.Interactions: {0, 1, 2, 3}},
		})
		must(t, err)
		for _, p := range res.Topics[cfg.Topics.Interactions] {
			want := s.next[corastream.Partition{Topic: cfg.Topics.Interactions, ID: int32(p.Partition)}]
			if p.CommittedOffset != want {
				t.Errorf("partition %d: the group says %d, the store %d", p.Partition, p.CommittedOffset, want)
			}
		}
	})
}

func TestTheSameSpansGiveTheSameBatch(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg Config) {
		cfg.MaxBatchEvents = 70
		p := producer(t, cfg)
		must(t, p.Items(t.Context(), []corastream.Item{{ID: "i1", Title: "Heat"}}))
		must(t, p.Events(t.Context(), events(0, 500)))
		must(t, p.Raw(t.Context(), cfg.Topics.Interactions, []Record{
			{Key: []byte("u1"), Value: []byte(`{"item_id":"x"}`)},
			{Value: []byte(`[{"user_id":"a","item_id":"b"},{"user_id":"a"}]`)},
		}))
		s := newStore()
		mustDrain(t, cfg, s)
		if len(s.batches) < 6 {
			t.Fatalf("%d batches", len(s.batches))
		}
		again, err := NewSpans(cfg)
		must(t, err)
		defer again.Close()
		for i, want := range s.batches {
			got, err := again.ReadSpans(t.Context(), want.Spans)
			must(t, err)
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("batch %d\n got %+v\nwant %+v", i, got, want)
			}
		}
		end := s.next[corastream.Partition{Topic: cfg.Topics.Interactions}]
		_, err = again.ReadSpans(t.Context(), []corastream.Span{{Partition: corastream.Partition{Topic: cfg.Topics.Interactions}, From: end, To: end + 5}})
		if !errors.Is(err, corastream.ErrGap) {
			t.Errorf("spans beyond the log's end: %v", err)
		}
	})
}

func TestARangeIsMergedByTimeAndRepeatable(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg Config) {
		cfg.MaxBatchEvents = 64
		p := producer(t, cfg)
		must(t, p.Events(t.Context(), events(0, 400)))
		read := func(from, to Bound) (ids []string) {
			r, err := NewRange(t.Context(), cfg, []string{cfg.Topics.Interactions}, from, to)
			must(t, err)
			defer r.Close()
			for {
				b, err := r.Next(t.Context())
				if errors.Is(err, corastream.ErrEnd) {
					return ids
				}
				must(t, err)
				for _, e := range b.Events {
					ids = append(ids, e.ID)
				}
			}
		}
		all := read(Bound{}, Bound{})
		want := make([]string, 400)
		for i, e := range events(0, 400) {
			want[i] = e.ID
		}
		if !slices.Equal(all, want) {
			t.Errorf("order %v", all)
		}
		if part := read(AtOffset(3), AtOffset(10)); len(part) != 4*7 {
			t.Errorf("offsets 3 to 10 of 4 partitions gave %d events", len(part))
		}
		if none := read(AtTime(time.Now().Add(time.Hour)), Bound{}); len(none) != 0 {
			t.Errorf("%d events from the future", len(none))
		}
		if all := read(AtTime(time.Now().Add(-time.Hour)), AtTime(time.Now().Add(time.Hour))); len(all) != 400 {
			t.Errorf("%d events within the hour", len(all))
		}
	})
}

// TestNothingIsLostOrRepeatedWhenASecondReaderComesAndGoes runs two sources that share one store's watermarks.
func TestNothingIsLostOrRepeatedWhenASecondReaderComesAndGoes(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg Config) {
		cfg.MaxBatchWait = 5 * time.Millisecond
		const total = 6000
		s := newStore()
		read := func(ctx context.Context) {
			src, err := NewSource(ctx, cfg, s.hooks(t))
			if err != nil {
				t.Error(err)
				return
			}
			defer src.Close()
			for {
				b, err := src.Next(ctx)
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				s.commit(t, b)
				src.Committed(b.Spans)
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { read(ctx) })
		p := producer(t, cfg)
		var second sync.WaitGroup
		ctx2, leave := context.WithCancel(ctx)
		defer leave()
		for i := 0; i < total; i += 100 {
			switch i {
			case total / 4:
				second.Go(func() { read(ctx2) })
			case total / 4 * 3:
				leave()
				second.Wait()
			}
			must(t, p.Events(t.Context(), events(i, 100)))
			if i%1000 == 0 {
				until(t, "the readers follow", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.seen) >= i })
			}
		}
		until(t, "all events are read", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.seen) >= total })
		stop()
		wg.Wait()
		got := map[string]bool{}
		for _, e := range s.events() {
			got[e.ID] = true
		}
		if len(got) != total || len(s.seen) != total {
			t.Errorf("%d events, %d positions of %d", len(got), len(s.seen), total)
		}
		if s.repeated > 0 {
			t.Errorf("%d records at or above the watermark came twice", s.repeated)
		}
		t.Logf("%d records came again below the watermark, which a store drops", s.below)
	})
}

func TestABrokersRestartInMidStreamLosesNothing(t *testing.T) {
	for _, group := range []string{"with a group", ""} {
		t.Run("embedded "+group, func(t *testing.T) {
			t.Parallel()
			o := devbroker.Options{Dir: t.TempDir()}
			b, err := devbroker.Start(o)
			must(t, err)
			defer func() { b.Close() }()
			cfg := testConfig(t, b.Addr())
			if group == "" {
				cfg.Group = ""
			}
			o.Port = portOf(t, b.Addr())
			midStreamRestart(t, cfg, func() {
				must(t, b.Close())
				time.Sleep(300 * time.Millisecond) // long enough for every reader to notice
				b, err = devbroker.Start(o)
				must(t, err)
			})
		})
	}
	t.Run("kafka", func(t *testing.T) {
		addr, dir := os.Getenv("CORASTREAM_KAFKA"), os.Getenv("CORASTREAM_KAFKA_DIR")
		if addr == "" || dir == "" {
			t.Skip("set CORASTREAM_KAFKA and CORASTREAM_KAFKA_DIR, the folder given to .ci/kafka/kafka.sh, to restart Apache Kafka too")
		}
		cfg := testConfig(t, addr)
		midStreamRestart(t, cfg, func() {
			out, err := exec.Command(filepath.Join("..", ".ci", "kafka", "kafka.sh"), "restart", dir).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		})
	})
}

func midStreamRestart(t *testing.T, cfg Config, restart func()) {
	const total = 3000
	s := newStore()
	src, err := NewSource(t.Context(), cfg, s.hooks(t))
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			b, err := src.Next(ctx)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			s.commit(t, b)
			src.Committed(b.Spans)
		}
	})
	p := producer(t, cfg)
	wrote := make(chan error)
	go func() {
		for i := 0; i < total; i += 50 {
			if err := p.Events(ctx, events(i, 50)); err != nil {
				wrote <- err
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		wrote <- nil
	}()
	until(t, "the stream flows", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.seen) > total/10 })
	restart()
	must(t, <-wrote)
	until(t, "all events are read", func() bool {
		got := map[string]bool{}
		for _, e := range s.events() {
			got[e.ID] = true
		}
		return len(got) == total
	})
	stop()
	wg.Wait()
	must(t, src.Close())
	if s.repeated > 0 {
		t.Errorf("%d positions came twice", s.repeated)
	}
	if src.Reconnects() == 0 && src.Rebalances() < 2 {
		t.Error("no reader noticed the restart, so this tests nothing")
	}
}

func TestExitWhenIdleWaitsForALateRecord(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg Config) {
		cfg.ExitWhenIdle = time.Second
		s := newStore()
		src, err := NewSource(t.Context(), cfg, s.hooks(t))
		must(t, err)
		defer src.Close()
		p := producer(t, cfg)
		must(t, p.Events(t.Context(), events(0, 10)))
		for len(s.seen) < 10 {
			b, err := src.Next(t.Context())
			must(t, err)
			s.commit(t, b)
		}
		go func() {
			time.Sleep(300 * time.Millisecond)
			if err := p.Events(context.Background(), events(10, 10)); err != nil {
				t.Error(err)
			}
		}()
		for {
			b, err := src.Next(t.Context())
			if errors.Is(err, corastream.ErrEnd) {
				break
			}
			must(t, err)
			s.commit(t, b)
		}
		sameIDs(t, s.events(), 20)
	})
}
