package ingest

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/corastream/corastream"
)

// Secret is a password: it prints as *** everywhere; Reveal is the only way to its text.
type Secret struct{ text string }

// NewSecret wraps text.
func NewSecret(text string) Secret { return Secret{text} }

// Reveal returns the text.
func (s Secret) Reveal() string { return s.text }

// String hides the text: fmt, zerolog and errors come here.
func (s Secret) String() string {
	if s.text == "" {
		return ""
	}
	return "***"
}

// GoString hides it from %#v.
func (s Secret) GoString() string { return s.String() }

// Format hides it from every verb: %x and %d would otherwise print the field.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.String()) }

// MarshalText hides it from JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads it from a config file.
func (s *Secret) UnmarshalText(b []byte) error {
	s.text = string(b)
	return nil
}

// TLS to the brokers. There is no way to skip verification: give the CA instead.
type TLS struct {
	// Enabled encrypts the connections to the brokers and checks their certificates. Default false.
	Enabled bool `yaml:"enabled"`
	// CA is a PEM file that signs the brokers' certificates. Default: the system's roots.
	CA string `yaml:"ca"`
	// Cert is a PEM file with this client's certificate, for brokers that ask for one. Default: none.
	Cert string `yaml:"cert"`
	// Key is a PEM file with the private key of Cert. Default: none.
	Key string `yaml:"key"`
	// ServerName to expect. Default: the host that was dialled.
	ServerName string `yaml:"server_name"`
}

// SASL is how to log in.
type SASL struct {
	// Mechanism is "PLAIN", "SCRAM-SHA-256" or "SCRAM-SHA-512"; "" does not log in. Default "".
	Mechanism string `yaml:"mechanism"`
	// User is the name to log in with. Default none.
	User string `yaml:"user"`
	// Password goes with User. CORASTREAM_KAFKA_PASSWORD gives it where the file does not. Default none.
	Password Secret `yaml:"password"`
	// PasswordFile is read instead of Password; one trailing newline is dropped. Default none.
	PasswordFile string `yaml:"password_file"`
	// AllowPlainWithoutTLS lets PLAIN send the password readable over the wire. Default false.
	AllowPlainWithoutTLS bool `yaml:"allow_plain_without_tls"`
}

const mechanismPlain = "PLAIN"

func (c Config) validateSecurity(bad func(key, fix, format string, args ...any)) {
	if !c.TLS.Enabled && (c.TLS.CA != "" || c.TLS.Cert != "" || c.TLS.Key != "" || c.TLS.ServerName != "") {
		bad("tls.enabled", "set it to true, or remove the other tls keys", "tls is configured but off")
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		bad("tls.cert", "give both tls.cert and tls.key, or neither", "a client certificate needs its key")
	}
	s := c.SASL
	switch s.Mechanism {
	case "":
		if s.User != "" || s.Password.text != "" || s.PasswordFile != "" {
			bad("sasl.mechanism", "choose PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", "a user or password is set, but no mechanism")
		}
		return
	case mechanismPlain:
		if !c.TLS.Enabled && !s.AllowPlainWithoutTLS {
			bad("sasl.mechanism", "set tls.enabled: true, use SCRAM-SHA-512, or set sasl.allow_plain_without_tls: true",
				"PLAIN without TLS sends the password readable")
		}
	case scram.SHA256.Name(), scram.SHA512.Name():
	default:
		bad("sasl.mechanism", "choose PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", "%q is unknown", s.Mechanism)
	}
	if s.User == "" {
		bad("sasl.user", "name the user", "no user")
	}
	if (s.Password.text == "") == (s.PasswordFile == "") {
		bad("sasl.password", "set one of sasl.password and sasl.password_file", "exactly one of them is needed")
	}
}

// tlsConfig reads the files; nil when TLS is off.
func (t TLS) config() (*tls.Config, error) {
	if !t.Enabled {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, corastream.Usagef("tls.ca", "name a readable PEM file", "%v", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, corastream.Usagef("tls.ca", "name a PEM file with CERTIFICATE blocks", "%s holds no certificate", t.CA)
		}
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, corastream.Usagef("tls.cert", "name a matching pair of PEM files", "%v", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// mechanism of the login; nil when there is none.
func (s SASL) mechanism() (sasl.Mechanism, error) {
	if s.Mechanism == "" {
		return nil, nil
	}
	password := s.Password.text
	if s.PasswordFile != "" {
		b, err := os.ReadFile(s.PasswordFile)
		if err != nil {
			return nil, corastream.Usagef("sasl.password_file", "name a readable file", "%v", err)
		}
		password = trimNewline(string(b))
	}
	if s.Mechanism == mechanismPlain {
		return plain.Mechanism{Username: s.User, Password: password}, nil
	}
	algorithm := scram.SHA512
	if s.Mechanism == scram.SHA256.Name() {
		algorithm = scram.SHA256
	}
	m, err := scram.Mechanism(algorithm, s.User, password)
	if err != nil {
		// The library's error may quote its input.
		return nil, corastream.Usagef("sasl.password", "use characters that SASLprep allows", "user or password can not be prepared for %s", s.Mechanism)
	}
	return m, nil
}

func trimNewline(s string) string {
	for _, end := range []string{"\r\n", "\n"} {
		if len(s) >= len(end) && s[len(s)-len(end):] == end {
			return s[:len(s)-len(end)]
		}
	}
	return s
}
