//go:build app

package apptest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/cluster"
	"github.com/corastream/corastream/cmd/internal/node"
	"github.com/corastream/corastream/ingest/devbroker"
)

func ownBroker(t *testing.T) string {
	t.Parallel()
	b, err := devbroker.Start(devbroker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b.Addr()
}

// TestErasingInACluster: a user is forgotten by the shard that owns it, while it learns, and by the replicas; what the user does afterwards is
// learnt anew, and what the log still holds is not.
func TestErasingInACluster(t *testing.T) {
	g := newGang(t, ownBroker(t), testShards, noLLM)
	w := newWorkload(3, 40, 60)
	l, r := g.add(learns), g.add(answers)
	l.proc.url(t)
	g.produce(t, "items", itemLines(0, w.items)...)
	g.produce(t, "items", `{"item_id":"i3","price":2}`, `{"item_id":"i4","available":false}`, `{"item_id":"i5","withdrawn":true}`, `{"item_id":"i5","available":true}`)
	g.produce(t, "interactions", w.lines(600)...)
	g.rest()
	before := g.truth(t, w, topicOf(t, g.brokers, g.topics.interactions))
	user := slices.Sorted(maps.Keys(before.history))[5]
	if got := g.history(r, user); got != len(before.history[user]) {
		t.Fatalf("the replica knows %d interactions of %s, the log %d", got, user, len(before.history[user]))
	}
	done := ok(t, "erase", user, "-c", g.config, "--bootstrap-server", g.brokers).last(t)
	if shards, _ := done["shards"].([]any); len(shards) != 1 {
		t.Errorf("erase: %v", done)
	}
	eventually(t, "the replica to forget", func() bool { return g.history(r, user) == 0 })
	g.rest() // the shard is back with its process
	gone, users, items := false, map[string]bool{}, map[string]bool{}
	for _, line := range jsonLines(t, ok(t, "consume", "--embeddings", "-c", g.config, "--bootstrap-server", g.brokers).stdout) {
		switch line["kind"] {
		case "user":
			users[line["user_id"].(string)] = true
			gone = gone || line["user_id"] == user && line["gone"] == true
		case "item":
			if v, _ := line["vec"].([]any); len(v) == 8 {
				items[line["item_id"].(string)] = true
			}
		}
	}
	if !gone || len(users) != len(before.history) || len(items) < 20 {
		t.Errorf("outsiders are told of %d users, %d items, and that %s is gone: %v", len(users), len(items), user, gone)
	}
	g.produce(t, "interactions", fmt.Sprintf(`{"user_id":"%s","item_id":"i1","rating":5,"id":"after"}`, user))
	g.rest()
	if got := g.history(r, user); got != 1 {
		t.Errorf("after one more event the replica knows %d interactions of %s", got, user)
	}
	g.end(g.all()...)
	cfg, err := node.Load(g.config)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Data = l.data
	found := 0
	for k := range testShards {
		s, err := cluster.OpenShard(cfg.Shards(), k, cluster.ShardDir(cfg.Shards(), k), zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		err = s.View(t.Context(), func(st corastream.State) error {
			u, err := st.User(user)
			if err != nil {
				return err
			}
			found += len(u.History)
			for _, id := range []string{"i3", "i4", "i5"} { // every shard has what the partial records left, and what they changed
				it, err := st.Item(id)
				if err != nil {
					return err
				}
				if it.Title == "" || it.Withdrawn != (id == "i4") || it.Fields["price"] != map[string]string{"i3": "2"}[id] {
					t.Errorf("shard %d, %s: %+v", k, id, it.Item)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if rerun := ok(t, "store", "rerun", "-c", g.config, "--data", l.data, "--shard", fmt.Sprint(k)).last(t); rerun["equal"] != true {
			t.Errorf("shard %d: %v", k, rerun)
		}
	}
	if found != 1 {
		t.Errorf("the shards hold %d interactions of %s, want the one after the erasure", found, user)
	}
}

// history is how many interactions a replica knows of a user.
func (g *gang) history(m *member, user string) int {
	g.t.Helper()
	resp, err := http.Get(m.proc.url(g.t) + "/v1/users/" + user)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	var v struct {
		History []any `json:"history"`
	}
	if resp.StatusCode == http.StatusNotFound {
		return 0
	}
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		g.t.Fatal(err)
	}
	return len(v.History)
}

// TestAStandbyReadsTheLastMomentsAlone when it takes over what a killed member had.
func TestAStandbyReadsTheLastMomentsAlone(t *testing.T) {
	g := newGang(t, ownBroker(t), testShards, noLLM+"cluster: {standby: true}\n")
	w := newWorkload(4, 40, 60)
	a, b := g.add(learns), g.add(learns)
	for _, m := range g.learners { // before there is anything to read
		eventually(t, "shards for both", func() bool { return counter(m.proc.url(t), "corastream_shards_owned") == testShards/2 })
	}
	g.rest()
	g.produce(t, "items", itemLines(0, w.items)...)
	g.produce(t, "interactions", w.lines(1500)...)
	g.rest()
	g.standbysWait()
	a.proc.kill()
	g.learners = []*member{b}
	g.rest()
	all := 0
	for _, l := range topicOf(t, g.brokers, strings.TrimSuffix(g.topics.interactions, ".interactions")+".embeddings") {
		all += len(l)
	}
	taken, read := 0, 0
	for _, line := range strings.Split(b.proc.stderr(), "\n") {
		var v struct {
			Message string `json:"message"`
			Records int    `json:"records"`
			Epoch   int    `json:"epoch"`
		}
		if json.Unmarshal([]byte(line), &v) == nil && v.Message == "shard taken over" {
			taken++
			read += v.Records
		}
	}
	if taken < testShards || all < 1000 || read > all/10 {
		t.Errorf("%d takeovers read %d of %d changes", taken, read, all)
	}
	t.Logf("%d takeovers read %d of %d changes", taken, read, all)
	g.end(b)
}

// standbysWait waits until every standby has found nothing new.
func (g *gang) standbysWait() {
	eventually(g.t, "the standbys to be level", func() bool {
		found := 0
		for _, m := range g.learners {
			_, st := fetchJSON(g.t, "GET", m.proc.url(g.t)+"/v1/status", "")
			gauges, _ := st["gauges"].([]any)
			for _, x := range gauges {
				if one := x.(map[string]any); one["name"] == "standby_records" {
					if one["value"].(float64) != 0 {
						return false
					}
					found++
				}
			}
		}
		return found == g.shards
	})
}

// TestAProcessOfAClusterNamesWhatItCanNotBe before anything is opened.
func TestAProcessOfAClusterNamesWhatItCanNotBe(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"--stages", "ingest"}, []string{"--stages", "cfstream"}},
		{[]string{"--stages", "learn"}, []string{"--stages", "ingest, cfstream, generator, serve"}},
		{[]string{}, []string{"--stages"}},
		{[]string{"--stages", learns}, []string{"kafka.shards"}},
		{[]string{"--stages", learns, "--shards", "4"}, []string{"kafka.brokers"}},
		{[]string{"--stages", learns, "--shards", "4", "--bootstrap-server", "127.0.0.1:1", "-c", write(t, "g.yaml", "cf: {kind: lightgcn}\n")}, []string{"cf.kind", "shard"}},
		{[]string{"--stages", learns, "--shards", "4", "--bootstrap-server", "127.0.0.1:1", "-c", write(t, "x.yaml", "cluster: {exchange_every: 0s}\n")}, []string{"cluster.exchange_every"}},
	} {
		r := call(t, append([]string{"run"}, c.args...)...)
		if missing := lacks(r.stderr, c.want...); r.code != 2 || len(missing) > 0 {
			t.Errorf("run %v: exit %d, without %q: %s", c.args, r.code, missing, r.stderr)
		}
	}
}

// TestAFailpointInAClusterLosesAndDoublesNothing kills a learner on both sides of its changelog and of its store, and has it fail there, and a
// replica between its answers and what it tells the group.
func TestAFailpointInAClusterLosesAndDoublesNothing(t *testing.T) {
	g := newGang(t, ownBroker(t), testShards, noLLM)
	w := newWorkload(11, 60, 60)
	seed := g.add(learns)
	seed.proc.url(t)
	g.produce(t, "items", itemLines(0, w.items)...)
	send(t, g.brokers, &kgo.Record{Topic: g.topics.items, Key: []byte("nameless"), Value: []byte(`{"user_id":"u1"}`)})
	g.rest()
	g.end(seed)

	tag := strings.TrimSuffix(g.topics.interactions, ".interactions")
	runs, _ := dose(t, "RUNS", 1)
	dead := &member{name: "struck", stages: learns, data: seed.data}
	for run := range runs {
		for i, name := range []string{"changelog.append", "changelog.appended", "store.commit", "store.committed"} {
			action := []string{"kill", "error"}[(run+i)%2]
			g.amend(t, "group: "+tag, fmt.Sprintf("group: %s-%d-%d", tag, run, i)) // a killed member holds its group up
			dead.proc = startFailing(t, fmt.Sprintf("%s@%d=%s", name, 9+run, action), "run", "--stages", learns, "-c", g.config, "--data", dead.data, "--member", "struck")
			for n := 0; n < 60 && !dead.proc.ends(100*time.Millisecond); n++ {
				g.produce(t, "interactions", w.lines(60)...)
			}
			wasHit(t, dead.proc, name, action)
			g.amend(t, fmt.Sprintf("group: %s-%d-%d", tag, run, i), "group: "+tag)
		}
		l := g.add(learns)
		r := &member{name: "answering", stages: answers, data: filepath.Join(t.TempDir(), "data")}
		g.produce(t, "requests", fmt.Sprintf(`{"user_id":"u1","request_id":"request-%d","n":3}`, run))
		r.proc = startFailing(t, fmt.Sprintf("replica.settle@2=%s", []string{"kill", "error"}[run%2]), "run", "--stages", answers, "-c", g.config, "--data", r.data)
		for n := 0; n < 60 && !r.proc.ends(200*time.Millisecond); n++ {
			g.produce(t, "interactions", w.lines(30)...)
		}
		wasHit(t, r.proc, "replica.settle", []string{"kill", "error"}[run%2])
		g.add(answers)
		g.rest()
		g.end(append(g.replicas, l)...)
	}
	heir := g.add(learns)
	g.rest()
	g.end(heir)
	g.inherits(heir, w, []string{"request-0"}, "")
}
