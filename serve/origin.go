package serve

import (
	"net/http"
	"slices"
	"strings"
)

// asked lets pages of AllowedOrigins send requests (CORS, in the Fetch standard), and removes a
// slash at the end of a path. A page of another site gets no CORS header, and a later guard
// refuses it.
func (s *Server) asked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := strings.TrimRight(r.URL.Path, "/"); p != "" && p != r.URL.Path && r.URL.RawPath == "" {
			r = r.Clone(r.Context())
			r.URL.Path = p
		}
		if len(s.cfg.AllowedOrigins) > 0 {
			w.Header().Add("Vary", "Origin")
		}
		if s.fromAllowed(r) {
			w.Header().Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
			if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
				w.Header().Set("Access-Control-Allow-Methods", "GET, POST")
				w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Content-Encoding, X-API-Key, Traceparent")
				w.Header().Set("Access-Control-Max-Age", "600")
				w.WriteHeader(http.StatusNoContent)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// fromAllowed reports whether a page of an allowed site sent the request.
func (s *Server) fromAllowed(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	return origin != "" && slices.Contains(s.cfg.AllowedOrigins, origin)
}
