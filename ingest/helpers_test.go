package ingest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/ingest/devbroker"
)

// Every test of the wire runs on each broker there is: the embedded one always, Apache Kafka when CORASTREAM_KAFKA names
// its bootstrap address (.ci/kafka/kafka.sh starts one).
func eachBroker(t *testing.T, test func(t *testing.T, cfg Config)) {
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		b, err := devbroker.Start(devbroker.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		test(t, testConfig(t, b.Addr()))
	})
	t.Run("kafka", func(t *testing.T) {
		addr := os.Getenv("CORASTREAM_KAFKA")
		if addr == "" {
			t.Skip("set CORASTREAM_KAFKA to a bootstrap address to run this on Apache Kafka too: .ci/kafka/kafka.sh start .cache/kafka")
		}
		t.Parallel()
		test(t, testConfig(t, addr))
	})
}

var unique atomic.Int64

// testConfig has topics and a group of its own, so that tests share a broker.
func testConfig(t *testing.T, addr string) Config {
	t.Helper()
	return testConfigWith(t, addr, func(*Config) {})
}

func testConfigWith(t *testing.T, addr string, change func(*Config)) Config {
	t.Helper()
	c := Default()
	change(&c)
	c.Brokers = []string{addr}
	id := fmt.Sprintf("%s-%d-%d", strings.Map(func(r rune) rune {
		if legalTopic(string(r)) {
			return r
		}
		return '-'
	}, t.Name()), os.Getpid(), unique.Add(1))
	for _, p := range []*string{
		&c.Topics.Interactions, &c.Topics.Items, &c.Topics.Requests, &c.Topics.Recommendations, &c.Topics.DeadLetters,
		&c.Topics.Embeddings, &c.Topics.Gradients,
	} {
		*p = strings.TrimPrefix(*p, "corastream.") + "." + id
	}
	c.Group = id
	c.Create.Replication = 1
	c.CommitEvery = 100 * time.Millisecond
	if err := EnsureTopics(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return c
}

// store keeps what a real one would: watermarks and facts, and everything it was given.
type store struct {
	mu       sync.Mutex
	next     map[corastream.Partition]int64
	meta     map[string]string
	batches  []corastream.Batch
	seen     map[corastream.Position]int
	repeated int // records handed out again at or above the watermark
	below    int // records handed out below it, which a store drops
}

func newStore() *store {
	return &store{next: map[corastream.Partition]int64{}, meta: map[string]string{}, seen: map[corastream.Position]int{}}
}

func (s *store) hooks(t *testing.T) Hooks {
	return Hooks{
		Next: func(p corastream.Partition) (int64, bool, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			o, ok := s.next[p]
			return o, ok, nil
		},
		Meta: func(k string) (string, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.meta[k], nil
		},
		SetMeta: func(k, v string) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.meta[k] = v
			return nil
		},
		Log: testLog(t),
	}
}

func testLog(t *testing.T) zerolog.Logger {
	if testing.Verbose() {
		return zerolog.New(zerolog.NewConsoleWriter(func(w *zerolog.ConsoleWriter) { w.Out = os.Stderr; w.NoColor = true })).
			With().Str("test", t.Name()).Logger()
	}
	return zerolog.Nop()
}

// commit applies a batch as a store does.
func (s *store) commit(t *testing.T, b corastream.Batch) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches = append(s.batches, b)
	inSpan := func(p corastream.Position) bool {
		return slices.ContainsFunc(b.Spans, func(sp corastream.Span) bool {
			return sp.Topic == p.Topic && sp.ID == p.Partition && sp.From <= p.Offset && p.Offset < sp.To
		})
	}
	record := func(p corastream.Position) {
		if !inSpan(p) {
			t.Errorf("%v is in no span of %v", p, b.Spans)
		}
		if p.Offset < s.next[corastream.Partition{Topic: p.Topic, ID: p.Partition}] {
			s.below++
			return
		}
		if s.seen[p]++; s.seen[p] > 1 {
			s.repeated++
		}
	}
	for _, e := range b.Events {
		record(e.Pos)
	}
	for _, e := range b.Requests {
		record(e.Pos)
	}
	for _, e := range b.Bad {
		record(e.Pos)
	}
	for _, sp := range b.Spans {
		if sp.To <= sp.From {
			t.Errorf("empty span %v", sp)
		}
		s.next[sp.Partition] = max(s.next[sp.Partition], sp.To)
	}
}

func (s *store) events() (out []corastream.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.batches {
		out = append(out, b.Events...)
	}
	return out
}

func (s *store) all() (out corastream.Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.batches {
		out.Events = append(out.Events, b.Events...)
		out.Items = append(out.Items, b.Items...)
		out.Requests = append(out.Requests, b.Requests...)
		out.Bad = append(out.Bad, b.Bad...)
	}
	return out
}

// drain reads until the source says it is idle.
func drain(t *testing.T, cfg Config, s *store) error {
	t.Helper()
	cfg.ExitWhenIdle = 300 * time.Millisecond
	src, err := NewSource(t.Context(), cfg, s.hooks(t))
	if err != nil {
		return err
	}
	defer src.Close()
	// A group that a broker lets nobody join is tried for ever; a test gives up, and says so.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		b, err := src.Next(ctx)
		if errors.Is(err, corastream.ErrEnd) {
			return nil
		}
		if err != nil {
			return err
		}
		s.commit(t, b)
		src.Committed(b.Spans)
	}
}

func mustDrain(t *testing.T, cfg Config, s *store) {
	t.Helper()
	if err := drain(t, cfg, s); err != nil {
		t.Fatal(err)
	}
}

// events makes n ratings of users u0.. of items i0..
func events(from, n int) []corastream.Event {
	out := make([]corastream.Event, n)
	for i := range out {
		k := from + i
		out[i] = corastream.Event{
			ID: fmt.Sprint("e", k), User: fmt.Sprint("u", k%50), Item: fmt.Sprint("i", k%77),
			Kind: "rating", Label: float32(k % 2), Time: time.UnixMilli(900_000_000_000 + int64(k)*1000).UTC(),
		}
	}
	return out
}

func producer(t *testing.T, cfg Config) *Producer {
	t.Helper()
	p, err := NewProducer(cfg, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func sink(t *testing.T, cfg Config) *Sink {
	t.Helper()
	s, err := NewSink(cfg, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// consume reads a topic to its present end.
func consume(t *testing.T, cfg Config, topic string) (out []Record) {
	t.Helper()
	c, err := NewConsumer(t.Context(), cfg, topic, Bound{}, false, testLog(t))
	must(t, err)
	defer c.Close()
	for {
		r, err := c.Next(t.Context())
		if errors.Is(err, corastream.ErrEnd) {
			return out
		}
		must(t, err)
		out = append(out, r)
	}
}

// sameIDs compares the multiset of event ids with e0..e(n-1), each once.
func sameIDs(t *testing.T, got []corastream.Event, n int) {
	t.Helper()
	count := map[string]int{}
	for _, e := range got {
		count[e.ID]++
	}
	for i := range n {
		if k := count[fmt.Sprint("e", i)]; k != 1 {
			t.Errorf("event e%d came %d times", i, k)
		}
		delete(count, fmt.Sprint("e", i))
	}
	if len(count) > 0 {
		t.Errorf("unexpected events: %v", slices.Sorted(maps.Keys(count)))
	}
}

// until polls for a condition that another goroutine brings about.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !ok() {
		if pause(ctx, 1) != nil {
			t.Fatalf("gave up waiting: %s", what)
		}
	}
}

func portOf(t *testing.T, addr string) int {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	must(t, err)
	n, err := strconv.Atoi(port)
	must(t, err)
	return n
}

// atomicShards is a list that two goroutines share.
type atomicShards struct {
	mu   sync.Mutex
	list []int32
}

func (a *atomicShards) get() []int32 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.list)
}

func (a *atomicShards) set(list []int32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = list
}
