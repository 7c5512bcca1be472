package ingest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	kafka "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/ingest/devbroker"
)

// certificate for 127.0.0.1, signed by itself; the PEM file is its own CA.
func certificate(t *testing.T) (*tls.Config, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	must(t, err)
	file := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, file
}

// TestLoginWithAndWithoutTLS passes the whole way, with group, reader, writer and admin calls, in every way to log in.
func TestLoginWithAndWithoutTLS(t *testing.T) {
	server, ca := certificate(t)
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s tls=%v", mechanism, secure), func(t *testing.T) {
				t.Parallel()
				o := devbroker.Options{Users: []devbroker.User{{Mechanism: mechanism, Name: "ann", Password: "s3cret"}}}
				if secure {
					o.TLS = server
				}
				b, err := devbroker.Start(o)
				must(t, err)
				defer b.Close()
				sasl := SASL{Mechanism: mechanism, User: "ann", Password: NewSecret("s3cret"), AllowPlainWithoutTLS: true}
				var secured TLS
				if secure {
					secured = TLS{Enabled: true, CA: ca}
				}
				wholeWay(t, testConfigWith(t, b.Addr(), func(c *Config) { c.SASL, c.TLS = sasl, secured }))
			})
		}
	}
	for _, c := range []struct {
		name, login string
		tls         TLS
	}{
		{"kafka", "CORASTREAM_KAFKA_SASL", TLS{}},
		{"kafka tls", "CORASTREAM_KAFKA_TLS", TLS{Enabled: true, CA: os.Getenv("CORASTREAM_KAFKA_CA")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			login, addr, ok := strings.Cut(os.Getenv(c.login), "@")
			user, password, ok2 := strings.Cut(login, ":")
			if !ok || !ok2 {
				t.Skipf("set %s to user:password@host:port to log in to Apache Kafka too (.ci/kafka/kafka.sh with KAFKA_USER and KAFKA_PASSWORD)", c.login)
			}
			sasl := SASL{Mechanism: "SCRAM-SHA-512", User: user, Password: NewSecret(password)}
			wholeWay(t, testConfigWith(t, addr, func(k *Config) { k.SASL, k.TLS = sasl, c.tls }))
			for what, change := range map[string]func(*Config){
				"a wrong password": func(k *Config) { k.SASL.Password = NewSecret("wrong") },
				"no login":         func(k *Config) { k.SASL = SASL{} },
				"TLS the other way": func(k *Config) {
					if k.TLS = (TLS{Enabled: true}); c.tls.Enabled {
						k.TLS = TLS{}
					}
				},
				"an authority of no name": func(k *Config) {
					if k.TLS.CA = ""; !k.TLS.Enabled {
						k.SASL.User = "nobody"
					}
				},
			} {
				k := Default()
				k.Brokers, k.SASL, k.TLS = []string{addr}, sasl, c.tls
				change(&k)
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				if _, err := NewSource(ctx, k, newStore().hooks(t)); err == nil || strings.Contains(err.Error(), "wrong") && strings.Contains(err.Error(), password) {
					t.Errorf("%s: %v", what, err)
				} else {
					t.Logf("%s: %v", what, err)
				}
				cancel()
			}
		})
	}
}

func wholeWay(t *testing.T, cfg Config) {
	must(t, producer(t, cfg).Events(t.Context(), events(0, 20)))
	s := newStore()
	mustDrain(t, cfg, s)
	sameIDs(t, s.events(), 20)
	must(t, sink(t, cfg).Publish(t.Context(), []corastream.Recommendation{{ID: "x", User: "u"}}))
	if n := len(consume(t, cfg, cfg.Topics.Recommendations)); n != 1 {
		t.Errorf("%d recommendations", n)
	}
}

func TestWrongCredentialsFailAtTheStartAndDoNotShow(t *testing.T) {
	server, ca := certificate(t)
	b, err := devbroker.Start(devbroker.Options{TLS: server, Users: []devbroker.User{{Mechanism: "SCRAM-SHA-512", Name: "ann", Password: "right"}}})
	must(t, err)
	defer b.Close()
	good := Default()
	good.Brokers = []string{b.Addr()}
	good.TLS = TLS{Enabled: true, CA: ca}
	good.SASL = SASL{Mechanism: "SCRAM-SHA-512", User: "ann", Password: NewSecret("right")}
	must(t, EnsureTopics(t.Context(), good))
	for name, c := range map[string]struct {
		says   string
		change func(*Config)
	}{
		"password":  {"are user and password right", func(c *Config) { c.SASL.Password = NewSecret("canary") }},
		"user":      {"are user and password right", func(c *Config) { c.SASL.User = "bob" }},
		"mechanism": {"are user and password right", func(c *Config) { c.SASL.Mechanism = "SCRAM-SHA-256" }},
		"authority": {"certificate", func(c *Config) { _, c.TLS.CA = certificate(t) }},
		"host name": {"kafka.example", func(c *Config) { c.TLS.ServerName = "kafka.example" }},
		"no TLS":    {"does it want TLS", func(c *Config) { c.TLS = TLS{} }},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			cfg.SASL.Password = NewSecret("right")
			c.change(&cfg)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			_, err := NewSource(ctx, cfg, newStore().hooks(t))
			if err == nil {
				t.Fatal("it went through")
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("it does not say %q: %v", c.says, err)
			}
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("the password shows: %v", err)
			}
		})
	}
}

func TestSecretsShowNowhere(t *testing.T) {
	cfg := Default()
	cfg.SASL = SASL{Mechanism: "PLAIN", User: "ann", Password: NewSecret("canary")}
	asJSON, err := json.Marshal(cfg)
	must(t, err)
	for _, s := range []string{
		fmt.Sprint(cfg), fmt.Sprintf("%+v %#v %v %s %q %x %d", cfg, cfg, &cfg, cfg.SASL.Password, cfg.SASL.Password, cfg.SASL.Password, cfg.SASL.Password),
		string(asJSON), fmt.Sprint(cfg.Validate()), fmt.Sprintf("%#v", cfg.SASL.Password),
	} {
		if strings.Contains(s, "canary") || strings.Contains(s, fmt.Sprintf("%x", "canary")) {
			t.Errorf("the password shows in %s", s)
		}
	}
	var back Secret
	must(t, back.UnmarshalText([]byte("canary")))
	if back.Reveal() != "canary" {
		t.Error("it was not kept")
	}
}

func TestConfigReportsAllProblemsAtOnce(t *testing.T) {
	ok := Default()
	ok.Brokers = []string{"localhost:9092"}
	if err := ok.Validate(); err != nil {
		t.Fatalf("defaults: %v", err)
	}
	c := ok
	c.Brokers = []string{"localhost", "a:1,b:2"}
	c.Start, c.MaxBatchEvents, c.MaxBatchWait = "middle", 0, time.Hour
	c.Topics.Items = c.Topics.Interactions
	c.Topics.Requests = "a b"
	c.Kinds = map[string]Kind{"x": {Label: 2, Weight: 0}, "y": {Label: 0, Weight: 1, Implicit: true}}
	c.TLS.CA = "ca.pem"
	c.SASL = SASL{Mechanism: "PLAIN"}
	err := c.Validate()
	for _, key := range []string{
		"brokers[0]", "brokers[1]", "start", "max_batch_events", "max_batch_wait", "topics.items", "topics.requests",
		"kinds.x.label", "kinds.x.weight", "kinds.y.implicit", "default_kind", "tls.enabled", "sasl.mechanism", "sasl.user", "sasl.password",
	} {
		if !strings.Contains(err.Error(), key+": ") {
			t.Errorf("%s is not reported in:\n%v", key, err)
		}
	}
	var usage *corastream.UsageError
	if !errors.As(err, &usage) {
		t.Errorf("not a usage error: %v", err)
	}
	for name, change := range map[string]func(*Config){
		"PLAIN without TLS": func(c *Config) { c.SASL = SASL{Mechanism: "PLAIN", User: "u", Password: NewSecret("p")} },
		"two passwords": func(c *Config) {
			c.SASL = SASL{Mechanism: "SCRAM-SHA-512", User: "u", Password: NewSecret("p"), PasswordFile: "f"}
		},
		"user alone":        func(c *Config) { c.SASL = SASL{User: "u"} },
		"unknown mechanism": func(c *Config) { c.SASL = SASL{Mechanism: "GSSAPI", User: "u", Password: NewSecret("p")} },
		"half a pair":       func(c *Config) { c.TLS = TLS{Enabled: true, Cert: "c.pem"} },
		"no broker":         func(c *Config) { c.Brokers = nil },
	} {
		c := ok
		change(&c)
		if c.Validate() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	c = ok
	c.TLS = TLS{Enabled: true, CA: filepath.Join(t.TempDir(), "missing.pem")}
	if _, err := newAccess(c); !errors.As(err, &usage) {
		t.Errorf("a missing CA file: %v", err)
	}
}

func TestConfigIsReadFromYAML(t *testing.T) {
	c := Default()
	must(t, yaml.UnmarshalWithOptions([]byte(`
brokers: [a:9092, b:9092]
topics: {interactions: clicks}
group: g
sasl: {mechanism: SCRAM-SHA-512, user: ann, password: canary}
max_batch_events: 200
max_age: 43800h
kinds: {play: {label: 1, weight: 0.5, implicit: true}, purchase: {weight: 3}, return: {label: 0}, contact: {label: 1}, star: null}
default_kind: play
create: {partitions: 8}
`), &c, yaml.Strict()))
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if c.MaxBatchEvents != 200 || c.SASL.Password.Reveal() != "canary" || c.Topics.Interactions != "clicks" || c.Kinds["play"].Weight != .5 ||
		len(c.Kinds) != len(DefaultKinds())+1 || c.Topics.Items != "corastream.items" || c.Create.Partitions != 8 || c.Create.Retention != 168*time.Hour {
		t.Errorf("%+v", c)
	}
	for name, want := range map[string]Kind{
		"purchase": {Label: 1, Weight: 3, Implicit: true}, // it names no label: the built-in meaning, with another weight
		"return":   {Weight: 1}, "contact": {Label: 1, Weight: 1}, "click": DefaultKinds()["click"],
	} {
		if got := c.Kinds[name]; got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	if _, ok := c.Kinds["star"]; ok {
		t.Error("star: null leaves star in")
	}
	out, err := yaml.Marshal(c)
	must(t, err)
	if strings.Contains(string(out), "canary") || !strings.Contains(string(out), "max_batch_events: 200") {
		t.Errorf("printed as\n%s", out)
	}
	if err := yaml.UnmarshalWithOptions([]byte("max_batch_weight: 3"), &c, yaml.Strict()); err == nil {
		t.Error("an unknown key is accepted")
	}
	if err := yaml.UnmarshalWithOptions([]byte("kinds: {x: {lable: 1}}"), &c, yaml.Strict()); err == nil || !strings.Contains(err.Error(), "lable") {
		t.Errorf("an unknown key of a kind: %v", err)
	}
}

func TestPasswordFileLosesOneNewline(t *testing.T) {
	for in, want := range map[string]string{"p": "p", "p\n": "p", "p\r\n": "p", "p\n\n": "p\n", " p ": " p ", "": ""} {
		if got := trimNewline(in); got != want {
			t.Errorf("%q gives %q", in, got)
		}
	}
}

func TestWhatIsTriedAgain(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"refused":        {&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", fmt.Errorf("refused"))}, true},
		"no leader":      {fmt.Errorf("x: %w", kafka.LeaderNotAvailable), true},
		"topic unknown":  {kafka.UnknownTopicOrPartition, true},
		"led by nobody":  {fmt.Errorf("x: %w", protocol.NewErrNoLeader("t", 2)), true},
		"not known yet":  {fmt.Errorf("x: %w", protocol.NewErrNoTopic("t")), true},
		"fewer known":    {fmt.Errorf("x: %w", protocol.NewErrNoPartition("t", 2)), true},
		"nothing sent":   {fmt.Errorf("x: %w", protocol.ErrNoRecord), false},
		"rebalance":      {kafka.RebalanceInProgress, true},
		"some failed":    {kafka.WriteErrors{nil, kafka.NotLeaderForPartition}, true},
		"some for good":  {kafka.WriteErrors{kafka.NotLeaderForPartition, kafka.MessageSizeTooLarge}, false},
		"no right":       {kafka.TopicAuthorizationFailed, false},
		"bad password":   {fmt.Errorf("x: %w", kafka.SASLAuthenticationFailed), false},
		"cancelled":      {context.Canceled, false},
		"our time limit": {context.DeadlineExceeded, true},
		"gap":            {fmt.Errorf("x: %w", corastream.ErrGap), false},
		"usage":          {corastream.Usagef("a", "b", "c"), false},
		"too large":      {fmt.Errorf("x: %w", errAnswerTooLarge), false},
		"certificate":    {&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, false},
		"anything else":  {errors.New("x"), false},
		"nothing":        {nil, false},
	} {
		if got := retryable(c.err); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
