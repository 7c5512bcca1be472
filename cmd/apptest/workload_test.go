//go:build app

package apptest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/corastream/corastream/ingest/devbroker"
)

// learnt is one event that a record holds; id is "" when the record gives none. back says what it takes out of the user's history: every
// interaction with the item ("all"), or the likes of it ("likes"). Only what did not happen after it goes.
type learnt struct {
	id, user, item string
	like           bool
	back           string
	at             int // unix seconds
}

// meaning is what one line must lead to. It is written down when the line is made, so that no decoder takes part.
type meaning struct {
	events []learnt
	bad    string // the reason of the dead letter, "" when there is none
}

// workload makes lines of an interactions topic and keeps what each of them means.
type workload struct {
	rng          *rand.Rand
	users, items int
	n            int
	means        map[string]meaning
	past         []string // good lines, to be sent again
}

func newWorkload(seed uint64, users, items int) *workload {
	return &workload{rng: rand.New(rand.NewPCG(seed, 99)), users: users, items: items, means: map[string]meaning{}}
}

const firstTime = 1_700_000_000 // unix seconds of the first event

// lines draws n records: ratings and clicks, with and without an id, impressions, arrays, repeats and bad ones.
func (w *workload) lines(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = w.line()
	}
	return out
}

func (w *workload) line() string {
	w.n++
	r, n := w.rng, w.n
	user := fmt.Sprint("u", int(float64(w.users)*r.Float64()*r.Float64()))
	item := func() string { return fmt.Sprint("i", int(float64(w.items)*r.Float64()*r.Float64())) }
	a := item()
	at := firstTime + n
	rating := func(item, id, field string) (string, learnt) {
		stars := 1 + r.IntN(5)
		ev := learnt{id: id, user: user, item: item, like: stars >= 4, at: at}
		if !ev.like {
			ev.back = "likes"
		}
		return fmt.Sprintf(`{"user_id":"%s","item_id":"%s","type":"rating","rating":%d,"timestamp":%d%s}`, user, item, stars, at, field), ev
	}
	one := func(line string, ev learnt) (string, []learnt) { return line, []learnt{ev} }
	id := fmt.Sprint("e", n)
	idField := fmt.Sprintf(`,"id":"%s"`, id)
	var line string
	var m meaning
	switch x := r.Float64(); {
	case x < .66:
		line, m.events = one(rating(a, id, idField))
	case x < .70:
		line, m.events = one(fmt.Sprintf(`{"user_id":"%s","item_id":"%s","type":"unlike","timestamp":%d,"id":"%s"}`, user, a, at, id), learnt{id: id, user: user, item: a, back: "all", at: at})
	case x < .80: // implicit: the learner draws negatives
		line = fmt.Sprintf(`{"userId":"%s","itemId":"%s","type":"click","ts":%d,"id":"%s"}`, user, a, at, id)
		m.events = []learnt{{id: id, user: user, item: a, like: true, at: at}}
	case x < .87: // told from a repeat by its position alone
		line, m.events = one(rating(a, "", fmt.Sprintf(`,"note":%d`, n)))
	case x < .91 && len(w.past) > 0: // a producer's repeat
		return w.past[r.IntN(len(w.past))]
	case x < .93:
		b := a + "x"
		line = fmt.Sprintf(`{"user_id":"%s","items":["%s","%s"],"clicked":["%s"],"id":"%s","timestamp":%d}`, user, a, b, b, id, at)
		m.events = []learnt{{id: id + "#" + a, user: user, item: a, at: at}, {id: id + "#" + b, user: user, item: b, like: true, at: at}}
	case x < .95:
		b := item()
		first, ev := rating(a, id, idField)
		second, next := rating(b, id+"-2", fmt.Sprintf(`,"id":"%s-2"`, id))
		line, m.events = "["+first+","+second+"]", []learnt{ev, next}
	case x < .96: // half of the record is good
		first, ev := rating(a, id, idField)
		line = "[" + first + fmt.Sprintf(`,{"user_id":"%s","id":"%s-2"}]`, user, id)
		m = meaning{[]learnt{ev}, "no_item"}
	default:
		line, m.bad = w.bad(r.IntN(7), user, a, n)
	}
	w.means[line] = m
	if m.bad == "" && m.events[0].id != "" {
		w.past = append(w.past, line)
	}
	return line
}

func (w *workload) bad(kind int, user, item string, n int) (line, reason string) {
	switch kind {
	case 0:
		return fmt.Sprintf(`{"user_id":"%s","item_id":"%s","rating":5,"id":"bad-%d`, user, item, n), "json"
	case 1:
		return fmt.Sprintf(`{"item_id":"%s","rating":5,"id":"bad-%d"}`, item, n), "no_user"
	case 2:
		return fmt.Sprintf(`{"user_id":"%s","rating":5,"id":"bad-%d"}`, user, n), "no_item"
	case 3:
		return fmt.Sprintf(`{"user_id":"%s","item_id":"%s","rating":NaN,"id":"bad-%d"}`, user, item, n), "nan"
	case 4:
		return fmt.Sprintf(`{"user_id":"%s","item_id":"%s","rating":5,"timestamp":4102444800,"id":"bad-%d"}`, user, item, n), "future"
	case 5:
		return fmt.Sprintf(`{"user_id":"%s","item_id":"%s","label":7,"id":"bad-%d"}`, user, item, n), "label"
	default:
		return fmt.Sprintf(`{"user_id":"%s","item_id":"%s","type":"teleport","id":"bad-%d"}`, user, item, n), "kind"
	}
}

// itemLines makes item records [from, to).
func itemLines(from, to int) []string {
	var out []string
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf(`{"item_id":"i%d","title":"%s","genre":"g%d"}`, i, title(i), i%7))
	}
	return out
}

// topicOf reads a whole topic with another client than the program's own, partition by partition in order of offset.
func topicOf(t *testing.T, broker, topic string) map[int32][]*kgo.Record {
	t.Helper()
	ctx := withTimeout(t)
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxBytes(64<<20), kgo.FetchMaxPartitionBytes(32<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	left := map[int32]int64{} // the end of each partition that is not read to its end
	for p, end := range endsOf(t, cl, topic) {
		if end > 0 {
			left[p] = end
		}
	}
	out := map[int32][]*kgo.Record{}
	for len(left) > 0 {
		f := cl.PollFetches(ctx)
		if err := f.Err(); err != nil {
			t.Fatalf("read topic %s, %v to go: %v", topic, left, err)
		}
		f.EachRecord(func(r *kgo.Record) {
			out[r.Partition] = append(out[r.Partition], r)
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return out
}

func endsOf(t *testing.T, cl *kgo.Client, topic string) map[int32]int64 {
	t.Helper()
	ctx := withTimeout(t)
	ask := kmsg.NewPtrMetadataRequest()
	mt := kmsg.NewMetadataRequestTopic()
	mt.Topic = &topic
	ask.Topics = append(ask.Topics, mt)
	meta, err := ask.RequestWith(ctx, cl)
	if err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrListOffsetsRequest()
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	for _, p := range meta.Topics[0].Partitions {
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.Timestamp = p.Partition, -1
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	out := map[int32]int64{}
	for _, shard := range cl.RequestSharded(ctx, req) {
		if shard.Err != nil {
			t.Fatal(shard.Err)
		}
		for _, x := range shard.Resp.(*kmsg.ListOffsetsResponse).Topics {
			for _, p := range x.Partitions {
				if p.ErrorCode != 0 {
					t.Fatalf("end of %s/%d: error code %d", topic, p.Partition, p.ErrorCode)
				}
				out[p.Partition] = p.Offset
			}
		}
	}
	return out
}

// send puts records on a topic as another program would.
func send(t *testing.T, broker string, records ...*kgo.Record) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ProducerBatchMaxBytes(16<<20), kgo.BrokerMaxWriteBytes(64<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(withTimeout(t), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// eachBroker runs a test with the broker inside `up`, with one that outlives it, and with Apache Kafka where
// CORASTREAM_KAFKA names a bootstrap address. The test gets that address, or "" for the embedded one.
func eachBroker(t *testing.T, test func(t *testing.T, brokers string)) {
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		test(t, "")
	})
	t.Run("standing", func(t *testing.T) {
		t.Parallel()
		b, err := devbroker.Start(devbroker.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		test(t, b.Addr())
	})
	t.Run("kafka", func(t *testing.T) {
		addr := os.Getenv("CORASTREAM_KAFKA")
		if addr == "" {
			t.Skip("set CORASTREAM_KAFKA to a bootstrap address to run this on Apache Kafka too (`make kafka` starts one)")
		}
		t.Parallel()
		test(t, addr)
	})
}
