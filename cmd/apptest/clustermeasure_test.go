//go:build app

package apptest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestMeasureCluster is `make cluster`: real ratings through two shards and two replicas on Apache Kafka, with the frozen LLM, and the
// figures of docs/measured/scale.md as JSON lines. It asserts that all is learnt and answered, and no time.
func TestMeasureCluster(t *testing.T) {
	if os.Getenv("CORASTREAM_CLUSTER") == "" {
		t.Skip("CORASTREAM_CLUSTER is not set: `make cluster` runs this")
	}
	brokers := os.Getenv("CORASTREAM_KAFKA")
	if brokers == "" {
		t.Fatal("set CORASTREAM_KAFKA: `make cluster` starts Apache Kafka")
	}
	only := strings.Split(os.Getenv("CORASTREAM_CLUSTER"), ",")
	for _, part := range []struct {
		name string
		run  func(*testing.T, string)
	}{
		{"learning", measureLearning}, {"answers", measureAnswers}, {"freshness", measureFreshness}, {"move", measureMove},
	} {
		if slices.Contains(only, "all") || slices.Contains(only, part.name) {
			t.Run(part.name, func(t *testing.T) { part.run(t, brokers) })
		}
	}
}

// tell prints one figure.
func tell(t *testing.T, v map[string]any) {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(string(b))
}

// ratings are rows of MovieLens-100K, as lines of the interactions topic, and its catalogue's file.
func ratings(t *testing.T) (lines []string, items string) {
	dir := os.Getenv("CORASTREAM_ML100K")
	if dir == "" {
		dir = filepath.Join("..", "..", ".cache", "ml-100k")
	}
	b, err := os.ReadFile(filepath.Join(dir, "train.csv"))
	if err != nil {
		t.Skipf("no ratings (%v): run `make fetch`", err)
	}
	rows := strings.Split(strings.TrimSpace(string(b)), "\n")
	head := strings.Split(strings.TrimSpace(rows[0]), ",")
	for n, row := range rows[1:] {
		m := map[string]any{"id": fmt.Sprint("r", n)}
		for i, v := range strings.Split(strings.TrimSpace(row), ",") {
			switch head[i] {
			case "user_id", "item_id":
				m[head[i]] = v
			default:
				f, err := strconv.ParseFloat(v, 64)
				if err != nil {
					t.Fatalf("train.csv: row %d: %v", n+1, err)
				}
				m[head[i]] = f
			}
		}
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(b))
	}
	items, err = filepath.Abs(filepath.Join(dir, "items.csv"))
	if err != nil {
		t.Fatal(err)
	}
	return lines, items
}

// catalogueSize counts the rows of a catalogue's file.
func catalogueSize(t *testing.T, path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(strings.TrimSpace(string(b)), "\n")
}

func (m *member) cpu() float64 {
	return (m.proc.cmd.ProcessState.UserTime() + m.proc.cmd.ProcessState.SystemTime()).Seconds()
}

// measureLearning: processor seconds per event of one process with one shard, and of two with one of two shards each.
func measureLearning(t *testing.T, brokers string) {
	rows, _ := ratings(t)
	var lines []string
	for n := range 8 { // other people with the same tastes: long enough for the start not to count
		for _, row := range rows {
			lines = append(lines, strings.NewReplacer(`"user_id":"`, fmt.Sprintf(`"user_id":"%d-`, n), `"id":"`, fmt.Sprintf(`"id":"%d-`, n)).Replace(row))
		}
	}
	for _, batch := range []int{1000, 4000} {
		measureLearningBy(t, brokers, lines, batch)
	}
}

func measureLearningBy(t *testing.T, brokers string, lines []string, batch int) {
	per := map[int]float64{}
	for _, n := range []int{1, 2} {
		g := newGang(t, brokers, n, "llm: {file: \"off\"}\ncf: {kind: mf, factors: 16}\n")
		g.amend(t, "max_batch_events: 300", fmt.Sprintf("max_batch_events: %d", batch))
		first := g.add(learns)
		first.proc.url(t)
		g.end(first) // it has made the topics; what it cost is not counted
		g.produce(t, "interactions", lines...)
		began := time.Now()
		for range n {
			g.add(learns)
		}
		g.rest()
		took := time.Since(began).Seconds()
		members := slices.Clone(g.learners)
		learnt, cpu := 0, 0.0
		for _, m := range members {
			learnt += counter(m.proc.url(t), "corastream_events_total")
		}
		g.end(members...)
		for _, m := range members {
			cpu += m.cpu()
		}
		if learnt != len(lines) {
			t.Errorf("%d shards learnt %d of %d events", n, learnt, len(lines))
		}
		per[n] = cpu / float64(learnt)
		tell(t, map[string]any{"figure": "cpu_seconds_per_event", "batch": batch, "shards": n, "processes": n, "events": learnt, "cpu_us_per_event": per[n] * 1e6, "seconds_with_start_and_rest": took})
	}
	tell(t, map[string]any{"figure": "cpu_seconds_per_event", "batch": batch, "ratio_2_to_1": per[2] / per[1]})
}

// measureAnswers: requests per second over Kafka of one replica on one core, and of two on a core each.
func measureAnswers(t *testing.T, brokers string) {
	lines, items := ratings(t)
	g := newGang(t, brokers, 2, "llm: {file: "+realLLM(t)+", threads: 1}\ncheckpoint: "+demoCheckpoint(t)+"\n")
	l := g.add(learns)
	l.proc.url(t)
	ok(t, "produce", items, "-c", g.config, "--bootstrap-server", brokers)
	g.produce(t, "interactions", lines[:20000]...)
	g.rest()
	g.end(l)
	rate := map[int]float64{}
	for _, n := range []int{1, 2} {
		var list []*member
		for core := range n {
			m := g.add(answers)
			pin(t, m.proc.cmd.Process.Pid, core)
			m.proc.url(t)
			list = append(list, m)
		}
		eventually(t, "the replicas to have read everything and to have answered who moved", func() bool { return g.answered(list) })
		var ask []string
		for i := range 1500 * n {
			ask = append(ask, fmt.Sprintf(`{"user_id":"%d","request_id":"n%d-%d","n":10}`, 1+i%300, n, i))
		}
		before := g.made(list)
		g.produce(t, "requests", ask[:200*n]...) // warm: the KV of the catalogue
		eventually(t, "the warm-up", func() bool { return g.made(list) >= before+200*n })
		began, before := time.Now(), g.made(list)
		g.produce(t, "requests", ask[200*n:]...)
		eventually(t, "the answers", func() bool { return g.made(list) >= before+1300*n })
		rate[n] = float64(1300*n) / time.Since(began).Seconds()
		tell(t, map[string]any{"figure": "requests_per_second", "replicas": n, "candidates": 20, "requests_per_s": rate[n]})
		g.end(list...)
	}
	tell(t, map[string]any{"figure": "requests_per_second", "ratio_2_to_1": rate[2] / rate[1]})
}

// answered says that replicas owe nothing; without a learner there is nobody to wait for.
func (g *gang) answered(list []*member) bool {
	duties := 0
	for _, m := range list {
		url := m.proc.url(g.t)
		duties += counter(url, "corastream_duties_partitions")
		if counter(url, "corastream_behind_records") != 0 || counter(url, "corastream_duties_lag") != 0 || counter(url, "corastream_duties_open") != 0 {
			return false
		}
	}
	return duties == g.shards+requestPartitions
}

func (g *gang) made(list []*member) (n int) {
	for _, m := range list {
		n += counter(m.proc.url(g.t), "corastream_recommendations_total")
	}
	return n
}

// measureFreshness: from the append of a rating until the append of the recommendation that knows it, with two shards in two processes and
// two replicas.
func measureFreshness(t *testing.T, brokers string) {
	lines, items := ratings(t)
	g := newGang(t, brokers, 2, "llm: {file: "+realLLM(t)+"}\ncheckpoint: "+demoCheckpoint(t)+"\n")
	for range 2 {
		g.add(learns)
		g.add(answers)
	}
	for _, m := range g.all() {
		m.proc.url(t)
	}
	ok(t, "produce", items, "-c", g.config, "--bootstrap-server", brokers)
	g.produce(t, "interactions", lines[:5000]...)
	g.rest()
	eventually(t, "the titles to be read", func() bool { // every item of the file has one
		read := 0
		for _, m := range g.learners {
			read += counter(m.proc.url(t), "corastream_items_read_total")
		}
		return read >= catalogueSize(t, items)
	})
	g.rest()
	mark := time.Now()
	p := g.producing(t, "interactions", 20, lines[5000:5600]...)
	if r := p.wait(t); !r.sent() {
		t.Fatal(r.stderr)
	}
	g.rest()
	appended := map[position]time.Time{}
	for part, list := range topicOf(t, brokers, g.topics.interactions) {
		for _, r := range list {
			appended[position{g.topics.interactions, part, r.Offset}] = r.Timestamp
		}
	}
	var ms []float64
	for _, list := range topicOf(t, brokers, g.topics.recommendations) {
		for _, r := range list {
			var v struct {
				Oldest *time.Time `json:"oldest_interaction_at"`
			}
			if err := json.Unmarshal(r.Value, &v); err != nil {
				t.Fatal(err)
			}
			if v.Oldest != nil && v.Oldest.After(mark) {
				ms = append(ms, float64(r.Timestamp.Sub(*v.Oldest).Microseconds())/1000)
			}
		}
	}
	if len(ms) < 100 {
		t.Fatalf("%d recommendations of 600 ratings", len(ms))
	}
	slices.Sort(ms)
	tell(t, map[string]any{
		"figure": "freshness_ms", "shards": 2, "replicas": 2, "ratings_per_s": 20, "recommendations": len(ms),
		"p50": ms[len(ms)/2], "p90": ms[len(ms)*9/10], "p99": ms[len(ms)*99/100], "max": ms[len(ms)-1],
	})
	g.end(g.all()...)
}

// measureMove: a shard of CORASTREAM_VECTORS users (1,000,000) comes to an empty folder: from the start of the process until it learns,
// and until a replica with an empty folder has read it.
func measureMove(t *testing.T, brokers string) {
	users := 1_000_000
	if v := os.Getenv("CORASTREAM_VECTORS"); v != "" {
		var err error
		if users, err = strconv.Atoi(v); err != nil {
			t.Fatalf("CORASTREAM_VECTORS=%s: give a number", v)
		}
	}
	g := newGang(t, brokers, 1, "llm: {file: \"off\"}\ncf: {kind: mf, factors: 32}\n")
	g.amend(t, "max_batch_events: 300", "max_batch_events: 2000")
	g.amend(t, "memory_limit_bytes: 67108864, reserve_bytes: 67108864", "memory_limit_bytes: 536870912, reserve_bytes: 536870912")
	m := g.add(learns)
	m.proc.url(t)
	const slice = 100_000
	for from := 0; from < users; from += slice {
		recs := make([]*kgo.Record, 0, slice)
		for u := from; u < min(users, from+slice); u++ {
			recs = append(recs, &kgo.Record{
				Topic: g.topics.interactions, Key: []byte(fmt.Sprint("u", u)),
				Value: []byte(fmt.Sprintf(`{"user_id":"u%d","item_id":"i%d","rating":%d,"timestamp":%d}`, u, u%2000, 1+u%5, firstTime+u)),
			})
		}
		send(t, brokers, recs...)
	}
	eventually(t, "a million users to be learnt", func() bool { return counter(m.proc.url(t), "corastream_events_total") >= users })
	g.rest()
	g.end(m)
	heir := g.add(learns)
	began := time.Now()
	eventually(t, "the takeover", func() bool { return strings.Contains(heir.proc.stderr(), "shard taken over") })
	took := time.Since(began).Seconds()
	var inner float64
	for _, line := range strings.Split(heir.proc.stderr(), "\n") {
		var v map[string]any
		if json.Unmarshal([]byte(line), &v) == nil && v["message"] == "shard taken over" {
			inner, _ = v["took"].(float64)
		}
	}
	r := g.add(answers)
	began = time.Now()
	eventually(t, "a replica", func() bool { return readyWith(t, r.proc.url(t), "") })
	tell(t, map[string]any{"figure": "move", "vectors": users, "seconds_from_start_to_learning": took, "of_them_restoring_s": inner / 1000, "replica_from_start_to_caught_up_s": time.Since(began).Seconds()})
	r.proc.signal(syscall.SIGTERM)
	g.end(heir)
}
