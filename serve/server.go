package serve

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/corastream/corastream"
)

// Server answers HTTP. It is also a corastream.Sink and a corastream.DeadLetters: put it behind a
// tee, after the broker has the records, and the dashboard shows them.
type Server struct {
	cfg     Config
	deps    Deps
	tls     *tls.Config
	gate    *gate
	inlet   *gate // of events: they wait for the broker and need no core
	talk    *gate // of conversations
	uploads *gate // of files to look through, which are read into memory
	limiter *limiter
	metrics *metrics
	recent  *recent
	pages   *pages
	curve   *curve
	changes changes
	handler http.Handler
	ready   atomic.Bool
	started time.Time

	mu        sync.Mutex
	listeners []net.Listener // main, admin
}

// New checks the configuration, loads the certificates and builds the routes. It opens no port.
func New(cfg Config, deps Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Stats == nil {
		deps.Stats = new(corastream.Stats)
	}
	slots := cfg.MaxInFlight
	if slots == 0 {
		slots = runtime.GOMAXPROCS(0)
	}
	s := &Server{
		cfg: cfg, deps: deps, gate: newGate(slots, cfg.MaxQueue, ms(cfg.QueueTimeoutMS)),
		inlet:   newGate(max(8, slots), cfg.MaxQueue, ms(cfg.QueueTimeoutMS)),
		uploads: newGate(1, 4, ms(cfg.QueueTimeoutMS)),
		talk:    newGate(cfg.MaxGenerations, cfg.MaxGenerationQueue, ms(cfg.QueueTimeoutMS)),
		limiter: newLimiter(cfg.RatePerSecond, max(1, int(2*cfg.RatePerSecond))), recent: newRecent(cfg.Recent), pages: newPages(cfg.Pages), curve: new(curve),
		started: deps.Now(),
	}
	var err error
	if s.tls, err = loadTLS(cfg); err != nil {
		return nil, err
	}
	s.metrics = newMetrics(s)
	s.handler = s.asked(s.mux())
	if cfg.Gorse && deps.Foreign != nil {
		s.handler = beside(s.handler, deps.Foreign(s.handler))
	}
	return s, nil
}

// beside sends paths below /api/ to foreign and all others to own.
func beside(own, foreign http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/") {
			foreign.ServeHTTP(w, r)
			return
		}
		own.ServeHTTP(w, r)
	})
}

func loadTLS(cfg Config) (*tls.Config, error) {
	if cfg.TLSCert == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
	if err != nil {
		return nil, corastream.Usagef("tls_cert", "give a PEM certificate and its PEM key", "%v", err)
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}
	if cfg.ClientCA != "" {
		pem, err := os.ReadFile(cfg.ClientCA)
		if err != nil {
			return nil, corastream.Usagef("client_ca", "give a PEM file", "%v", err)
		}
		out.ClientCAs, out.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !out.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, corastream.Usagef("client_ca", "give a PEM file with CERTIFICATE blocks", "%s holds no certificate", cfg.ClientCA)
		}
	}
	return out, nil
}

// Handler is the main address's handler, for tests and for mounting elsewhere.
func (s *Server) Handler() http.Handler { return s.handler }

// SetReady says that the state is recovered and the model is loaded and warmed up. From then on
// /readyz depends on the checks alone.
func (s *Server) SetReady(ready bool) { s.ready.Store(ready) }

// Listen opens the ports, so that Addr is known and a taken port is an error, before Run.
func (s *Server) Listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.listeners) > 0 {
		return nil
	}
	for _, a := range []struct{ key, addr string }{{"listen", s.cfg.Listen}, {"admin_listen", s.cfg.AdminListen}} {
		if a.addr == "" {
			continue
		}
		l, err := net.Listen("tcp", a.addr)
		if err != nil {
			for _, open := range s.listeners {
				open.Close()
			}
			s.listeners = nil
			return corastream.Usagef(a.key, "choose a free port of this machine, or port 0", "%v", err)
		}
		s.listeners = append(s.listeners, newBoundedListener(l, s.cfg.MaxConnections))
	}
	return nil
}

// Addr is the main address once Listen was called, AdminAddr the second one; "" when there is none.
func (s *Server) Addr() string      { return s.addr(0) }
func (s *Server) AdminAddr() string { return s.addr(1) }

func (s *Server) addr(i int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i >= len(s.listeners) {
		return ""
	}
	return s.listeners[i].Addr().String()
}

// URL is the address to open in a browser.
func (s *Server) URL() string {
	if s.tls != nil {
		return "https://" + s.Addr() + "/"
	}
	return "http://" + s.Addr() + "/"
}

// Run serves until ctx ends, then turns unready, stops accepting, and gives requests in flight
// ShutdownTimeoutMS. It returns nil after an orderly end.
//
// Requests have a context of their own that outlives ctx: an answer under way at SIGTERM still goes
// out. It is cancelled when the shutdown's time is over. Run waits for the sampler and for both
// servers.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Listen(); err != nil {
		return err
	}
	// Requests may outlive ctx by the shutdown timeout, so they have a context of their own.
	base, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	var wg sync.WaitGroup
	defer wg.Wait()
	sampling, stopSampling := context.WithCancel(ctx)
	defer stopSampling()
	wg.Go(func() { s.sampleEverySecond(sampling) })

	failed := make(chan error, 2)
	var servers []*http.Server
	for i, l := range s.listeners {
		h := s.handler
		if i == 1 {
			h = s.adminMux()
		}
		srv := &http.Server{
			Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: ms(s.cfg.RequestTimeoutMS),
			WriteTimeout: ms(s.cfg.RequestTimeoutMS) + 5*time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
			BaseContext: func(net.Listener) context.Context { return base }, ErrorLog: quietLog(s.deps.Log),
		}
		if i == 1 {
			srv.WriteTimeout = 0 // a CPU profile takes as long as it was asked to
		}
		servers = append(servers, srv)
		wg.Go(func() {
			var err error
			if s.tls != nil && i == 0 {
				srv.TLSConfig = s.tls.Clone()
				err = srv.ServeTLS(l, "", "")
			} else {
				err = srv.Serve(l)
			}
			if !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		})
	}
	s.deps.Log.Info().Str("url", s.URL()).Str("admin", s.AdminAddr()).Bool("token", s.cfg.Token != "").Bool("mtls", s.cfg.ClientCA != "").Msg("serving HTTP")
	if s.tls == nil && !isLoopback(s.cfg.Listen) {
		s.deps.Log.Warn().Str("listen", s.cfg.Listen).Msg("the token crosses the network unencrypted (fix: set tls_cert and tls_key)")
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("serve HTTP: %w", err)
	}
	s.ready.Store(false)
	grace, cancel := context.WithTimeout(base, ms(s.cfg.ShutdownTimeoutMS))
	defer cancel()
	for _, srv := range servers {
		if srv.Shutdown(grace) != nil {
			s.deps.Log.Warn().Msg("requests were still running after shutdown_timeout_ms and were cut off")
			srv.Close()
		}
	}
	return err
}
