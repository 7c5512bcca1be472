package ingest

import (
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	kafka "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/ingest/devbroker"
)

// deleteRecords moves a partition's beginning, as retention does.
func deleteRecords(t *testing.T, cfg Config, p corastream.Partition, offset int64) {
	t.Helper()
	a, err := newAccess(cfg)
	must(t, err)
	c, err := a.dial(t.Context(), cfg.Brokers[0])
	must(t, err)
	defer c.Close()
	body := []byte{2} // one topic
	body = binary.AppendUvarint(body, uint64(len(p.Topic)+1))
	body = append(append(body, p.Topic...), 2) // one partition
	body = binary.BigEndian.AppendUint32(body, uint32(p.ID))
	body = binary.BigEndian.AppendUint64(body, uint64(offset))
	body = append(body, 0, 0)
	body = append(binary.BigEndian.AppendUint32(body, 10_000), 0)
	answer, err := c.send(t.Context(), protocol.DeleteRecords, 2, body)
	must(t, err)
	w := &wire{b: answer}
	w.tags()
	w.int32()
	w.compactList(func() {
		w.compactStr()
		w.compactList(func() {
			w.int32()
			w.int64()
			if code := w.int16(); code != 0 {
				t.Fatal(kafka.Error(code))
			}
			w.tags()
		})
		w.tags()
	})
	must(t, w.err)
}

func wantGap(t *testing.T, err error, words ...string) {
	t.Helper()
	if !errors.Is(err, corastream.ErrGap) {
		t.Fatalf("want a gap, got %v", err)
	}
	for _, w := range append(words, "fix:") {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

func TestRecordsLostToRetentionStopTheStream(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg Config) {
		p := producer(t, cfg)
		s := newStore()
		must(t, p.Events(t.Context(), events(0, 200)))
		mustDrain(t, cfg, s)
		part := corastream.Partition{Topic: cfg.Topics.Interactions, ID: 1}
		w := s.next[part]
		must(t, p.Events(t.Context(), events(200, 200)))
		deleteRecords(t, cfg, part, w) // exactly up to the watermark: nothing is lost
		mustDrain(t, cfg, s)
		sameIDs(t, s.events(), 400)

		w = s.next[part]
		must(t, p.Events(t.Context(), events(400, 200)))
		deleteRecords(t, cfg, part, w+2)
		wantGap(t, drain(t, cfg, s), cfg.Topics.Interactions, "partition 1", "retention")
	})
}

func TestRecordsLostWhileReadingStopTheStream(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg Config) {
		cfg.FetchBytes, cfg.Create.Partitions = 4<<10, 1
		p := producer(t, cfg)
		for i := range 40 {
			must(t, p.Events(t.Context(), events(i*50, 50)))
		}
		s := newStore()
		src, err := NewSource(t.Context(), cfg, s.hooks(t))
		must(t, err)
		defer src.Close()
		b, err := src.Next(t.Context())
		must(t, err)
		s.commit(t, b)
		for id := range int32(4) {
			part := corastream.Partition{Topic: cfg.Topics.Interactions, ID: id}
			lag := int64(0)
			until(t, "lag is known", func() bool { l, ok := src.Lag()[part]; lag = l; return ok })
			deleteRecords(t, cfg, part, s.next[part]+lag)
		}
		for err == nil {
			b, err = src.Next(t.Context())
			s.commit(t, b)
		}
		wantGap(t, err, cfg.Topics.Interactions)
	})
}

func TestARecreatedTopicStopsTheStream(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg Config) {
		p := producer(t, cfg)
		s := newStore()
		must(t, p.Events(t.Context(), events(0, 100)))
		mustDrain(t, cfg, s)
		client := &kafka.Client{Addr: kafka.TCP(cfg.Brokers...), Transport: &kafka.Transport{}}
		recreate := func(n int) {
			_, err := client.DeleteTopics(t.Context(), &kafka.DeleteTopicsRequest{Topics: []string{cfg.Topics.Interactions}})
			must(t, err)
			until(t, "the topic is gone", func() bool { return EnsureTopics(t.Context(), cfg) == nil })
			until(t, "the new topic takes events", func() bool {
				a, _ := newAccess(cfg)
				cl, err := a.describe(t.Context(), cfg.Topics.Interactions)
				return err == nil && len(cl.topics[cfg.Topics.Interactions].leaders) == 4
			})
			must(t, producer(t, cfg).Events(t.Context(), events(0, n)))
		}
		recreate(400) // longer than before: offsets alone would not show it
		wantGap(t, drain(t, cfg, s), cfg.Topics.Interactions, "id")

		// Without the store's memory of ids, a shorter log still shows.
		cfg.GapPatience = 500 * time.Millisecond
		recreate(4)
		s.meta = map[string]string{}
		wantGap(t, drain(t, cfg, s), cfg.Topics.Interactions, "ends at")
	})
}

func TestAnotherClusterStopsTheStream(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg Config) {
		must(t, producer(t, cfg).Events(t.Context(), events(0, 10)))
		s := newStore()
		mustDrain(t, cfg, s)
		s.meta[metaCluster] = "some-other-cluster"
		wantGap(t, drain(t, cfg, s), "cluster", "some-other-cluster")
	})
}

func TestSupersededCatalogueRecordsAreNoGap(t *testing.T) {
	b, err := devbroker.Start(devbroker.Options{})
	must(t, err)
	defer b.Close()
	cfg := testConfig(t, b.Addr())
	p := producer(t, cfg)
	s := newStore()
	version := func(title string) {
		for _, id := range []string{"a", "b", "c"} { // a batch each: compaction works on batches
			must(t, p.Items(t.Context(), []corastream.Item{{ID: id, Title: title}}))
		}
	}
	version("one")
	mustDrain(t, cfg, s)
	version("two")
	version("three")
	b.Kafka().Compact()
	mustDrain(t, cfg, s)
	last := map[string]string{}
	for _, it := range s.all().Items {
		last[it.ID] = it.Title
	}
	if want := map[string]string{"a": "three", "b": "three", "c": "three"}; !reflect.DeepEqual(last, want) {
		t.Errorf("catalogue %v", last)
	}
	if n := len(s.all().Items); n >= 9 {
		t.Errorf("%d records read: nothing was compacted away, so this tests nothing", n)
	}
}
