//go:build app

package apptest

import (
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/corastream/corastream/cmd/internal/cluster"
	"github.com/corastream/corastream/cmd/internal/node"
)

// TestAUserOnTwoPartitionsIsOneUser: producers put a user's events where CRC32 of the key says, as librdkafka does by default, where murmur2
// says, and, without a key, anywhere (confluentinc/librdkafka#2872). Every user is whole in one shard, each event counts once though a member
// is killed in between, the log says what to set, and a re-run of every shard has its bytes.
func TestAUserOnTwoPartitionsIsOneUser(t *testing.T) {
	const users, each = 40, 15
	g := newGang(t, ownBroker(t), testShards, noLLM)
	l, r := g.add(learns), g.add(answers)
	l.proc.url(t)
	r.proc.url(t)
	cl, err := kgo.NewClient(kgo.SeedBrokers(g.brokers), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	var records []*kgo.Record
	want := map[string][]string{}
	for n := range users * each {
		user, item := fmt.Sprint("u", n%users), fmt.Sprint("i", n/users)
		want[user] = append(want[user], item)
		id := ""
		if n%2 == 0 {
			id = fmt.Sprintf(`,"id":"e%d"`, n)
		}
		rec := &kgo.Record{
			Topic: g.topics.interactions, Key: []byte(user), Partition: int32(crc32.ChecksumIEEE([]byte(user)) % testShards),
			Value: fmt.Appendf(nil, `{"user_id":"%s","item_id":"%s","type":"click","timestamp":%d%s}`, user, item, firstTime+n, id),
		}
		if n%3 == 1 {
			rec.Key, rec.Partition = nil, int32(n/7%testShards)
		}
		records = append(records, rec)
		if id != "" && n%5 == 0 { // and again, elsewhere
			again := *rec
			again.Partition = (rec.Partition + 1) % testShards
			records = append(records, &again)
		}
	}
	put := func(list []*kgo.Record) {
		t.Helper()
		if err := cl.ProduceSync(withTimeout(t), list...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	half := len(records) / 2
	put(records[:half])
	url := l.proc.url(t)
	eventually(t, "some to be sent home", func() bool { return gaugeOf(t, url, "strays_moved") > 20 })
	l.proc.kill()
	if missing := lacks(l.proc.stderr(), "belongs_to", "murmur2_random", "key records by user"); missing != nil {
		t.Errorf("the log does not say %q:\n%s", missing, tailOf(l.proc.stderr(), 1500))
	}
	g.start(l)
	l.proc.url(t)
	g.produce(t, "items", `{"item_id":"i1","title":"Harbour"}`)
	put(records[half:])
	// Metarank's catalogue records may come among events, and reach the shard that owns the item.
	put([]*kgo.Record{{Topic: g.topics.interactions, Partition: 2, Value: []byte(`{"event":"item","id":"m","timestamp":"1700000000000","item":"i2","fields":[{"name":"title","value":"Orchard"}]}`)}})
	g.rest()
	for user, items := range want {
		if got := g.history(r, user); got != len(items) {
			t.Errorf("the replica knows %d interactions of %s, %d were sent", got, user, len(items))
		}
	}
	g.end(g.all()...)

	cfg, err := node.Load(g.config)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Data = l.data
	shardOf, titles := map[string]int{}, map[string]string{}
	for k := range testShards {
		s, err := cluster.OpenShard(cfg.Shards(), k, cluster.ShardDir(cfg.Shards(), k), zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		for u, err := range s.Users() {
			if err != nil {
				t.Fatal(err)
			}
			if was, two := shardOf[u.ID]; two {
				t.Errorf("user %s is in shards %d and %d", u.ID, was, k)
			}
			shardOf[u.ID] = k
			var items []string
			for _, x := range u.History {
				items = append(items, x.Item)
			}
			slices.Sort(items)
			slices.Sort(want[u.ID])
			if !slices.Equal(items, want[u.ID]) {
				t.Errorf("user %s: %v, sent were %v", u.ID, items, want[u.ID])
			}
		}
		for it, err := range s.Items() {
			if err != nil {
				t.Fatal(err)
			}
			if it.Title != "" {
				titles[it.Item.ID] = it.Title
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if rerun := ok(t, "store", "rerun", "-c", g.config, "--data", l.data, "--shard", fmt.Sprint(k)).last(t); rerun["equal"] != true {
			t.Errorf("shard %d: %v", k, rerun)
		}
	}
	if len(shardOf) != users || titles["i1"] != "Harbour" || titles["i2"] != "Orchard" {
		t.Errorf("%d users of %d; titles %v", len(shardOf), users, titles)
	}
	// The log now holds the copies too. Whoever reads it otherwise counts each event once.
	sum := call(t, "validate", "--topic", g.topics.interactions, "-c", g.config, "--bootstrap-server", g.brokers).last(t)
	if events := sum["sources"].([]any)[0].(map[string]any)["events"]; events != float64(len(records)) {
		t.Errorf("validate --topic counts %v events, %d were sent", events, len(records))
	}
	// The topic may grow to a multiple of the number of shards. Another number would divide users anew, and is refused by name.
	grow := func(to int32) {
		t.Helper()
		ask := kmsg.NewPtrCreatePartitionsRequest()
		one := kmsg.NewCreatePartitionsRequestTopic()
		one.Topic, one.Count = g.topics.interactions, to
		ask.Topics, ask.TimeoutMillis = append(ask.Topics, one), 5000
		if resp, err := ask.RequestWith(withTimeout(t), cl); err != nil || resp.Topics[0].ErrorCode != 0 {
			t.Fatalf("grow the topic to %d partitions: %+v, %v", to, resp, err)
		}
	}
	grow(2 * testShards)
	for user := range want {
		g.produce(t, "interactions", fmt.Sprintf(`{"user_id":"%s","item_id":"last","type":"click","id":"last"}`, user))
		break
	}
	g.start(l)
	g.learners = append(g.learners, l)
	g.rest()
	g.end(l)
	if strings.Contains(l.proc.stderr(), "belongs_to") {
		t.Errorf("more partitions have moved a user:\n%s", tailOf(l.proc.stderr(), 1500))
	}
	grow(2*testShards + 1)
	g.start(l)
	if res := l.proc.wait(t); res.code == 0 || lacks(res.stderr, g.topics.interactions, "a multiple of 4 partitions", "fix: ") != nil {
		t.Errorf("exit %d\n%s", res.code, tailOf(res.stderr, 1500))
	}
	l.proc.killed = true
}

// gaugeOf reads a gauge of /v1/status.
func gaugeOf(t *testing.T, url, name string) (sum float64) {
	t.Helper()
	_, st := fetchJSON(t, "GET", url+"/v1/status", "")
	gauges, _ := st["gauges"].([]any)
	for _, x := range gauges {
		if one := x.(map[string]any); one["name"] == name {
			sum += one["value"].(float64)
		}
	}
	return sum
}
