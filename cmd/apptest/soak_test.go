//go:build app

package apptest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/corastream/corastream/ingest/devbroker"
)

// lasting reads a test's length from the environment: CORASTREAM_SOAK=1h. Without it the long tests are skipped.
func lasting(t *testing.T, name, target string) time.Duration {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		t.Skipf("%s is not set: `%s` runs this", name, target)
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < 5*time.Second {
		t.Fatalf("%s=%s: give a duration of at least 5s, as in 10m", name, v)
	}
	return d
}

// usage is what a process holds at one moment.
type usage struct {
	At         float64 `json:"at_s"`
	Events     float64 `json:"events"`
	Goroutines float64 `json:"goroutines"`
	Descr      float64 `json:"descriptors"` // open files less the store's tables, whose number follows the data on the disk
	HeapMiB    float64 `json:"heap_mib"`    // live, just after a collection
	AnonMiB    float64 `json:"anon_mib"`    // resident memory that is no file's page
}

// watch reads a running `up`: its counters, the live heap after a forced collection, and what the kernel says of it.
func (p *process) watch(url, admin, data string, began time.Time) (usage, error) {
	if err := fetchPage(admin+"/debug/pprof/heap?gc=1&debug=0", io.Discard); err != nil {
		return usage{}, err
	}
	var page strings.Builder
	if err := fetchPage(url+"/metrics", &page); err != nil {
		return usage{}, err
	}
	m := map[string]float64{}
	for _, line := range strings.Split(page.String(), "\n") {
		name, v, ok := strings.Cut(line, " ")
		if f, err := strconv.ParseFloat(v, 64); ok && err == nil {
			m[name] = f
		}
	}
	tables, err := filepath.Glob(filepath.Join(data, "store", "*.sst"))
	if err != nil {
		return usage{}, err
	}
	return usage{
		At: time.Since(began).Seconds(), Events: m["corastream_events_total"], Goroutines: m["go_goroutines"],
		Descr: m["process_open_fds"] - float64(len(tables)), HeapMiB: m["go_memstats_heap_alloc_bytes"] / (1 << 20),
		AnonMiB: float64(anonymous(p.cmd.Process.Pid)) / (1 << 20),
	}, nil
}

func fetchPage(url string, into io.Writer) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %d", url, resp.StatusCode)
	}
	_, err = io.Copy(into, resp.Body)
	return err
}

// anonymous is a process's resident memory without the pages of mapped files, which the kernel takes back when it needs
// them; 0 where there is no /proc.
func anonymous(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(b), "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "RssAnon:" {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return 0
			}
			return kb << 10
		}
	}
	return 0
}

// traffic keeps a running `up` busy until ctx ends: records at full rate, as far ahead of the learner as lead, requests
// over Kafka, and every kind of question over HTTP.
type traffic struct {
	produced, asked, failed atomic.Int64
	wg                      sync.WaitGroup
}

const soakUsers, soakItems = 2000, 400

// stream produces events: 1 % of them bad, 2 % repeats. Users and items are so many and no more, so that what is kept of
// them stops growing when every user's history and ids are full.
func (tr *traffic) stream(ctx context.Context, t *testing.T, h *home, url string, lead int64) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(h.address()), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		t.Error(err)
		return
	}
	defer cl.Close()
	r := rand.New(rand.NewPCG(5, 6))
	for n := 0; ctx.Err() == nil; {
		done := counter(url, "corastream_events_total") + counter(url, "corastream_duplicates_total") +
			max(0, counter(url, `corastream_dead_letters_total{reason="json"}`))
		if tr.produced.Load()-int64(done) > lead {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		var records []*kgo.Record
		for range 2000 {
			n++
			id := n
			if n%50 == 0 {
				id = n - 40 // a repeat
			}
			v := fmt.Sprintf(`{"user_id":"u%d","item_id":"i%d","type":"rating","rating":%d,"id":"e%d","timestamp":%d}`,
				id*7919%soakUsers, int(soakItems*r.Float64()*r.Float64()), 1+r.IntN(5), id, time.Now().Unix())
			if n%100 == 1 {
				v = v[:len(v)-9]
			}
			records = append(records, &kgo.Record{Topic: h.topics.interactions, Value: []byte(v)})
		}
		if n%20000 == 0 {
			id := r.IntN(soakUsers)
			records = append(records, &kgo.Record{Topic: h.topics.requests, Value: fmt.Appendf(nil, `{"user_id":"u%d","request_id":"r%d","n":5}`, id, n)})
		}
		if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil && ctx.Err() == nil {
			t.Errorf("produce: %v", err)
			return
		}
		tr.produced.Add(2000)
	}
}

// ask sends HTTP requests one after another, new connections among them.
func (tr *traffic) ask(ctx context.Context, url string) {
	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for n := 0; ctx.Err() == nil; n++ {
		method, path, body := http.MethodGet, "/v1/users/u1", ""
		switch n % 6 {
		case 0:
			method, path, body = http.MethodPost, "/v1/recommend", fmt.Sprintf(`{"user_id":"u%d","n":5}`, n%soakUsers)
		case 1:
			method, path, body = http.MethodPost, "/v1/rerank", `{"query":"u3","documents":["Harbour","Orchard","Harbour"]}`
		case 2:
			path = "/v1/status"
		case 3:
			method, path, body = http.MethodPost, "/v1/recommend", `{"user_id":`
		case 4:
			path = "/assets/none"
		}
		req, err := http.NewRequestWithContext(ctx, method, url+path, strings.NewReader(body))
		if err != nil {
			return
		}
		req.Header.Set("Content-Type", "application/json")
		client := http.DefaultClient
		if n%10 == 0 {
			client = fresh
		}
		resp, err := client.Do(req)
		if err != nil { // cut off by the server's own time limit; whether it still runs is watched elsewhere
			continue
		}
		if resp.StatusCode >= 500 && resp.StatusCode != http.StatusServiceUnavailable && resp.StatusCode != http.StatusGatewayTimeout {
			tr.failed.Add(1) // 503 and 504 are a busy machine's answers
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		tr.asked.Add(1)
		time.Sleep(20 * time.Millisecond)
	}
}

// TestSoak runs `up` at full rate for CORASTREAM_SOAK and holds what it uses at the end against what it used after the
// first third: no goroutine, no descriptor, no heap may have been added. The broker is outside, so that only `up` is
// measured.
func TestSoak(t *testing.T) {
	length := lasting(t, "CORASTREAM_SOAK", "make soak DURATION=1m")
	broker, err := devbroker.Start(devbroker.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	h := newHome(t, broker.Addr(), tinyConfig(tinyLLM(t, 1), ""))
	h.amend(t, "checkpoint: \"\"", "checkpoint: "+untrained(t, h.config, 150, nil))
	h.amend(t, "history_limit: 16384, dedupe_limit: 65536", "history_limit: 64, dedupe_limit: 128")
	h.amend(t, "max_batch_events: 300", "max_batch_events: 1000")
	h.amend(t, "create: {replication: 1}", "create: {replication: 1, retention: 15m}")
	admin := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	h.amend(t, "http: {listen: \"127.0.0.1:0\"}", "http: {listen: \"127.0.0.1:0\", admin_listen: \""+admin+"\"}")

	up := h.up(t)
	url := up.url(t)
	h.produce(t, "items", itemLines(0, soakItems)...)
	ctx, stop := context.WithTimeout(t.Context(), length)
	defer stop()
	var tr traffic
	tr.wg.Go(func() { tr.stream(ctx, t, h, url, 60_000) })
	tr.wg.Go(func() { tr.ask(ctx, url) })
	var samples []usage
	began := time.Now()
	for every := max(time.Second, min(15*time.Second, length/60)); ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-time.After(every):
			u, err := up.watch(url, "http://"+admin, h.data, began)
			if !up.running() {
				t.Fatalf("up ended after %s: %v\n%s", time.Since(began), err, tailOf(up.stderr(), 2000))
			}
			if err != nil { // a machine with more to do than it can may cut a page off
				t.Logf("no sample after %s: %v", time.Since(began), err)
				continue
			}
			samples = append(samples, u)
			if line, _ := json.Marshal(u); len(samples)%4 == 1 {
				t.Logf("%s", line)
			}
		}
	}
	tr.wg.Wait()
	up.signal(syscall.SIGTERM)
	if r := up.wait(t); r.code != 0 {
		t.Errorf("exit %d after the soak\n%s", r.code, tailOf(r.stderr, 2000))
	}
	if len(samples) < 9 {
		t.Fatalf("%d samples are too few to tell a growth from noise", len(samples))
	}
	third := len(samples) / 3
	early, late := samples[third:2*third], samples[2*third:]
	for _, x := range []struct {
		what string
		of   func(usage) float64
		room float64 // above the noise of one machine: measured between equal thirds of a run, times three
	}{
		{"goroutines", func(u usage) float64 { return u.Goroutines }, 10},
		{"descriptors", func(u usage) float64 { return u.Descr }, 10},
		{"MiB of live heap", func(u usage) float64 { return u.HeapMiB }, 12},
		{"MiB of anonymous memory", func(u usage) float64 { return u.AnonMiB }, 64},
	} {
		a, b := middle(early, x.of), middle(late, x.of)
		t.Logf("%s: %.1f in the middle third, %.1f in the last", x.what, a, b)
		if b > a+x.room {
			t.Errorf("%s grew from %.1f to %.1f", x.what, a, b)
		}
	}
	last := samples[len(samples)-1]
	t.Logf("%.0f events learnt in %.0f s, %d questions over HTTP, %d of them failed", last.Events, last.At, tr.asked.Load(), tr.failed.Load())
	if tr.failed.Load() > 0 || last.Events == 0 {
		t.Errorf("%d questions failed, %.0f events were learnt", tr.failed.Load(), last.Events)
	}
}

// middle is the median of what of gives.
func middle(all []usage, of func(usage) float64) float64 {
	v := make([]float64, len(all))
	for i, u := range all {
		v[i] = of(u)
	}
	slices.Sort(v)
	return v[len(v)/2]
}
