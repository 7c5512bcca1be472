package serve

import (
	"errors"
	"math"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/corastream/corastream"
)

// Secret is a string that prints as ***; Reveal gives it away.
type Secret string

// String implements fmt.Stringer, and so %s, %v, %q and %x.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// GoString implements %#v.
func (s Secret) GoString() string { return s.String() }

// MarshalText keeps it out of JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Reveal returns what it hides.
func (s Secret) Reveal() string { return string(s) }

// Config is the server's. Durations are whole milliseconds.
type Config struct {
	// Listen is host:port. Beyond loopback it needs Token or ClientCA. Port 0 takes a free one.
	// Default 127.0.0.1:8642.
	Listen string `yaml:"listen"`
	// Token must come as "Authorization: Bearer TOKEN" or "X-API-Key: TOKEN". At least 16 bytes.
	// Default none.
	Token Secret `yaml:"token"`
	// TLSCert is a PEM file with the server's certificate; TLS 1.2 or newer. Default none: plain HTTP.
	TLSCert string `yaml:"tls_cert"`
	// TLSKey is a PEM file with the private key of TLSCert. Default none.
	TLSKey string `yaml:"tls_key"`
	// ClientCA is a PEM file: clients must show a certificate signed by it (mTLS). Default none.
	ClientCA string `yaml:"client_ca"`
	// AdminListen is a second address, loopback only: /metrics and /debug/pprof without a token,
	// and POST /v1/rollout, which asks for the token where there is one. Default none.
	AdminListen string `yaml:"admin_listen"`
	// AllowedHosts are further Host headers answered while there is no token: a page elsewhere
	// that points its own name at this machine must not read it. Loopback names always pass.
	// Default none.
	AllowedHosts []string `yaml:"allowed_hosts"`
	// AllowedOrigins are the sites whose pages may ask from a browser (CORS), as
	// https://shop.example; they may post text/plain to /v1/events too, as sendBeacon does. Such a
	// page's visitors can do what a client without a token can. Default none.
	AllowedOrigins []string `yaml:"allowed_origins"`
	// MaxBodyBytes bounds a request body, unpacked. Default 65536, range 1024..16777216.
	MaxBodyBytes int `yaml:"max_body_bytes"`
	// MaxIDBytes bounds a user's or item's id. Default 256, range 8..4096.
	MaxIDBytes int `yaml:"-"`
	// MaxCandidates bounds each list in a body: candidates, exclude, items, documents, events, and n; kafka.max_array sets it. Default 500,
	// range 1..10000.
	MaxCandidates int `yaml:"-"`
	// MaxConnections are held open at once; more wait to be accepted. Default 4096, range 1..100000.
	MaxConnections int `yaml:"-"`
	// MaxInFlight is how many requests that score run at once. As many that produce run beside them, but at least 8. One less
	// than there are cores keeps answers quick under overload. Default 0, range 0..1024; 0 is the number of cores.
	MaxInFlight int `yaml:"max_in_flight"`
	// MaxQueue is how many more requests of each kind may wait, up to 2 seconds each. The others get status 503 at once.
	// Default 128, range 0..100000.
	MaxQueue int `yaml:"max_queue"`
	// QueueTimeoutMS is how long a request waits for its turn. A client that waited longer would have given up. A constant: 2000.
	QueueTimeoutMS int `yaml:"-"`
	// MaxGenerations is how many conversations are answered at once. Each holds its own keys and values: 46 kB a token of
	// SmolLM2-135M, 1 MB a token of a 7B model. Up to 16 more wait for 2 seconds. Default 2, range 1..256.
	MaxGenerations int `yaml:"-"`
	// MaxGenerationQueue is how many more conversations may wait. A constant: 16.
	MaxGenerationQueue int `yaml:"-"`
	// MaxGeneratedTokens bounds one answer; a request for more gets that many. Default 512, range 1..1048576.
	MaxGeneratedTokens int `yaml:"max_generated_tokens"`
	// GenerationTimeoutMS bounds the answer to one conversation. Default 120000, range
	// 100..3600000.
	GenerationTimeoutMS int `yaml:"-"`
	// RatePerSecond bounds the requests of one client, which is its certificate or else its address (of IPv6 the /64).
	// A client that was idle may send twice as many at once. Default 1000, range 0..1e6; 0 is no limit.
	RatePerSecond float64 `yaml:"rate_per_second"`
	// RequestTimeoutMS bounds one request from its headers on. Default 10000, range 100..600000.
	RequestTimeoutMS int `yaml:"request_timeout_ms"`
	// ShutdownTimeoutMS is how long requests in flight may take to finish at the end. Default
	// 15000, range 0..600000.
	ShutdownTimeoutMS int `yaml:"shutdown_timeout_ms"`
	// LearntWaitMS is how long a request with wait=learnt waits for its events to be learnt; after that it is answered 202, and they are
	// learnt later. Default 2000, range 1..60000.
	LearntWaitMS int `yaml:"-"`
	// Gorse answers Gorse's REST paths below /api/ too, so that its SDKs work unchanged; the flag --gorse of `up` and `run` sets it. Default false.
	Gorse bool `yaml:"-"`
	// Recent is how many recommendations and dead letters the dashboard remembers. Default 200, range 1..10000.
	Recent int `yaml:"-"`
	// Pages is how many lists that were begun are kept for their cursors, for half an hour each, up to 100 kB a list. Default 1000,
	// range 1..1000000.
	Pages int `yaml:"-"`
}

// DefaultConfig returns the defaults above.
func DefaultConfig() Config {
	return Config{
		Listen: "127.0.0.1:8642", MaxBodyBytes: 64 << 10, MaxIDBytes: 256, MaxCandidates: 500, MaxConnections: 4096,
		MaxInFlight: 0, MaxQueue: 128, QueueTimeoutMS: 2000, RatePerSecond: 1000,
		MaxGenerations: 2, MaxGenerationQueue: 16, MaxGeneratedTokens: 512, GenerationTimeoutMS: 120_000,
		RequestTimeoutMS: 10_000, ShutdownTimeoutMS: 15_000, Recent: 200, Pages: 1000, LearntWaitMS: 2000,
	}
}

// Validate reports all problems at once.
func (c Config) Validate() error {
	var errs []error
	bad := func(key, fix, what string, args ...any) {
		errs = append(errs, corastream.Usagef(key, fix, what, args...))
	}
	if err := checkAddress(c.Listen); err != nil {
		bad("listen", "give host:port, as in 127.0.0.1:8642", "%v", err)
	} else if !isLoopback(c.Listen) && c.Token == "" && c.ClientCA == "" {
		bad("listen", "set token or client_ca, or listen on 127.0.0.1", "%s can be reached from other machines and nobody would be asked who they are", c.Listen)
	}
	if c.AdminListen != "" {
		if err := checkAddress(c.AdminListen); err != nil {
			bad("admin_listen", "give host:port, as in 127.0.0.1:8643", "%v", err)
		} else if !isLoopback(c.AdminListen) {
			bad("admin_listen", "use 127.0.0.1 or [::1]; reach it through a tunnel", "%s is not a loopback address", c.AdminListen)
		}
	}
	if n := len(c.Token); n > 0 && n < 16 {
		bad("token", "use at least 16 bytes, as from `openssl rand -hex 32`", "a token of %d bytes can be guessed", n)
	}
	if strings.ContainsFunc(c.Token.Reveal(), func(r rune) bool { return r <= ' ' || r > '~' }) {
		bad("token", "use printable ASCII without spaces", "the token can not be sent in a header")
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		bad("tls_cert", "set tls_cert and tls_key, or neither", "a certificate and its key belong together")
	}
	if c.ClientCA != "" && c.TLSCert == "" {
		bad("client_ca", "set tls_cert and tls_key too", "client certificates need TLS")
	}
	for _, o := range c.AllowedOrigins {
		if u, err := url.Parse(o); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.String() != u.Scheme+"://"+u.Host {
			bad("allowed_origins", "write scheme and host alone, as in https://shop.example", "%q is not an origin", o)
		}
	}
	if c.RatePerSecond < 0 || c.RatePerSecond > 1e6 || math.IsNaN(c.RatePerSecond) {
		bad("rate_per_second", "choose from 0 (no limit) to 1000000", "%v is out of range", c.RatePerSecond)
	}
	return errors.Join(append(errs,
		inRange("max_body_bytes", c.MaxBodyBytes, 1024, 16<<20), inRange("max_id_bytes", c.MaxIDBytes, 8, 4096),
		inRange("max_candidates", c.MaxCandidates, 1, 10_000), inRange("max_connections", c.MaxConnections, 1, 100_000),
		inRange("max_in_flight", c.MaxInFlight, 0, 1024), inRange("max_queue", c.MaxQueue, 0, 100_000),
		inRange("learnt_wait_ms", c.LearntWaitMS, 1, 60_000), inRange("queue_timeout_ms", c.QueueTimeoutMS, 1, 60_000),
		inRange("max_generations", c.MaxGenerations, 1, 256), inRange("max_generation_queue", c.MaxGenerationQueue, 0, 10_000),
		inRange("max_generated_tokens", c.MaxGeneratedTokens, 1, 1<<20),
		inRange("generation_timeout_ms", c.GenerationTimeoutMS, 100, 3_600_000),
		inRange("request_timeout_ms", c.RequestTimeoutMS, 100, 600_000),
		inRange("shutdown_timeout_ms", c.ShutdownTimeoutMS, 0, 600_000), inRange("recent", c.Recent, 1, 10_000), inRange("pages", c.Pages, 1, 1_000_000))...)
}

func checkAddress(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	_, err = net.LookupPort("tcp", port)
	return err
}

// isLoopback never asks a name server: a name other than localhost counts as reachable.
func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }
