package serve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestConfigRefusesToBeReachedByStrangers(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(*Config)
		want string // the key that the error names, "" for none
	}{
		{"the default", func(*Config) {}, ""},
		{"any address", func(c *Config) { c.Listen = "0.0.0.0:8642" }, "listen"},
		{"no address", func(c *Config) { c.Listen = ":8642" }, "listen"},
		{"a name", func(c *Config) { c.Listen = "myhost:8642" }, "listen"},
		{"any address with a token", func(c *Config) { c.Listen, c.Token = "0.0.0.0:8642", token }, ""},
		{"any address with client certificates", func(c *Config) {
			c.Listen, c.TLSCert, c.TLSKey, c.ClientCA = "0.0.0.0:8642", "c", "k", "ca"
		}, ""},
		{"client certificates without TLS", func(c *Config) { c.ClientCA = "ca" }, "client_ca"},
		{"a certificate without a key", func(c *Config) { c.TLSCert = "c" }, "tls_cert"},
		{"a short token", func(c *Config) { c.Token = "hunter2" }, "token"},
		{"a token that no header carries", func(c *Config) { c.Token = "sixteen bytes at\n" }, "token"},
		{"IPv6 loopback", func(c *Config) { c.Listen = "[::1]:0" }, ""},
		{"another loopback", func(c *Config) { c.Listen = "127.8.9.1:0" }, ""},
		{"no port", func(c *Config) { c.Listen = "127.0.0.1" }, "listen"},
		{"an admin address for all", func(c *Config) { c.AdminListen = "0.0.0.0:1" }, "admin_listen"},
		{"an admin address for all, with a token", func(c *Config) { c.AdminListen, c.Token = ":1", token }, "admin_listen"},
		{"a body too small", func(c *Config) { c.MaxBodyBytes = 1 }, "max_body_bytes"},
		{"a negative rate", func(c *Config) { c.RatePerSecond = -1 }, "rate_per_second"},
	} {
		cfg := DefaultConfig()
		c.set(&cfg)
		err := cfg.Validate()
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want+": ") || !strings.Contains(err.Error(), "(fix: ")):
			t.Errorf("%s: %v must name %s and a fix", c.name, err, c.want)
		case err != nil && strings.Contains(err.Error(), "hunter2"):
			t.Errorf("%s: the error shows the token: %v", c.name, err)
		}
	}
	if err := (Config{Listen: "x"}).Validate(); err == nil || strings.Count(err.Error(), "(fix: ") < 9 {
		t.Errorf("all problems at once: %v", err)
	}
}

func TestSecretNeverShows(t *testing.T) {
	boom := func(_ *Config, d *Deps) { d.Recommender = panicking{} }
	f := newFixture(t, func(c *Config, _ *Deps) { c.Token = token }, boom)
	var shown bytes.Buffer
	fmt.Fprintf(&shown, "%v %+v %#v %s %q %x\n", f.cfg, f.cfg, f.cfg, f.cfg.Token, f.cfg.Token, f.cfg.Token)
	if err := json.NewEncoder(&shown).Encode(f.cfg); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/metrics", "/v1/status", "/readyz", "/openapi.json", "/"} {
		shown.WriteString(f.call("GET", path, "", nil, "X-API-Key", token).Body.String())
	}
	w := f.call("POST", "/v1/recommend", `{"user_id":"anna"}`, nil, "X-API-Key", token)
	if w.Code != 500 || !strings.Contains(w.Body.String(), `"internal"`) {
		t.Errorf("a panic must be a clean 500: %d %s", w.Code, w.Body)
	}
	shown.Write(w.Body.Bytes())
	if !strings.Contains(f.log.String(), "panicked") {
		t.Errorf("the panic must be logged: %s", f.log)
	}
	shown.Write(f.log.Bytes())
	for _, form := range []string{token, fmt.Sprintf("%x", token)} {
		if strings.Contains(shown.String(), form) {
			t.Errorf("the token shows in: %s", shown.String())
		}
	}
	if w := f.call("GET", "/healthz", "", nil); w.Code != 200 {
		t.Errorf("the server must go on: %d", w.Code)
	}
}
