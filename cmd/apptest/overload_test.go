//go:build app

package apptest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// tally counts what became of requests.
type tally struct {
	mu      sync.Mutex
	took    []time.Duration // of accepted ones
	status  map[int]int
	no      int // refusals without Retry-After
	trouble error
}

func (a *tally) p99() time.Duration { return a.quantile(.99) }

func (a *tally) quantile(q float64) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.took) == 0 {
		return 0
	}
	slices.Sort(a.took)
	return a.took[int(q*float64(len(a.took)))]
}

// caller is an HTTP client with an address of its own on the loopback network, so that the server tells callers apart.
func caller(t *testing.T, n int) *http.Client {
	t.Helper()
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(n))}}
	if c, err := d.DialContext(t.Context(), "tcp", "127.0.0.1:1"); err == nil {
		c.Close()
	} else if strings.Contains(err.Error(), "cannot assign") {
		t.Skipf("this system has one loopback address only: %v", err)
	}
	return &http.Client{Transport: &http.Transport{DialContext: d.DialContext, MaxIdleConnsPerHost: 256}, Timeout: 20 * time.Second}
}

// recommend asks once and counts the answer.
func (a *tally) recommend(ctx context.Context, c *http.Client, url string, n int) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/recommend", strings.NewReader(fmt.Sprintf(`{"user_id":"u%d","n":5}`, n%50)))
	if err != nil {
		return
	}
	req.Header.Set("Content-Type", "application/json")
	began := time.Now()
	resp, err := c.Do(req)
	took := time.Since(began)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		if ctx.Err() == nil {
			a.trouble = err
		}
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	a.status[resp.StatusCode]++
	if resp.StatusCode == http.StatusOK {
		a.took = append(a.took, took)
	} else if resp.Header.Get("Retry-After") == "" {
		a.no++
	}
}

// steady asks one request after another for d and gives the tally: what the server does when nothing waits.
func steady(ctx context.Context, c *http.Client, url string, d time.Duration) *tally {
	a := &tally{status: map[int]int{}}
	for n, until := 0, time.Now().Add(d); time.Now().Before(until) && ctx.Err() == nil; n++ {
		a.recommend(ctx, c, url, n)
	}
	return a
}

// TestOverload offers ten times what the server can answer for CORASTREAM_OVERLOAD: it refuses with 503 and Retry-After
// what it has no room for and with 429 one client's excess, what it accepts is answered about as fast as before, memory
// stays within GOMEMLIMIT, learning and health checks go on, and it is itself again at once.
func TestOverload(t *testing.T) {
	length := lasting(t, "CORASTREAM_OVERLOAD", "make overload DURATION=30s")
	h := newHome(t, "", tinyConfig(tinyLLM(t, 1), ""))
	h.amend(t, "checkpoint: \"\"", "checkpoint: "+untrained(t, h.config, 150, nil))
	// No queue: who is let in does not wait; each place in it would add an answer's time. And a core is left for refusing.
	h.amend(t, "http: {listen: \"127.0.0.1:0\"}", fmt.Sprintf("http: {listen: \"127.0.0.1:0\", max_in_flight: %d, max_queue: 0, rate_per_second: 4000}",
		max(1, runtime.GOMAXPROCS(0)-1)))
	h.amend(t, "http: {listen", "pipeline: {candidates: 140}\nhttp: {listen")
	const limit = 256 << 20
	up := startWith(t, program, []string{fmt.Sprint("GOMEMLIMIT=", limit)}, "up", "-c", h.config)
	url := up.url(t)
	h.produce(t, "items", itemLines(0, 150)...)
	w := newWorkload(1, 50, 150)
	h.produce(t, "interactions", w.lines(2000)...)
	eventually(t, "the catalogue to be read", func() bool { return counter(url, "corastream_items_read_total") >= 150 })

	h.producing(t, "interactions", 20, w.lines(int(20*1.5*length.Seconds()))...) // learning goes on all the time, before the load as in it
	quiet := caller(t, 2)
	before := steady(t.Context(), quiet, url, max(3*time.Second, length/10))
	rate := 10 * float64(len(before.took)) / max(3*time.Second, length/10).Seconds()
	learnt := counter(url, "corastream_events_total")

	ctx, stop := context.WithTimeout(t.Context(), length)
	defer stop()
	load, greedy := &tally{status: map[int]int{}}, &tally{status: map[int]int{}}
	var wg sync.WaitGroup
	const callers, lines = 32, 4 // clients, and connections of each
	for k := range callers * lines {
		wg.Go(func() {
			load.flood(ctx, t, byte(10+k%callers), url, k, time.Duration(float64(time.Second)*callers*lines/rate))
		})
	}
	wg.Go(func() { // one client alone sends more than its rate; it asks for a cheap page, so that only the rate can refuse it
		c := caller(t, 200)
		var own sync.WaitGroup
		defer own.Wait()
		for range 24 {
			own.Go(func() {
				for ctx.Err() == nil {
					greedy.health(ctx, c, url)
				}
			})
		}
	})
	peak := int64(0)
	for ctx.Err() == nil {
		peak = max(peak, anonymous(up.cmd.Process.Pid))
		if code, body := page(quiet, url+"/readyz"); code != http.StatusOK && ctx.Err() == nil {
			t.Errorf("/readyz under load: %d %s", code, body)
		}
		time.Sleep(200 * time.Millisecond)
	}
	wg.Wait()
	after := steady(t.Context(), quiet, url, 3*time.Second)

	t.Logf("alone: %d answers, p99 %s; offered %.0f/s for %s: %v, accepted p50 x%.2f, p99 %s (x%.2f); greedy client: %v; afterwards p99 %s (x%.2f)",
		len(before.took), before.p99(), rate, length, load.status, float64(load.quantile(.5))/float64(max(1, before.quantile(.5))), load.p99(), ratio(load, before), greedy.status, after.p99(), ratio(after, before))
	t.Logf("anonymous memory peaked at %d MiB of a limit of %d MiB", peak>>20, limit>>20)
	for name, a := range map[string]*tally{"load": load, "greedy": greedy, "after": after} {
		if a.no > 0 || a.trouble != nil {
			t.Errorf("%s: %d refusals without Retry-After, %v", name, a.no, a.trouble)
		}
		for code := range a.status {
			if code != 200 && code != 429 && code != 503 {
				t.Errorf("%s: %d answers with status %d", name, a.status[code], code)
			}
		}
	}
	if load.status[503] == 0 || load.status[200] == 0 || greedy.status[429] == 0 {
		t.Errorf("nothing was refused for load, or all was: %v, greedy %v", load.status, greedy.status)
	}
	if after.status[503]+after.status[429] > 0 {
		t.Errorf("it is not itself again: %v, p99 %s", after.status, after.p99())
	}
	// The 99th percentile is a figure to look at on a machine that does nothing else; the median is the server's own doing.
	// An answer alone takes half a millisecond: as little as the clients of this test, on the same cores, can not but add.
	if a, b := load.quantile(.5), before.quantile(.5); a > max(4*b, 10*time.Millisecond) {
		t.Errorf("half of the accepted answers took more than %s, alone %s", a, b)
	}
	if peak > limit*11/10 {
		t.Errorf("%d bytes of memory, over the limit of %d and a tenth", peak, limit)
	}
	if now := counter(url, "corastream_events_total"); now <= learnt {
		t.Errorf("nothing was learnt under load: %d, then %d events", learnt, now)
	}
	up.signal(syscall.SIGTERM)
	if r := up.wait(t); r.code != 0 {
		t.Errorf("exit %d\n%s", r.code, tailOf(r.stderr, 2000))
	}
}

// flood asks over one bare connection, at most once every so long: a client that costs as little as it can, since it shares
// the processor with the server.
func (a *tally) flood(ctx context.Context, t *testing.T, n byte, url string, seed int, every time.Duration) {
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, n)}}
	host := strings.TrimPrefix(url, "http://")
	conn, err := d.DialContext(ctx, "tcp", host)
	if err != nil {
		if ctx.Err() == nil {
			t.Errorf("dial: %v", err)
		}
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	in := bufio.NewReader(conn)
	for k := seed; ctx.Err() == nil; k++ {
		began := time.Now()
		body := fmt.Sprintf(`{"user_id":"u%d","n":5}`, k%50)
		if _, err := fmt.Fprintf(conn, "POST /v1/recommend HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
			a.broke(ctx, err)
			return
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			a.broke(ctx, err)
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		took := time.Since(began)
		a.mu.Lock()
		a.status[resp.StatusCode]++
		if resp.StatusCode == http.StatusOK {
			a.took = append(a.took, took)
		} else if resp.Header.Get("Retry-After") == "" {
			a.no++
		}
		a.mu.Unlock()
		select {
		case <-time.After(every - took):
		case <-ctx.Done():
		}
	}
}

func (a *tally) broke(ctx context.Context, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ctx.Err() == nil {
		a.trouble = err
	}
}

func ratio(a, b *tally) float64 { return float64(a.p99()) / float64(max(1, b.p99())) }

// health asks for the cheapest page once.
func (a *tally) health(ctx context.Context, c *http.Client, url string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/healthz", nil)
	if err != nil {
		return
	}
	resp, err := c.Do(req)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status[resp.StatusCode]++
	if resp.StatusCode == http.StatusTooManyRequests && resp.Header.Get("Retry-After") == "" {
		a.no++
	}
}

func page(c *http.Client, url string) (int, string) {
	resp, err := c.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}
