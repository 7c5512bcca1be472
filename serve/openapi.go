package serve

import (
	_ "embed"
	"net/http"
)

//go:generate env CORASTREAM_WRITE=1 go test -count=1 -run TestTheDescriptionIsUpToDate .

//go:embed openapi.json
var openAPIDocument []byte

// openAPI serves the description of the API; a test holds it to the routes and the bodies.
func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-cache")
	w.Write(openAPIDocument) //nolint:errcheck // the client is gone
	return nil
}
