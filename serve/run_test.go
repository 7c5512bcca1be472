package serve

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// run starts the server on free ports and returns what stops it and waits for its end.
func (f *fixture) run() (stop func() error) {
	f.t.Helper()
	if err := f.Listen(); err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(f.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	var once bool
	stop = func() error {
		if cancel(); once {
			return nil
		}
		once = true
		return <-ended
	}
	f.t.Cleanup(func() { stop() }) //nolint:errcheck // tests that care call it themselves
	return stop
}

func get(t *testing.T, c *http.Client, url string) (int, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func freePort(c *Config, _ *Deps) { c.Listen = "127.0.0.1:0" }

func TestRequestsInFlightAreFinishedAtTheEnd(t *testing.T) {
	b := blocking{make(chan struct{}, 1), make(chan struct{})}
	f := newFixture(t, freePort, func(_ *Config, d *Deps) { d.Recommender = b })
	stop := f.run()
	answer := make(chan int, 1)
	go func() {
		resp, err := http.Post(f.URL()+"v1/recommend", "application/json", strings.NewReader(`{"user_id":"anna"}`))
		if err != nil {
			t.Error(err)
			answer <- 0
			return
		}
		resp.Body.Close()
		answer <- resp.StatusCode
	}()
	<-b.entered
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	for f.ready.Load() { // it turns unready first
		time.Sleep(time.Millisecond)
	}
	for { // then it stops accepting
		c, err := net.Dial("tcp", f.Addr())
		if err != nil {
			break
		}
		c.Close()
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-ended:
		t.Fatalf("it ended (%v) with a request in flight", err)
	default:
	}
	close(b.release)
	if code := <-answer; code != 200 {
		t.Errorf("the request in flight got %d", code)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestRequestsThatNeverEndAreCutOff(t *testing.T) {
	b := blocking{make(chan struct{}, 1), make(chan struct{})}
	f := newFixture(t, freePort, func(c *Config, d *Deps) {
		c.ShutdownTimeoutMS, c.RequestTimeoutMS = 1, 600_000
		d.Recommender = b
	})
	stop := f.run()
	failed := make(chan error, 1)
	go func() {
		resp, err := http.Post(f.URL()+"v1/recommend", "application/json", strings.NewReader(`{"user_id":"anna"}`))
		if err == nil {
			resp.Body.Close()
		}
		failed <- err
	}()
	<-b.entered
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := <-failed; err == nil {
		t.Error("the request was answered, though nothing let it go on")
	}
	if !strings.Contains(f.log.String(), "cut off") {
		t.Error("it must be logged")
	}
}

func TestTakenPortIsAUsageError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f := newFixture(t, func(c *Config, _ *Deps) { c.Listen, c.AdminListen = "127.0.0.1:0", l.Addr().String() })
	if err := f.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "admin_listen") || !strings.Contains(err.Error(), "(fix: ") {
		t.Errorf("%v", err)
	}
}

func TestAdminAddressNeedsNoTokenAndServesProfiles(t *testing.T) {
	f := newFixture(t, freePort, func(c *Config, _ *Deps) { c.AdminListen, c.Token = "127.0.0.1:0", token })
	f.run()
	admin := "http://" + f.AdminAddr()
	for path, want := range map[string]string{
		"/metrics": "corastream_events_total", "/debug/pprof/": "goroutine", "/debug/pprof/goroutine?debug=1": "goroutine profile", "/readyz": "ready", "/healthz": "ok",
	} {
		if code, body := get(t, http.DefaultClient, admin+path); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %.200s", path, code, body)
		}
	}
	if code, _ := get(t, http.DefaultClient, admin+"/v1/users/anna"); code != 404 {
		t.Errorf("users must not be on the admin address: %d", code)
	}
	if code, _ := get(t, http.DefaultClient, f.URL()+"debug/pprof/"); code != 404 {
		t.Errorf("profiles must not be on the main address: %d", code)
	}
	if code, _ := get(t, http.DefaultClient, f.URL()+"metrics"); code != 401 {
		t.Errorf("metrics on the main address ask for the token: %d", code)
	}
}

// TestSlowConnectionsHoldNobodyUp: two hundred connections that never finish their headers, and one request.
func TestSlowConnectionsHoldNobodyUp(t *testing.T) {
	f := newFixture(t, freePort)
	f.run()
	for range 200 {
		c, err := net.Dial("tcp", f.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: "); err != nil {
			t.Fatal(err)
		}
	}
	if code, _ := get(t, http.DefaultClient, f.URL()+"healthz"); code != 200 {
		t.Errorf("%d", code)
	}
}

// TestConnectionsAreBounded: with two places, held by two idle connections, a third waits until one of them goes.
func TestConnectionsAreBounded(t *testing.T) {
	f := newFixture(t, freePort, func(c *Config, _ *Deps) { c.MaxConnections = 2 })
	f.run()
	places := f.listeners[0].(*boundedListener).slots
	alone := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 20 { // each gives its place back
		if code, _ := get(t, alone, f.URL()+"healthz"); code != 200 {
			t.Fatal(code)
		}
	}
	var held []net.Conn
	for range 2 {
		c, err := net.Dial("tcp", f.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		held = append(held, c)
	}
	for len(places) < 2 {
		time.Sleep(time.Millisecond)
	}
	answered := make(chan int, 1)
	go func() {
		resp, err := alone.Get(f.URL() + "healthz")
		if err != nil {
			answered <- 0
			return
		}
		resp.Body.Close()
		answered <- resp.StatusCode
	}()
	select {
	case code := <-answered:
		t.Errorf("a third connection was answered (%d) while two were held", code)
	case <-time.After(50 * time.Millisecond): // a slow machine can only make this check weaker, never fail it
	}
	held[0].Close()
	if code := <-answered; code != 200 {
		t.Errorf("after one had gone: %d", code)
	}
}

func TestHugeHeadersAreRefused(t *testing.T) {
	f := newFixture(t, freePort)
	f.run()
	req, _ := http.NewRequest("GET", f.URL()+"healthz", nil)
	req.Header.Set("X-Big", strings.Repeat("x", 32<<10))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%d", resp.StatusCode)
	}
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}
