//go:build app

package apptest

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestRecoveryIsAMatterOfSeconds: so many events are applied, from the embedded broker, `up` is killed with SIGKILL, and the
// next one says when it is ready. CORASTREAM_RECOVERY=1000000 (`make crash RECOVERY=1000000`) is what the figures are of; the
// bound is the time that a person waits for a restart, not a benchmark.
func TestRecoveryIsAMatterOfSeconds(t *testing.T) {
	if os.Getenv("CORASTREAM_RECOVERY") == "" {
		t.Skip("set CORASTREAM_RECOVERY to a number of events")
	}
	events, seed := dose(t, "RECOVERY", 0)
	r := rand.New(rand.NewPCG(seed, 71))
	h := newHome(t, "", "llm: {file: \"off\"}\ncf: {kind: mf, factors: 32}\n")
	h.amend(t, "max_batch_events: 300", "max_batch_events: 4000")
	h.amend(t, "history_limit: 16384, dedupe_limit: 65536, memory_limit_bytes: 67108864", "memory_limit_bytes: 536870912")
	h.amend(t, "reserve_bytes: 67108864", "reserve_bytes: 1073741824")
	up := h.up(t)
	url := up.url(t)
	const users, items = 50_000, 10_000
	for from := 0; from < items; from += 1000 {
		h.produce(t, "items", itemLines(from, from+1000)...)
	}
	for sent := 0; sent < events; {
		n := min(10_000, events-sent)
		records := make([]*kgo.Record, n)
		for i := range records {
			user := fmt.Sprint("u", int(users*r.Float64()*r.Float64()))
			records[i] = &kgo.Record{Topic: h.topics.interactions, Key: []byte(user), Value: fmt.Appendf(nil,
				`{"user_id":"%s","item_id":"i%d","type":"rating","rating":%d,"timestamp":%d,"id":"e%d"}`,
				user, int(items*r.Float64()*r.Float64()), 1+r.IntN(5), firstTime+sent+i, sent+i)}
		}
		h.put(t, records)
		sent += n
		for counter(url, "corastream_events_total") < sent-50_000 { // not more than that in the broker alone
			time.Sleep(20 * time.Millisecond)
			if !up.running() {
				t.Fatalf("up ended\n%s", up.stderr())
			}
		}
	}
	eventually(t, "all events", func() bool { return counter(url, "corastream_events_total") >= events })
	up.kill()
	for range 3 {
		began := time.Now()
		up = h.up(t)
		url = up.url(t)
		eventually(t, "ready", func() bool {
			resp, err := http.Get(url + "/readyz")
			if err != nil {
				return false
			}
			resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		})
		took, cpu := time.Since(began), processorTime(t, up)
		up.kill()
		t.Logf("%d events: ready %.2f s after the start, %.2f s of processor time", events, took.Seconds(), cpu.Seconds())
		if took > time.Minute {
			t.Errorf("%d events: ready after %s", events, took)
		}
	}
}

// processorTime is what a running process has used so far; 0 where there is no /proc.
func processorTime(t *testing.T, p *process) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	var user, system int64
	if _, err := fmt.Sscan(f[11]+" "+f[12], &user, &system); err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond // in ticks of 1/100 s
}
