package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	kafka "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/corastream/corastream"
)

func TestTheNumberOfShardsIsFixedAtBirth(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg Config) {
		refused := func(c Config, words ...string) {
			t.Helper()
			err := EnsureTopics(t.Context(), c)
			var usage *corastream.UsageError
			if !errors.As(err, &usage) {
				t.Fatalf("%v is no usage error", err)
			}
			for _, w := range append(words, "fix:") {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
		}
		cfg.Shards = 3
		must(t, EnsureTopics(t.Context(), cfg))
		must(t, EnsureTopics(t.Context(), cfg))
		other := cfg
		other.Shards = 4
		refused(other, cfg.Topics.Embeddings, "3 partitions, not 4", "fixed at birth")
		other.Shards = 6
		other.Topics.Embeddings, other.Topics.Gradients = cfg.Topics.Embeddings+"6", cfg.Topics.Gradients+"6"
		refused(other, cfg.Topics.Interactions, "4 partitions", "6 shards")
		other = cfg
		other.Topics.Embeddings = makeTopic(t, cfg, cfg.Topics.Embeddings, 3, map[string]string{"cleanup.policy": "delete"})
		refused(other, other.Topics.Embeddings, "compact")

		a, err := newAccess(cfg)
		must(t, err)
		for setting, want := range map[string][2]string{"cleanup.policy": {"compact", "delete"}, "max.message.bytes": {"16777216", "16777216"}} {
			got, err := a.topicConfig(t.Context(), setting, cfg.Topics.Embeddings, cfg.Topics.Gradients)
			must(t, err)
			if got[cfg.Topics.Embeddings] != want[0] || got[cfg.Topics.Gradients] != want[1] {
				t.Errorf("%s: %v", setting, got)
			}
		}
	})
}

func TestATransactionThatIsTooLargeIsRefusedByName(t *testing.T) {
	sharded(t, 1, func(t *testing.T, cfg Config) {
		a := newReplica(t, cfg, 0, "a")
		must(t, a.own(t.Context()))
		big := make([]corastream.Change, 15)
		for i := range big {
			big[i] = corastream.Change{Key: fmt.Append(nil, "u:", i), Value: make([]byte, 1<<20)}
			for j := range big[i].Value { // so that compression does not make it small
				big[i].Value[j] = byte(i*j + j>>8*77 + j>>3)
			}
		}
		next, _, err := a.Append(t.Context(), 1, big[:14])
		must(t, err)
		r := newReplica(t, cfg, 0, "r")
		must(t, r.follow(t.Context()))
		if len(r.state) != 14 || r.state["u:13"] != string(big[13].Value) || r.next != next {
			t.Errorf("%d keys, next %d of %d", len(r.state), r.next, next)
		}
		_, _, err = a.Append(t.Context(), 2, big)
		if !errors.Is(err, errTooLargeToAppend) || !strings.Contains(err.Error(), "max_batch_events") {
			t.Errorf("15 MiB: %v", err)
		}
	})
}

// clusterSource reads the topics of a cluster without a store.
func clusterSource(t *testing.T, cfg Config, h Hooks) *Source {
	t.Helper()
	cfg.ExitWhenIdle = 300 * time.Millisecond
	h.Log = testLog(t)
	s, err := NewSource(t.Context(), cfg, h)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// readAll reads until the source is idle. The spans of each partition have to meet.
func readAll(t *testing.T, s *Source) (all corastream.Batch, ends map[corastream.Partition]int64) {
	t.Helper()
	ends = map[corastream.Partition]int64{}
	for {
		b, err := s.Next(t.Context())
		if errors.Is(err, corastream.ErrEnd) {
			return all, ends
		}
		must(t, err)
		all.Changes = append(all.Changes, b.Changes...)
		all.Parcels = append(all.Parcels, b.Parcels...)
		all.Events = append(all.Events, b.Events...)
		all.Requests = append(all.Requests, b.Requests...)
		for _, sp := range b.Spans {
			if was, ok := ends[sp.Partition]; ok && was != sp.From {
				t.Errorf("%v goes on at %d, not at %d", sp.Partition, sp.From, was)
			}
			ends[sp.Partition] = sp.To
		}
	}
}

func TestASourceReadsChangesAndParcels(t *testing.T) {
	sharded(t, 2, func(t *testing.T, cfg Config) {
		ctx := t.Context()
		cfg.MaxBatchEvents = 7 // cuts the changelog's batches
		a, z := newReplica(t, cfg, 1, "a"), newReplica(t, cfg, 1, "z")
		must(t, z.own(ctx))
		must(t, z.write(ctx, "u:1", "z", "i:1", "z", "i:2", "z"))
		must(t, a.own(ctx))
		if err := z.write(ctx, "i:1", "lost"); !errors.Is(err, corastream.ErrFenced) {
			t.Fatal(err)
		}
		for i := range 10 {
			must(t, a.write(ctx, fmt.Sprint("u:", i), "a", fmt.Sprint("i:", i), "a"))
		}
		must(t, a.write(ctx, "i:3", ""))
		sender, err := NewParcelSink(cfg, testLog(t))
		must(t, err)
		defer sender.Close()
		var sent []corastream.Parcel
		for i := range 20 {
			sent = append(sent, corastream.Parcel{From: int32(i % 2), To: 1, Seq: uint64(i), Body: fmt.Append(nil, "body", i)})
		}
		must(t, sender.Send(ctx, sent))
		must(t, sender.Send(ctx, []corastream.Parcel{{From: 1, To: 0, Seq: 1}}))

		h := Hooks{
			Topics: []string{cfg.Topics.Embeddings, cfg.Topics.Gradients},
			Pick: func(all []corastream.Partition) []corastream.Partition {
				if len(all)%2 != 0 {
					t.Errorf("to pick from: %v", all)
				}
				return slices.DeleteFunc(all, func(p corastream.Partition) bool { return p.ID != 1 })
			},
			Keep: func(key []byte) bool { return strings.HasPrefix(string(key), corastream.ChangeItem) },
		}
		cfg.Group = ""
		got, ends := readAll(t, clusterSource(t, cfg, h))
		state := map[string]string{}
		for _, ch := range got.Changes {
			if state[string(ch.Key)] = string(ch.Value); ch.Value == nil {
				delete(state, string(ch.Key))
			}
			if ch.Pos.Topic != cfg.Topics.Embeddings || ch.Pos.Partition != 1 || ch.Epoch == 0 {
				t.Errorf("change %+v", ch)
			}
		}
		if got := fmt.Sprint(state); got != "map[i:0:a i:1:a i:2:a i:4:a i:5:a i:6:a i:7:a i:8:a i:9:a]" {
			t.Errorf("items %s", got)
		}
		for i, p := range got.Parcels {
			want := sent[i]
			if p.From != want.From || p.To != 1 || p.Seq != want.Seq || string(p.Body) != string(want.Body) || p.Pos.Offset != int64(i) {
				t.Errorf("parcel %d: %+v", i, p)
			}
		}
		if len(got.Parcels) != 20 || len(ends) != 2 || ends[corastream.Partition{Topic: cfg.Topics.Embeddings, ID: 1}] != a.next {
			t.Errorf("%d parcels, read to %v", len(got.Parcels), ends)
		}

		h.Topics, h.Keep = h.Topics[:1], func([]byte) bool { return false }
		b, err := clusterSource(t, cfg, h).Next(ctx)
		must(t, err)
		if sp := b.Spans[0]; len(b.Changes) > 0 || sp.From != 0 || sp.To != a.next {
			t.Errorf("what is not wanted takes up a batch: %v", b.Spans)
		}
	})
}

func TestWhatIsNotOursOnOurTopicsStopsTheStream(t *testing.T) {
	sharded(t, 1, func(t *testing.T, cfg Config) {
		for i, bad := range []Record{{Key: []byte("u:1"), Value: []byte("no header")}, {Key: []byte("k"), Value: []byte(`{"user_id":"u"}`)}} {
			cfg := cfg
			for _, topic := range []*string{&cfg.Topics.Embeddings, &cfg.Topics.Gradients} {
				*topic = makeTopic(t, cfg, *topic, 1, nil)
			}
			topic := []string{cfg.Topics.Embeddings, cfg.Topics.Gradients}[i]
			must(t, producer(t, cfg).Raw(t.Context(), topic, []Record{bad}))
			s := clusterSource(t, cfg, Hooks{Topics: []string{topic}})
			_, err := s.Next(t.Context())
			if !errors.Is(err, corastream.ErrCorrupt) || !strings.Contains(err.Error(), topic+" partition 0 offset 0") || !strings.Contains(err.Error(), "fix:") {
				t.Errorf("%v", err)
			}
			if i == 0 {
				if err := newReplica(t, cfg, 0, "r").follow(t.Context()); !errors.Is(err, corastream.ErrCorrupt) {
					t.Errorf("a changelog with a foreign record: %v", err)
				}
			}
		}
	})
}

func TestParcelsComeInOrderThroughFaults(t *testing.T) {
	b, cfg := embeddedShard(t)
	cfg.Shards, cfg.Topics.Gradients, cfg.Topics.Embeddings = 4, cfg.Topics.Gradients+"4", cfg.Topics.Embeddings+"4"
	must(t, EnsureTopics(t.Context(), cfg))
	s, err := NewParcelSink(cfg, testLog(t))
	must(t, err)
	defer s.Close()
	produces := []kmsg.Key{kmsg.Produce}
	faults := b.Kafka().Fault(
		kfake.Fault{Keys: produces, Topic: cfg.Topics.Gradients, Partitions: []int32{1}, Err: kerr.NotEnoughReplicas, Count: 2},
		kfake.Fault{Keys: produces, Topic: cfg.Topics.Gradients, Partitions: []int32{2}, Err: kerr.RequestTimedOut, Count: 2})
	const n = 30
	seq := uint64(0)
	for i := range 5 {
		var parcels []corastream.Parcel
		for j := range n {
			seq++
			p := corastream.Parcel{From: 3, To: int32(j % 3), Seq: seq, Body: []byte{byte(i)}}
			if i == 2 {
				p.Body = make([]byte, 1<<20) // several requests
			}
			parcels = append(parcels, p)
		}
		must(t, s.Send(t.Context(), parcels))
	}
	if faults.Hits() != 4 {
		t.Errorf("%d faults came", faults.Hits())
	}
	got, _ := readAll(t, clusterSource(t, cfg, Hooks{Topics: []string{cfg.Topics.Gradients}}))
	last, taken := map[int32]uint64{}, 0
	for _, p := range got.Parcels {
		if p.Seq > last[p.To] { // as a receiver does
			if p.Seq != last[p.To]+3 && last[p.To] > 0 {
				t.Errorf("shard %d: %d after %d", p.To, p.Seq, last[p.To])
			}
			last[p.To], taken = p.Seq, taken+1
		}
	}
	if taken != 5*n {
		t.Errorf("%d of %d parcels taken", taken, 5*n)
	}
	b.Kafka().Fault(kfake.Fault{Keys: produces, Topic: cfg.Topics.Gradients, Err: kerr.TopicAuthorizationFailed, Count: -1})
	if err := s.Send(t.Context(), []corastream.Parcel{{From: 1, To: 2, Seq: 900}}); !errors.Is(err, kafka.TopicAuthorizationFailed) {
		t.Errorf("without the right to write: %v", err)
	}
	if err := s.Send(t.Context(), []corastream.Parcel{{From: 1, To: 4}}); err == nil || !strings.Contains(err.Error(), "no shard 4") {
		t.Errorf("to a shard that is not: %v", err)
	}
	if err := s.Send(t.Context(), []corastream.Parcel{{From: 1, To: 2, Body: make([]byte, 16<<20)}}); !errors.Is(err, errTooLargeToAppend) {
		t.Errorf("16 MiB: %v", err)
	}
}

// TestAReplicaReadsOnWhereTheGroupsReportsEnd: what was handed out and not reported is read again by the next member, and nothing else is.
func TestAReplicaReadsOnWhereTheGroupsReportsEnd(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg Config) {
		cfg.MaxBatchEvents = 40
		p := producer(t, cfg)
		ask := func(from, n int) {
			var asked []corastream.Request
			for i := range n {
				asked = append(asked, corastream.Request{ID: fmt.Sprint("r", from+i), User: fmt.Sprint("u", i), N: 1})
			}
			must(t, p.Requests(t.Context(), asked))
		}
		ask(0, 200)
		h := Hooks{
			Topics: []string{cfg.Topics.Requests}, GroupOffsets: true,
			Next: func(corastream.Partition) (int64, bool, error) { return 0, false, errors.New("asked for an offset") },
		}
		first := clusterSource(t, cfg, h)
		var batches []corastream.Batch
		for n := 0; n < 200; {
			b, err := first.Next(t.Context())
			must(t, err)
			batches = append(batches, b)
			n += len(b.Requests)
		}
		// The answers of the first three batches are out: reported late, and not in the order of Next between partitions.
		want := map[string]bool{}
		done := map[corastream.Partition]int64{}
		for i := 2; i >= 0; i-- {
			for _, sp := range batches[i].Spans {
				done[sp.Partition] = max(done[sp.Partition], sp.To)
			}
		}
		for _, b := range batches {
			for _, r := range b.Requests {
				if r.Pos.Offset >= done[corastream.Partition{Topic: r.Pos.Topic, ID: r.Pos.Partition}] {
					want[r.ID] = true
				}
			}
		}
		for p, to := range done {
			first.Committed([]corastream.Span{{Partition: p, To: to}})
		}
		must(t, first.Close())
		if len(want) == 0 || len(want) == 200 {
			t.Fatalf("%d open: this tests nothing", len(want))
		}
		second := clusterSource(t, cfg, h)
		got, _ := readAll(t, second)
		for _, r := range got.Requests {
			if !want[r.ID] {
				t.Errorf("%s was done with, and came again", r.ID)
			}
			delete(want, r.ID)
		}
		if len(want) > 0 {
			t.Errorf("%v were never read again", want)
		}
	})
	cfg := Default()
	cfg.Brokers, cfg.Group = []string{"127.0.0.1:1"}, ""
	if _, err := NewSource(t.Context(), cfg, Hooks{GroupOffsets: true}); err == nil || !strings.Contains(err.Error(), "group") {
		t.Errorf("a group's offsets without a group: %v", err)
	}
}

func TestAGroupsOffsetNeverMovesBack(t *testing.T) {
	part := corastream.Partition{Topic: "requests", ID: 1}
	c := &committer{}
	note := func(to int64) { c.note([]corastream.Span{{Partition: part, To: to}}) }
	c.begin(part, 10)
	note(30)
	note(20)
	if c.next[part] != 30 {
		t.Errorf("reports %d", c.next[part])
	}
	c.begin(part, 50) // it was away, and another member went on
	if _, ok := c.next[part]; ok {
		t.Error("reports an offset that another member has passed")
	}
	note(40)
	if _, ok := c.next[part]; ok {
		t.Error("a late answer moves the group's offset back")
	}
	note(51)
	if c.next[part] != 51 {
		t.Errorf("reports %d", c.next[part])
	}
}

// member runs JoinMembers and keeps what it is given.
type member struct {
	stop context.CancelFunc
	done chan error
	held atomicShards
}

func join(t *testing.T, cfg Config, group string) *member {
	ctx, cancel := context.WithCancel(t.Context())
	m := &member{stop: cancel, done: make(chan error, 1)}
	go func() {
		m.done <- JoinMembers(ctx, cfg, group, cfg.Topics.Gradients, m.held.get, m.held.set, testLog(t))
	}()
	t.Cleanup(func() { cancel(); <-m.done; m.done <- nil })
	return m
}

func TestShardsStayWhereTheyAreAsMembersComeAndGo(t *testing.T) {
	sharded(t, 12, func(t *testing.T, cfg Config) {
		group := cfg.Group + "-shards"
		level := func(what string, members ...*member) {
			t.Helper()
			until(t, what, func() bool {
				var all []int32
				for _, m := range members {
					if n := len(m.held.get()); n != 12/len(members) {
						return false
					}
					all = append(all, m.held.get()...)
				}
				slices.Sort(all)
				return len(slices.Compact(all)) == 12
			})
		}
		kept := func(m *member, was []int32) (n int) {
			for _, p := range m.held.get() {
				if slices.Contains(was, p) {
					n++
				}
			}
			return n
		}
		a := join(t, cfg, group)
		level("one member has all shards", a)
		b := join(t, cfg, group)
		level("two members share them", a, b)
		wasA, wasB := a.held.get(), b.held.get()
		c := join(t, cfg, group)
		level("three members share them", a, b, c)
		if kept(a, wasA) != 4 || kept(b, wasB) != 4 {
			t.Errorf("%v became %v, %v became %v", wasA, a.held.get(), wasB, b.held.get())
		}
		wasA, wasB = a.held.get(), b.held.get()
		left := time.Now()
		c.stop()
		level("two members share them again", a, b)
		if kept(a, wasA) != 4 || kept(b, wasB) != 4 {
			t.Errorf("%v became %v, %v became %v", wasA, a.held.get(), wasB, b.held.get())
		}
		if took := time.Since(left); took > sessionTimeout {
			t.Logf("a member that left held the others up for %s", took)
		}
		if err := <-c.done; !errors.Is(err, context.Canceled) {
			t.Errorf("leaving: %v", err)
		}
		c.done <- nil
	})
}

func TestDealingMovesNoMoreThanItMust(t *testing.T) {
	all := []int{0, 1, 2, 3, 4, 5, 6}
	for _, c := range []struct {
		name  string
		holds map[string][]int
		want  string
	}{
		{"from nothing", map[string][]int{"a": nil, "b": nil}, "map[a:[0 1 2 3] b:[4 5 6]]"},
		{"a third comes", map[string][]int{"a": {0, 2, 4, 6}, "b": {1, 3, 5}, "c": nil}, "map[a:[0 2 4] b:[1 3] c:[5 6]]"},
		{"one goes", map[string][]int{"a": {0, 2, 4}, "c": {5, 6}}, "map[a:[0 1 2 4] c:[3 5 6]]"},
		{"who has most keeps the odd one", map[string][]int{"a": {1, 3, 5}, "b": {0, 2, 4, 6}}, "map[a:[1 3 5] b:[0 2 4 6]]"},
		{"both say they have it", map[string][]int{"a": {0, 1, 2}, "b": {2, 3, 4, 5}}, "map[a:[0 1 2 6] b:[3 4 5]]"},
		{"what is not there is not dealt", map[string][]int{"a": {9, 1, 1}, "b": {0}}, "map[a:[1 2 3 4] b:[0 5 6]]"},
		{
			"more members than partitions",
			map[string][]int{"a": {0}, "b": {1, 2}, "c": {3}, "d": {4}, "e": {5}, "f": {6}, "g": nil, "h": nil},
			"map[a:[0] b:[1] c:[3] d:[4] e:[5] f:[6] g:[2] h:[]]",
		},
		{"nobody", map[string][]int{}, "map[]"},
	} {
		if got := fmt.Sprint(deal(c.holds, all)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	s := &sticky{owned: func() []int32 { return []int32{7, 300, 1} }}
	said, err := s.UserData()
	must(t, err)
	if got := fmt.Sprint(parseOwned(said)); got != "[7 300 1]" {
		t.Errorf("a member's words come as %s", got)
	}
	for _, bad := range [][]byte{nil, {2, 1}, {1, 0x80}, {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}} {
		if got := parseOwned(bad); len(got) > 0 {
			t.Errorf("%x means %v", bad, got)
		}
	}
	got := s.AssignGroups([]kafka.GroupMember{{ID: "m", UserData: said}, {ID: "n"}}, []kafka.Partition{{Topic: "t", ID: 7}, {Topic: "t", ID: 8}})
	if fmt.Sprint(got) != "map[m:map[t:[7]] n:map[t:[8]]]" {
		t.Errorf("%v", got)
	}
}

// TestAPartitionThatComesBackIsReadFromTheGroupsOffset: it was somebody else's in between, who may have died over what had been handed out here.
func TestAPartitionThatComesBackIsReadFromTheGroupsOffset(t *testing.T) {
	stays, leaves := corastream.Partition{Topic: "requests", ID: 0}, corastream.Partition{Topic: "requests", ID: 1}
	s := &Source{hooks: Hooks{GroupOffsets: true}, handed: map[corastream.Partition]int64{}}
	both := []assigned{{stays, 0}, {leaves, 0}}
	s.keepHanded(both)
	s.handed[stays], s.handed[leaves] = 10, 20
	s.keepHanded(both)
	if s.handed[stays] != 10 || s.handed[leaves] != 20 {
		t.Errorf("a generation that changed nothing: %v", s.handed)
	}
	s.keepHanded(both[:1])
	s.keepHanded(both)
	if _, known := s.handed[leaves]; known || s.handed[stays] != 10 {
		t.Errorf("after one of two was elsewhere: %v", s.handed)
	}
}
