package replay

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
)

// The keys and hashes of Kafka's own test of its partitioner (UtilsTest.testMurmur2).
func TestUsersGoToTheirPartitionAsKafkaSendsThem(t *testing.T) {
	for key, want := range map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107,
	} {
		if have := int32(murmur2(key)); have != want {
			t.Errorf("%q: %d, want %d", key, have, want)
		}
	}
	c := Sharding{Shards: 4, Partitions: 10}
	for key, want := range map[string]int{"21": (1173551340 % 10) % 4, "abc": (479470107 % 10) % 4} { // the sign bit is dropped
		if have := c.shardOf(key); have != want {
			t.Errorf("%q is on shard %d, want %d", key, have, want)
		}
	}
}

// TestAllCopiesAgreeOnceEverythingArrived: no event is lost or counted twice on its way, and in the end all shards hold what the owner does.
func TestAllCopiesAgreeOnceEverythingArrived(t *testing.T) {
	spec := cfstream.DefaultFor(cfstream.Hybrid)
	spec.Content = 4
	model, err := cfstream.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	var items []corastream.Item
	for i := range 30 {
		items = append(items, corastream.Item{ID: fmt.Sprint("i", i), Content: []float32{1, float32(i % 3), 0, -1}})
	}
	c := Sharding{Shards: 5, Partitions: 12, SyncEvents: 7}
	var shards []*cf
	for range c.Shards {
		s, err := newCF(model, items, universeOf(Data{Items: items}), 1, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		shards = append(shards, s)
	}
	k, err := newCluster(c, shards)
	if err != nil {
		t.Fatal(err)
	}
	const events = 1003
	users := map[int]bool{}
	for n := range events {
		ev := corastream.Event{
			Pos: corastream.Position{Topic: "log", Offset: int64(n)}, User: fmt.Sprint("u", n%83), Item: fmt.Sprint("i", n*n%31), // one is not in the catalogue
			Label: float32(n % 2), Weight: 1, Implicit: n%3 == 0, Time: time.Unix(int64(n)*3600, 0),
		}
		users[c.shardOf(ev.User)] = true
		if err := k.learn(ev); err != nil {
			t.Fatal(err)
		}
	}
	if len(users) != c.Shards {
		t.Fatalf("%d of %d shards have users", len(users), c.Shards)
	}
	if err := k.settle(); err != nil {
		t.Fatal(err)
	}
	same := func(what string, a, b corastream.Embedding) {
		t.Helper()
		if !slices.Equal(a.Vec, b.Vec) || !slices.Equal(a.Acc, b.Acc) || a.Bias != b.Bias || a.Count != b.Count || a.Version != b.Version {
			t.Errorf("copies of %s differ", what)
		}
	}
	learnt, likes := 0, 0
	own, _ := k.shards[0].state.Shared()
	for i := range 31 {
		id := fmt.Sprint("i", i)
		it, _ := k.shards[corastream.ItemShard(id, c.Shards)].state.Item(id)
		learnt += int(it.Count)
		if len(it.Acc) > 16 {
			likes++
		}
		for _, s := range k.shards {
			copied, _ := s.state.Item(id)
			same(id, copied.Embedding, it.Embedding)
			shared, _ := s.state.Shared()
			same("the shared vector", *shared, *own)
		}
	}
	if learnt != events || own.Count != events {
		t.Errorf("items have learnt %d events and the shared vector %d, and there were %d", learnt, own.Count, events)
	}
	if likes == 0 {
		t.Error("no item has demand")
	}
}
