//go:build app

package apptest

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/node"
	"github.com/corastream/corastream/ingest/devbroker"
	"github.com/corastream/corastream/store"
)

// dose is how much of one kind of fault a test brings about, and its seed: as in CI, or as CORASTREAM_<NAME> says
// (`make crash` sets them), then with a new seed, which is logged. CORASTREAM_SEED repeats one.
func dose(t *testing.T, name string, usual int) (int, uint64) {
	t.Helper()
	n, seed := usual, uint64(1)
	if v := os.Getenv("CORASTREAM_" + name); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil || n < 0 {
			t.Fatalf("CORASTREAM_%s=%s: give a number", name, v)
		}
		if n == 0 {
			t.Skipf("CORASTREAM_%s=0", name)
		}
		seed = uint64(time.Now().UnixNano())
	}
	if v := os.Getenv("CORASTREAM_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("CORASTREAM_SEED=%s: %v", v, err)
		}
	}
	t.Logf("%s=%d, CORASTREAM_SEED=%d", name, n, seed)
	return n, seed
}

// long says whether `make crash` runs the tests, rather than CI.
func long() bool { return os.Getenv("CORASTREAM_CYCLES") != "" }

// TestKillInMidStreamLosesAndDoublesNothing kills `up` with SIGKILL while another process produces, again and again, and
// then holds everything that is left against what was sent: state, dead letters, recommendations, and a re-run of the log.
func TestKillInMidStreamLosesAndDoublesNothing(t *testing.T) {
	eachBroker(t, func(t *testing.T, brokers string) {
		usual := 3
		if brokers != "" {
			usual = 2 // a killed member holds the next one up for the group's session timeout of 6 s
		}
		kills, seed := dose(t, "CYCLES", usual)
		h := newHome(t, brokers, noLLM)
		w := newWorkload(seed, 400, 150)
		if brokers == "" || long() { // a standing broker takes its time to bury dead members
			h.killedAtStart(t, kills, seed) // on an empty folder
		}
		requests := h.surviveKills(t, w, kills, 6000, seed)
		h.killedAtStart(t, kills, seed+1)
		h.mustAgree(t, w, requests, "")
	})
}

// TestKillWhileTheLLMReadsLosesNothing is the same with a frozen LLM and a checkpoint: contents join their items between
// the events, and a re-run has to join them at the same places.
func TestKillWhileTheLLMReadsLosesNothing(t *testing.T) {
	t.Run("tiny", func(t *testing.T) {
		t.Parallel()
		kills, seed := dose(t, "CYCLES", 2)
		file := tinyLLM(t, 1)
		h := newHome(t, "", tinyConfig(file, ""))
		h.amend(t, "checkpoint: \"\"", "checkpoint: "+untrained(t, h.config, 150, nil))
		w := newWorkload(seed, 60, 150)
		h.reads = 30
		h.killedAtStart(t, kills, seed)
		requests := h.surviveKills(t, w, kills, 1500, seed)
		h.killedAtStart(t, kills, seed+1)
		h.mustAgree(t, w, requests, "")
	})
	t.Run("real", func(t *testing.T) {
		file, checkpoint := realLLM(t), demoCheckpoint(t)
		t.Parallel()
		_, seed := dose(t, "CYCLES", 1)
		h := newHome(t, "", "llm: {file: "+file+"}\ncheckpoint: "+checkpoint+"\n")
		w := newWorkload(seed, 24, 25) // twelve users leave one of four partitions to records without a key
		h.reads = 4
		requests := h.surviveKills(t, w, 1, 400, seed)
		h.mustAgree(t, w, requests, "")
	})
}

// surviveKills streams portions of n lines and kills `up` in the middle of each. It returns the ids of requests made.
func (h *home) surviveKills(t *testing.T, w *workload, kills, n int, seed uint64) (requests []string) {
	r := rand.New(rand.NewPCG(seed, 7))
	var producers []*process
	for k := range kills {
		up := h.up(t)
		url := up.url(t)
		if k == 0 { // every other item is clicked before its catalogue record comes
			h.produce(t, "items", itemLines(0, w.items/2)...)
			send(t, h.address(), &kgo.Record{Topic: h.topics.items, Key: []byte("nameless"), Value: []byte(`{"user_id":"u1"}`)})
		}
		producers = append(producers, h.producing(t, "interactions", 8000, w.lines(n)...))
		id := fmt.Sprint("request-", k)
		requests = append(requests, id)
		h.produce(t, "requests", fmt.Sprintf(`{"user_id":"u%d","request_id":"%s","n":3}`, k, id))
		at := 1 + r.IntN(n*3/4)
		eventually(t, fmt.Sprintf("%d events", at), func() bool {
			if !up.running() {
				t.Fatalf("up ended by itself:\n%s", up.stderr())
			}
			return counter(url, "corastream_events_total") >= at && counter(url, "corastream_items_read_total") >= h.reads
		})
		time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
		t.Logf("kill %d after %d of %d records of this portion", k+1, counter(url, "corastream_events_total"), n)
		up.kill()
		h.reads = 0
	}
	// A producer whose broker died with `up` goes on when it is back.
	up := h.up(t)
	up.url(t)
	h.produce(t, "items", itemLines(w.items/2, w.items)...)
	for _, p := range producers {
		if res := p.wait(t); !res.sent() {
			t.Fatalf("produce: exit %d\n%s", res.code, res.stderr)
		}
	}
	up.kill()
	return requests
}

// killedAtStart kills `up` while it starts: making the folder may be killed, and recovery itself.
func (h *home) killedAtStart(t *testing.T, kills int, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 8))
	for range kills {
		up := h.up(t)
		time.Sleep(time.Duration(r.IntN(250)) * time.Millisecond)
		if !up.running() {
			t.Fatalf("up ended by itself:\n%s", up.stderr())
		}
		up.kill()
	}
}

// mustAgree lets `up` finish and checks what it leaves. ranked is what answers and summary say in `degraded`.
func (h *home) mustAgree(t *testing.T, w *workload, requests []string, ranked string) {
	t.Helper()
	sum := h.drain(t)
	t.Logf("last start: %v", sum)
	if got, _ := sum["degraded"].(string); got != ranked {
		t.Errorf("the summary says degraded: %q, want %q", got, ranked)
	}
	again := h.drain(t)
	for _, key := range []string{"events", "duplicates", "dead_letters", "recommendations"} {
		if n := number(t, again, key); n != 0 {
			t.Errorf("a start with nothing new has %s %d", key, n)
		}
	}
	where := []string{"-c", h.config}
	rerun := ok(t, append([]string{"store", "rerun"}, where...)...).last(t)
	if rerun["equal"] != true || number(t, rerun, "journal_lines") < 4 {
		t.Errorf("store rerun: %v", rerun)
	}
	t.Logf("rerun: %v", rerun)
	if check := ok(t, append([]string{"store", "check"}, where...)...).last(t); number(t, check, "problems") != 0 {
		t.Errorf("store check: %v", check)
	}
	broker := h.standing(t)
	truth := h.exactly(t, w)
	if truth.partitions != 4 || truth.repeats == 0 || len(truth.bad) == 0 {
		t.Errorf("the log is too easy: %d partitions, %d repeats, %d bad records", truth.partitions, truth.repeats, len(truth.bad))
	}
	if truth.titled != w.items {
		t.Errorf("%d items have a title, %d catalogue records were sent", truth.titled, w.items)
	}
	truth.lettersMatch(t, topicOf(t, broker, h.topics.letters))
	truth.everybodyWasServed(t, topicOf(t, broker, h.topics.recommendations), requests, ranked)
}

// standing is the address of a broker with this home's log; the embedded one is started for the rest of the test.
func (h *home) standing(t *testing.T) string {
	t.Helper()
	if h.brokers != "" {
		return h.brokers
	}
	if h.own == nil {
		b, err := devbroker.Start(devbroker.Options{Dir: filepath.Join(h.data, "broker")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		h.own = b
	}
	return h.own.Addr()
}

// exactly checks that the state holds what the log says, once, and nothing else.
func (h *home) exactly(t *testing.T, w *workload) *truth {
	t.Helper()
	tr := h.truth(t, w, topicOf(t, h.standing(t), h.topics.interactions))
	h.stateMatches(t, tr)
	return tr
}

type position struct {
	topic     string
	partition int32
	offset    int64
}

// truth is what the log says, by the lines' meanings alone.
type truth struct {
	records, partitions, repeats int
	titled                       int                 // catalogue items of the state
	history                      map[string][]string // user -> items, in the order of the log
	cause                        map[string]position // user -> position of the last event that was not a repeat
	bad                          map[position]string // position -> reason
	gone                         int                 // events that later ones took out of the histories
}

func (h *home) truth(t *testing.T, w *workload, log map[int32][]*kgo.Record) *truth {
	t.Helper()
	tr := &truth{history: map[string][]string{}, cause: map[string]position{}, bad: map[position]string{}}
	sent := map[string]bool{}
	seen := map[[2]string]bool{}
	history := map[string][]learnt{}
	for _, part := range slices.Sorted(maps.Keys(log)) {
		if len(log[part]) > 0 {
			tr.partitions++
		}
		for _, r := range log[part] {
			m, known := w.means[string(r.Value)]
			if !known {
				t.Fatalf("a record that nobody sent: %s", r.Value)
			}
			tr.records++
			sent[string(r.Value)] = true
			pos := position{h.topics.interactions, part, r.Offset}
			if m.bad != "" {
				tr.bad[pos] = m.bad
			}
			for _, ev := range m.events {
				if key := [2]string{ev.user, ev.id}; ev.id != "" {
					if seen[key] {
						tr.repeats++
						continue
					}
					seen[key] = true
				}
				kept := history[ev.user]
				before := len(kept)
				kept = slices.DeleteFunc(kept, func(x learnt) bool {
					return x.item == ev.item && x.at <= ev.at && (ev.back == "all" || ev.back == "likes" && x.like)
				})
				tr.gone += before - len(kept)
				if ev.back != "all" {
					kept = append(kept, ev)
				}
				history[ev.user] = kept
				tr.cause[ev.user] = pos
			}
		}
	}
	for user, kept := range history {
		tr.history[user] = nil
		for _, ev := range kept {
			tr.history[user] = append(tr.history[user], ev.item)
		}
	}
	for line := range w.means {
		if !sent[line] {
			t.Errorf("produce said it was done, but this line is not in the log: %s", line)
		}
	}
	t.Logf("log: %d records, %d users, %d repeats, %d bad", tr.records, len(tr.history), tr.repeats, len(tr.bad))
	return tr
}

// openStore opens the state that a process, which has ended, left behind.
func (h *home) openStore(t *testing.T) (node.Config, *store.Store) {
	t.Helper()
	cfg, err := node.Load(h.config)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Data = h.data
	s, _, err := node.OpenStore(cfg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return cfg, s
}

// stateMatches: every good event is in its user's history once, in the order of the log, and nothing else is.
func (h *home) stateMatches(t *testing.T, tr *truth) {
	t.Helper()
	cfg, s := h.openStore(t)
	defer s.Close()
	events, histories := 0, tr.compare(t)
	for u, err := range s.Users() {
		if err != nil {
			t.Fatal(err)
		}
		events += histories.add(u)
	}
	histories.end()
	unread := 0
	for it, err := range s.Items() {
		if err != nil {
			t.Fatal(err)
		}
		if it.Title != "" {
			tr.titled++
			if it.Content == nil {
				unread++
			}
		}
	}
	if cfg.Checkpoint != "" && unread > 0 {
		t.Errorf("%d items have a title and no content: the LLM has not read them", unread)
	}
	st, err := s.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if st.Debts != 0 || st.Requests != 0 {
		t.Errorf("%d users and %d requests are still owed an answer", st.Debts, st.Requests)
	}
	t.Logf("state: %d users, %d events, %d items", histories.users, events, tr.titled)
}

// comparison holds the users of a state, or of several, against the log.
type comparison struct {
	t             *testing.T
	tr            *truth
	users, differ int
}

func (tr *truth) compare(t *testing.T) *comparison { return &comparison{t: t, tr: tr} }

// add compares one user and returns how many events its history holds.
func (c *comparison) add(u *corastream.UserState) int {
	c.t.Helper()
	c.users++
	var items []string
	for _, x := range u.History {
		items = append(items, x.Item)
	}
	if want := c.tr.history[u.ID]; !slices.Equal(items, want) {
		if c.differ++; c.differ <= 5 {
			c.t.Errorf("user %s: the history holds %d events, the log %d; they part at %d", u.ID, len(items), len(want), partAt(items, want))
		}
	} else if int(u.Count) < len(items) { // an implicit event is one step and one for each negative
		c.t.Errorf("user %s: %d steps for %d events", u.ID, u.Count, len(items))
	}
	return len(items)
}

// end says what all of them came to.
func (c *comparison) end() {
	c.t.Helper()
	if c.differ > 5 {
		c.t.Errorf("%d users' histories differ from the log", c.differ)
	}
	if c.users != len(c.tr.history) {
		c.t.Errorf("the state knows %d users, the log %d", c.users, len(c.tr.history))
	}
}

func partAt(a, b []string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// lettersMatch: each bad record has its letter, with its reason, and no good one has any.
func (tr *truth) lettersMatch(t *testing.T, letters map[int32][]*kgo.Record) {
	t.Helper()
	got := map[position]string{}
	nameless := 0
	for _, part := range letters {
		for _, r := range part {
			h := headers(r)
			p, _ := strconv.Atoi(h["partition"])
			offset, err := strconv.ParseInt(h["offset"], 10, 64)
			if err != nil {
				t.Fatalf("a dead letter without its offset: %v", h)
			}
			if strings.HasSuffix(h["topic"], ".items") && h["reason"] == "title" {
				nameless++
				continue
			}
			got[position{h["topic"], int32(p), offset}] = h["reason"]
		}
	}
	if !maps.Equal(got, tr.bad) {
		for p, reason := range tr.bad {
			if got[p] != reason {
				t.Errorf("bad record %v (%s) has the letter %q", p, reason, got[p])
			}
		}
		for p, reason := range got {
			if tr.bad[p] == "" {
				t.Errorf("good record %v is among the dead letters, reason %q", p, reason)
			}
		}
	}
	if nameless == 0 {
		t.Error("the event on the items topic is not among the dead letters")
	}
}

func headers(r *kgo.Record) map[string]string {
	h := map[string]string{}
	for _, x := range r.Headers {
		h[x.Key] = string(x.Value)
	}
	return h
}

// everybodyWasServed: the last recommendation of each user covers the user's last event, and each request was answered.
func (tr *truth) everybodyWasServed(t *testing.T, recs map[int32][]*kgo.Record, requests []string, ranked string) {
	t.Helper()
	last := map[string]position{}
	answered := map[string]bool{}
	byID := map[string]string{}
	n, repeats := 0, 0
	for _, part := range recs {
		for _, r := range part {
			var v struct {
				ID       string `json:"id"`
				User     string `json:"user_id"`
				Request  string `json:"request_id"`
				Degraded string `json:"degraded"`
				Cause    struct {
					Topic     string `json:"topic"`
					Partition int32  `json:"partition"`
					Offset    int64  `json:"offset"`
				} `json:"cause"`
			}
			if err := json.Unmarshal(r.Value, &v); err != nil {
				t.Fatalf("recommendation %s: %v", r.Value, err)
			}
			if string(r.Key) != v.User || v.ID == "" {
				t.Fatalf("recommendation with key %q: %s", r.Key, r.Value)
			}
			if v.Degraded != ranked {
				t.Errorf("user %s was answered with degraded: %q, want %q", v.User, v.Degraded, ranked)
			}
			n++
			if byID[v.ID] != "" {
				repeats++
			}
			byID[v.ID] = v.User
			if v.Request != "" {
				answered[v.Request] = true
				continue
			}
			last[v.User] = position{v.Cause.Topic, v.Cause.Partition, v.Cause.Offset}
		}
	}
	for user, want := range tr.cause {
		if last[user] != want {
			t.Errorf("the last recommendation of user %s covers %v, the last event is %v", user, last[user], want)
		}
	}
	for _, id := range requests {
		if !answered[id] {
			t.Errorf("request %s has no answer", id)
		}
	}
	t.Logf("recommendations: %d, of which %d repeat an id", n, repeats)
}
