package serve

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// mux builds the handler: every route, and for every path an answer to the methods that it does
// not have.
func (s *Server) mux() http.Handler {
	mux := http.NewServeMux()
	allowed := map[string][]string{}
	for _, rt := range s.routes() {
		mux.Handle(rt.method+" "+rt.path, s.wrap(rt))
		allowed[rt.path] = append(allowed[rt.path], rt.method)
		if rt.method == "GET" {
			allowed[rt.path] = append(allowed[rt.path], "HEAD")
		}
	}
	for path, methods := range allowed {
		mux.Handle(path, s.wrap(route{path: path, public: true, handle: func(w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("Allow", strings.Join(methods, ", "))
			f := &Failure{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Message: "this path has no such method", Fix: "use " + strings.Join(methods, " or ")}
			for _, rt := range s.adminRoutes() {
				if rt.method == r.Method && rt.path == path {
					f.Message, f.Fix = "who may ask for recommendations may not do this: it is on the admin address", "set http.admin_listen and send it there"
				}
			}
			return f
		}}))
	}
	mux.Handle("/", s.wrap(route{path: "/", public: true, handle: func(http.ResponseWriter, *http.Request) error {
		return &Failure{Status: http.StatusNotFound, Code: "not_found", Message: "there is no such path", Fix: "see /openapi.json, or / in a browser"}
	}}))
	return mux
}

// adminMux serves operators. It listens on a loopback address, which only this machine reaches.
func (s *Server) adminMux() http.Handler {
	mux := http.NewServeMux()
	for _, rt := range s.adminRoutes() {
		mux.Handle(rt.method+" "+rt.path, s.observed(rt.path, s.local(rt)))
	}
	profiles := map[string]http.HandlerFunc{
		"/debug/pprof/": pprof.Index, "/debug/pprof/profile": pprof.Profile, "/debug/pprof/symbol": pprof.Symbol, "/debug/pprof/trace": pprof.Trace,
	}
	for path, h := range profiles {
		mux.Handle("GET "+path, s.observed(path, s.local(route{public: true, handle: func(w http.ResponseWriter, r *http.Request) error {
			h(w, r)
			return nil
		}})))
	}
	return mux
}

// wrap puts the guards around a route, cheapest first: rate, host, origin, token, gate, deadline.
func (s *Server) wrap(rt route) http.Handler {
	origin := http.NewCrossOriginProtection()
	for _, o := range s.cfg.AllowedOrigins {
		if err := origin.AddTrustedOrigin(o); err != nil {
			panic("serve: " + err.Error()) // Validate lets none through that is not an origin
		}
	}
	work := s.traced(rt, func(w http.ResponseWriter, r *http.Request) error {
		limit := s.cfg.RequestTimeoutMS
		if rt.long {
			limit = s.cfg.GenerationTimeoutMS
		}
		ctx, cancel := context.WithTimeout(r.Context(), ms(limit))
		defer cancel()
		if g := s.gateOf(rt); g != nil {
			if err := g.enter(ctx); err != nil {
				return err
			}
			slot := &slot{g: g}
			defer slot.leave()
			ctx = context.WithValue(ctx, slotKey{}, slot)
		}
		return rt.handle(w, r.WithContext(ctx))
	})
	return s.observed(rt.path, func(w http.ResponseWriter, r *http.Request) error {
		if wait := s.limiter.take(clientOf(r), s.deps.Now()); wait > 0 {
			return &Failure{
				Status: http.StatusTooManyRequests, Code: "rate_limited", Message: fmt.Sprintf("over %g requests a second from one client", s.cfg.RatePerSecond),
				Fix: "wait for Retry-After; the operator can raise http.rate_per_second", retryAfter: max(wait, time.Second),
			}
		}
		if err := s.checkHost(r); err != nil {
			return err
		}
		if err := s.admit(w, r, rt, origin); err != nil {
			return err
		}
		return work(w, r)
	})
}

// admit checks the page that a request comes from and, unless the route is public, its token.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, rt route, origin *http.CrossOriginProtection) error {
	if origin.Check(r) != nil {
		return crossOrigin()
	}
	if rt.public {
		return nil
	}
	err := s.authorize(r)
	if err != nil {
		w.Header().Set("WWW-Authenticate", realm)
	}
	return err
}

// gateOf returns the gate of a route. It is nil for cheap routes, and for conversations, which
// enter their gate after their body has been read.
func (s *Server) gateOf(rt route) *gate {
	switch {
	case rt.heavy:
		return s.gate
	case rt.writes:
		return s.inlet
	}
	return nil
}

// authorize compares digests, so neither the time nor the length tells anything of the token.
func (s *Server) authorize(r *http.Request) error {
	if s.cfg.Token == "" {
		return nil
	}
	given := r.Header.Get("X-API-Key")
	if kind, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(kind, "Bearer") {
		given = strings.TrimSpace(token)
	}
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(s.cfg.Token.Reveal()))
	if subtle.ConstantTimeCompare(a[:], b[:]) == 1 {
		return nil
	}
	f := &Failure{Status: http.StatusUnauthorized, Code: "unauthorized", Field: "Authorization", Message: "the token is missing", Fix: "send Authorization: Bearer TOKEN, or X-API-Key: TOKEN"}
	if given != "" {
		f.Message = "the token is wrong"
	}
	return f
}

// checkHost refuses foreign host names while neither a token nor a certificate is required. A page
// elsewhere could point its own name at this machine and read the answers (DNS rebinding).
func (s *Server) checkHost(r *http.Request) error {
	if s.cfg.Token != "" || s.cfg.ClientCA != "" {
		return nil
	}
	return s.ownName(r)
}

// local guards the admin address, whatever the main one requires. A page in the operator's browser
// must neither read profiles, which show memory, nor change anything.
func (s *Server) local(rt route) handle {
	origin := http.NewCrossOriginProtection()
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := s.ownName(r); err != nil {
			return err
		}
		if err := s.admit(w, r, rt, origin); err != nil {
			return err
		}
		return rt.handle(w, r)
	}
}

const realm = `Bearer realm="corastream"`

func crossOrigin() *Failure {
	return &Failure{Status: http.StatusForbidden, Code: "cross_origin", Field: "Origin", Message: "another site's page sent this", Fix: "call from a page of this server, or from a program"}
}

// ownName refuses a Host that is neither this machine's nor allowed.
func (s *Server) ownName(r *http.Request) error {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	ip, err := netip.ParseAddr(host)
	if err == nil && ip.Unmap().IsLoopback() || strings.EqualFold(host, "localhost") || slices.Contains(s.cfg.AllowedHosts, host) {
		return nil
	}
	return &Failure{Status: http.StatusForbidden, Code: "forbidden_host", Field: "Host", Message: "without a token only this machine's own names are answered", Fix: "use 127.0.0.1 or localhost, add the name to allowed_hosts, or set a token"}
}

// observed measures a route, turns errors into JSON and panics into 500.
func (s *Server) observed(path string, h handle) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := s.deps.Now()
		rec := &recorder{ResponseWriter: w}
		s.metrics.inFlight.Inc()
		defer func() {
			s.metrics.inFlight.Dec()
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					panic(p)
				}
				// The panic's text may hold anything; the stack holds addresses alone.
				s.deps.Log.Error().Str("route", path).Str("panic", s.redact(fmt.Sprint(p))).Bytes("stack", debug.Stack()).Msg("a handler panicked")
				if rec.status == 0 {
					fail(rec, path, &Failure{Status: http.StatusInternalServerError, Code: "internal", Message: "the server failed; its log says why"})
				}
			}
			s.metrics.observe(path, r.Method, rec.status, s.deps.Now().Sub(start))
		}()
		rec.Header().Set("X-Content-Type-Options", "nosniff")
		rec.Header().Set("Referrer-Policy", "no-referrer")
		if err := h(rec, r); err != nil {
			f := failureOf(err)
			if f.Status >= 500 && f.cause != nil {
				s.deps.Log.Warn().Str("route", path).Int("status", f.Status).Str("error", s.redact(f.cause.Error())).Msg("request failed")
			}
			if f.Status == http.StatusServiceUnavailable || f.Status == http.StatusTooManyRequests {
				s.metrics.refused.WithLabelValues(f.Code).Inc()
			}
			if rec.status == 0 {
				fail(rec, path, f)
			}
		}
	})
}

// traced opens a span for a route of the API. It comes after the guards, so a client that is
// refused can not fill the tracer. Pages, probes and metrics, which are requested all the time,
// have no span.
func (s *Server) traced(rt route, h handle) handle {
	if s.deps.Span == nil || rt.public || !strings.HasPrefix(rt.path, "/v") {
		return h
	}
	return func(w http.ResponseWriter, r *http.Request) (err error) {
		ctx, end := s.deps.Span(r, rt.path)
		status := http.StatusInternalServerError // a panic's
		defer func() { end(status) }()
		err = h(w, r.WithContext(ctx))
		if err != nil {
			status = failureOf(err).Status
		} else if rec, ok := w.(*recorder); ok {
			status = rec.status
		}
		return err
	}
}

func (s *Server) redact(text string) string {
	if s.cfg.Token == "" {
		return text
	}
	return strings.ReplaceAll(text, s.cfg.Token.Reveal(), "***")
}

// recorder remembers the status that was sent.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// quietLog keeps net/http's own lines (bad handshakes, mostly) at debug level.
func quietLog(l zerolog.Logger) *log.Logger { return log.New(debugWriter{l}, "", 0) }

type debugWriter struct{ log zerolog.Logger }

func (d debugWriter) Write(p []byte) (int, error) {
	d.log.Debug().Msg(strings.TrimSpace(string(p)))
	return len(p), nil
}

var _ io.Writer = debugWriter{}
