package serve

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestOnlyClientsWithACertificateGetIn(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, "ca")
	ca.write(t, dir, "ca", ca.cert, nil)
	server := ca.issue(t, dir, "server")
	client := ca.issue(t, dir, "client")
	stranger := newAuthority(t, "other").issue(t, dir, "stranger")
	f := newFixture(t, freePort, func(c *Config, _ *Deps) {
		c.TLSCert, c.TLSKey, c.ClientCA = filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"), filepath.Join(dir, "ca.pem")
	})
	_ = server
	f.run()
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	for _, c := range []struct {
		name string
		tls  *tls.Config
		ok   bool
	}{
		{"our certificate", &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{client}}, true},
		{"none", &tls.Config{RootCAs: roots}, false},
		{"a stranger's", &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{stranger}}, false},
		{"ours over TLS 1.1", &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{client}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false},
	} {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: c.tls, ForceAttemptHTTP2: true}}
		resp, err := client.Get(f.URL() + "v1/users/anna")
		if err == nil {
			resp.Body.Close()
		}
		if ok := err == nil && resp.StatusCode == 200; ok != c.ok {
			t.Errorf("%s: %v, %v", c.name, resp, err)
		}
		client.CloseIdleConnections()
	}
}

func TestBadCertificateFilesAreUsageErrors(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, "ca")
	ca.issue(t, dir, "server")
	if err := os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, c := range []struct{ cert, key, ca, want string }{
		{at("none"), at("server.key"), "", "tls_cert"},
		{at("empty"), at("server.key"), "", "tls_cert"},
		{at("server.pem"), at("server.key"), at("none"), "client_ca"},
		{at("server.pem"), at("server.key"), at("empty"), "client_ca"},
	} {
		cfg := DefaultConfig()
		cfg.TLSCert, cfg.TLSKey, cfg.ClientCA = c.cert, c.key, c.ca
		if _, err := New(cfg, Deps{}); err == nil || !strings.HasPrefix(err.Error(), c.want) || !strings.Contains(err.Error(), "(fix: ") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// authority signs certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func (a *authority) issue(t *testing.T, dir, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a.write(t, dir, name, cert, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (*authority) write(t *testing.T, dir, name string, cert *x509.Certificate, key *ecdsa.PrivateKey) {
	t.Helper()
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	if err := os.WriteFile(filepath.Join(dir, name+".pem"), block, 0o600); err != nil {
		t.Fatal(err)
	}
	if key == nil {
		return
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
