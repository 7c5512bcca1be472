package serve

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"

	"github.com/corastream/corastream"
)

//go:embed web
var web embed.FS

// pagePolicy lets the page load its own script and style and send requests to its own server, and
// nothing else: titles and ids come from strangers.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// page serves the dashboard's one page for /, /users/{id} and /items/{id}; its script asks the API
// for the data, with the token that the reader typed in. It holds no data itself. An unknown id is
// a 404 whose page says where to go on.
func (s *Server) page(w http.ResponseWriter, r *http.Request) error {
	body, err := web.ReadFile("web/index.html")
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Cache-Control", "no-cache")
	w.WriteHeader(s.pageStatus(r))
	w.Write(body) //nolint:errcheck // the client is gone
	return nil
}

// pageStatus is 404 for an id that is not known. Where a token is required it is always 200,
// because a reader without the token must not learn whether a user exists.
func (s *Server) pageStatus(r *http.Request) int {
	id := r.PathValue("id")
	if id == "" || s.cfg.Token != "" || s.deps.View == nil {
		return http.StatusOK
	}
	status := http.StatusOK
	err := s.deps.View.View(r.Context(), func(st corastream.State) error {
		if r.URL.Path[1] == 'u' {
			u, err := st.User(id)
			if err == nil && stranger(u) {
				status = http.StatusNotFound
			}
			return err
		}
		it, err := st.Item(id)
		if err == nil && !known(it) {
			status = http.StatusNotFound
		}
		return err
	})
	if err != nil {
		return http.StatusOK // the page's own request will tell
	}
	return status
}

// kinds are the media types of the page's files. They are fixed here because the system's table
// differs between machines.
var kinds = map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}

func (s *Server) asset(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("file")
	body, err := web.ReadFile("web/" + name)
	if err != nil || kinds[path.Ext(name)] == "" {
		return &Failure{Status: http.StatusNotFound, Code: "not_found", Message: "there is no such file"}
	}
	sum := sha256.Sum256(body)
	tag := `"` + hex.EncodeToString(sum[:8]) + `"`
	h := w.Header()
	h.Set("Content-Type", kinds[path.Ext(name)])
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	w.Write(body) //nolint:errcheck // the client is gone
	return nil
}
