package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	kafka "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/ingest/decode"
	"github.com/corastream/corastream/ingest/devbroker"
)

// rawWriter writes what our own producer would not: large records, times of their own, batches of several.
func rawWriter(t *testing.T, cfg Config) *kafka.Writer {
	t.Helper()
	w := &kafka.Writer{
		Addr: kafka.TCP(cfg.Brokers...), RequiredAcks: kafka.RequireAll, BatchTimeout: time.Millisecond,
		BatchBytes: 30 << 20, Transport: &kafka.Transport{}, Balancer: kafka.Murmur2Balancer{},
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// makeTopic replaces a topic of cfg by one with a policy of its own.
func makeTopic(t *testing.T, cfg Config, name string, partitions int, configs map[string]string) string {
	t.Helper()
	client := &kafka.Client{Addr: kafka.TCP(cfg.Brokers...), Transport: &kafka.Transport{}}
	name = fmt.Sprintf("%s.own.%d", name, unique.Add(1))
	must(t, create(t.Context(), client, TopicSpec{name, partitions, configs}, 1))
	a, err := newAccess(cfg)
	must(t, err)
	until(t, "the topic is there", func() bool {
		m, err := a.missing(t.Context(), []TopicSpec{{Name: name}})
		return err == nil && len(m) == 0
	})
	return name
}

func TestATenMegabyteRecordIsADeadLetterAndTheStreamGoesOn(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg Config) {
		cfg.Topics.Interactions = makeTopic(t, cfg, cfg.Topics.Interactions, 1, map[string]string{"max.message.bytes": "20971520"})
		p := producer(t, cfg)
		must(t, p.Events(t.Context(), events(0, 5)))
		big := []byte(`{"user_id":"u","item_id":"i","pad":"` + strings.Repeat("x", 10<<20) + `"}`)
		for _, c := range []kafka.Compression{0, kafka.Zstd} {
			w := rawWriter(t, cfg)
			w.Compression = c
			must(t, w.WriteMessages(t.Context(), kafka.Message{Topic: cfg.Topics.Interactions, Key: []byte("u"), Value: big}))
		}
		must(t, p.Events(t.Context(), events(5, 5)))
		s := newStore()
		mustDrain(t, cfg, s)
		sameIDs(t, s.events(), 10)
		bad := s.all().Bad
		if len(bad) != 2 {
			t.Fatalf("%d dead letters", len(bad))
		}
		for _, l := range bad {
			if l.Reason != decode.ReasonTooLarge || !bytes.Equal(l.Value, big[:keepLarge]) || string(l.Key) != "u" || !strings.Contains(l.Detail, "max_record_bytes") {
				t.Errorf("%s, %d bytes, key %q: %s", l.Reason, len(l.Value), l.Key, l.Detail)
			}
		}
		must(t, sink(t, cfg).Bury(t.Context(), bad))
		for _, r := range consume(t, cfg, cfg.Topics.DeadLetters) {
			if l := DecodeLetter(r); l.Pos.Topic != cfg.Topics.Interactions || l.Reason != decode.ReasonTooLarge {
				t.Errorf("letter %+v", l)
			}
		}
	})
}

func TestALetterThatTheTopicRefusesIsCut(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg Config) {
		cfg.MaxRecordBytes = 4 << 20
		cfg.Topics.DeadLetters = makeTopic(t, cfg, cfg.Topics.DeadLetters, 1, map[string]string{"max.message.bytes": "1048588"})
		value := bytes.Repeat([]byte("y"), 3<<20)
		must(t, sink(t, cfg).Bury(t.Context(), []corastream.DeadLetter{{Value: value, Reason: decode.ReasonJSON}, {Value: []byte("small"), Reason: decode.ReasonEmpty}}))
		got := consume(t, cfg, cfg.Topics.DeadLetters)
		if len(got) != 2 {
			t.Fatalf("%d letters", len(got))
		}
		r := got[0]
		if len(r.Value) != keepLarge || DecodeLetter(r).Reason != decode.ReasonJSON || string(r.Headers[len(r.Headers)-1].Value) != "3145728" {
			t.Errorf("%d bytes, headers %v", len(r.Value), r.Headers)
		}
	})
}

// TestFreshnessCountsFromTheBrokersClock: a producer's clock is two hours slow; kafka-go's own readers would believe it.
func TestFreshnessCountsFromTheBrokersClock(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg Config) {
		clock, err := AppendClock(t.Context(), cfg, cfg.Topics.Interactions)
		must(t, err)
		if clock != "broker" {
			t.Errorf("the topic's clock is %q: EnsureTopics asked for the broker's", clock)
		}
		slow := time.Now().Add(-2 * time.Hour)
		must(t, rawWriter(t, cfg).WriteMessages(t.Context(), kafka.Message{
			Topic: cfg.Topics.Interactions, Key: []byte("u"),
			Value: []byte(`{"user_id":"u","item_id":"i"}`), Time: slow,
		}))
		s := newStore()
		mustDrain(t, cfg, s)
		age := time.Since(s.events()[0].Appended)
		if strings.Contains(t.Name(), "embedded") {
			// kfake keeps the setting but does not act on it; doc.go of devbroker says so. When it learns to, this fails.
			if age < time.Hour {
				t.Error("the embedded broker stamps records now: say so in its doc.go")
			}
			return
		}
		if age > time.Minute {
			t.Errorf("appended %s ago", age)
		}
	})
}

func TestTheStreamWaitsForDeadLettersRatherThanSkip(t *testing.T) {
	b, err := devbroker.Start(devbroker.Options{})
	must(t, err)
	defer b.Close()
	cfg := testConfig(t, b.Addr())
	s := sink(t, cfg)
	refused := make(chan struct{}, 100)
	b.Kafka().ControlKey(int16(kmsg.Produce), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		b.Kafka().KeepControl()
		req := kreq.(*kmsg.ProduceRequest)
		res := req.ResponseKind().(*kmsg.ProduceResponse)
		for _, rt := range req.Topics {
			pt := kmsg.NewProduceResponseTopic()
			pt.Topic = rt.Topic
			for _, rp := range rt.Partitions {
				pp := kmsg.NewProduceResponseTopicPartition()
				pp.Partition, pp.ErrorCode = rp.Partition, kerr.NotEnoughReplicas.Code
				pt.Partitions = append(pt.Partitions, pp)
			}
			res.Topics = append(res.Topics, pt)
		}
		select {
		case refused <- struct{}{}:
		default:
		}
		return res, nil, true
	})
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		done <- s.Bury(ctx, []corastream.DeadLetter{{Value: []byte("x"), Reason: decode.ReasonJSON}})
	}()
	for range 5 { // more attempts than kafka-go's own
		<-refused
	}
	select {
	case err := <-done:
		t.Fatalf("Bury returned %v while no replica had the letter", err)
	default:
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("after cancelling: %v", err)
	}
}

func TestClosingLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, group := range []string{"", "g"} {
		b, err := devbroker.Start(devbroker.Options{})
		must(t, err)
		cfg := Default()
		cfg.Brokers, cfg.Group = []string{b.Addr()}, group
		must(t, EnsureTopics(t.Context(), cfg))
		p, err := NewProducer(cfg, testLog(t))
		must(t, err)
		must(t, p.Events(t.Context(), events(0, 50)))
		s, err := NewSink(cfg, testLog(t))
		must(t, err)
		must(t, s.Publish(t.Context(), []corastream.Recommendation{{ID: "a", User: "u"}}))
		src, err := NewSource(t.Context(), cfg, newStore().hooks(t))
		must(t, err)
		if _, err := src.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		c, err := NewConsumer(t.Context(), cfg, cfg.Topics.Recommendations, Bound{}, true, testLog(t))
		must(t, err)
		if _, err := c.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		must(t, errors.Join(c.Close(), src.Close(), s.Close(), p.Close(), b.Close()))
		if _, err := src.Next(t.Context()); !errors.Is(err, context.Canceled) {
			t.Errorf("Next after Close: %v", err)
		}
	}
	stacks := func() string {
		buf := make([]byte, 1<<20)
		return string(buf[:runtime.Stack(buf, true)])
	}
	deadline := time.Now().Add(20 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestSharesAreEqualAndComplete(t *testing.T) {
	for _, c := range []struct {
		have  []int
		total int
		want  []int
	}{
		{[]int{10, 10, 10}, 9, []int{3, 3, 3}},
		{[]int{1, 10, 10}, 9, []int{1, 4, 4}},
		{[]int{0, 0, 5}, 9, []int{0, 0, 5}},
		{[]int{10, 10, 10}, 10, []int{4, 3, 3}},
		{[]int{2, 2}, 1, []int{1, 0}},
		{nil, 5, nil},
		{[]int{100, 1}, 50, []int{49, 1}},
	} {
		want := make([]int, len(c.have))
		share(want, c.have, c.total)
		if fmt.Sprint(want) != fmt.Sprint(c.want) && !(len(want) == 0 && len(c.want) == 0) {
			t.Errorf("%v of %d: %v, want %v", c.have, c.total, want, c.want)
		}
	}
}

func TestOneBusyPartitionDoesNotHoldTheOthersUp(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg Config) {
		cfg.MaxBatchEvents = 100
		w := rawWriter(t, cfg)
		w.Balancer = kafka.BalancerFunc(func(m kafka.Message, _ ...int) int { return int(m.Key[0] - '0') })
		var msgs []kafka.Message
		for i := range 2000 { // 1,970 records on partition 0, 10 on each of the others
			part := "0"
			if i >= 1970 {
				part = fmt.Sprint(1 + i%3)
			}
			msgs = append(msgs, kafka.Message{Topic: cfg.Topics.Interactions, Key: []byte(part), Value: fmt.Appendf(nil, `{"user_id":"u%s","item_id":"i","id":"e%d"}`, part, i)})
		}
		must(t, w.WriteMessages(t.Context(), msgs...))
		cfg.MaxBatchWait = 2 * time.Second // so that the first batch sees all partitions
		s := newStore()
		src, err := NewSource(t.Context(), cfg, s.hooks(t))
		must(t, err)
		defer src.Close()
		until(t, "all partitions are read ahead", func() bool { return len(src.Lag()) == 4+4+1 })
		b, err := src.Next(t.Context())
		must(t, err)
		users := map[string]int{}
		for _, e := range b.Events {
			users[e.User]++
		}
		if len(b.Events) != 100 || users["u1"] != 10 || users["u2"] != 10 || users["u3"] != 10 {
			t.Errorf("the first batch holds %v", users)
		}
		if len(b.Spans) != 4 {
			t.Errorf("spans %v", b.Spans)
		}
	})
}
