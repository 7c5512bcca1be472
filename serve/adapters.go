package serve

import (
	"archive/zip"
	"bytes"
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

// AdapterRequest asks for a user's weights as files.
type AdapterRequest struct {
	User string
	Item string // the pair's weights; "" gives the user's part
	Base string // the base model's name in adapter_config.json; "" as the server calls it
	GGUF bool   // with a GGUF adapter for llama.cpp
}

// Adapters writes a user's weights in the formats of other LLM servers.
type Adapters interface {
	// Adapter returns the files of a PEFT LoRA folder by name. Unknown ids are
	// corastream.ErrUnknown; no checkpoint is corastream.ErrDegraded.
	Adapter(ctx context.Context, r AdapterRequest) (map[string][]byte, error)
}

// adapter answers GET /v1/adapters/{user}?item=&base=&gguf= with a zip file; equal weights give
// equal bytes.
func (s *Server) adapter(w http.ResponseWriter, r *http.Request) error {
	if s.deps.Adapters == nil {
		return missing("a language model and a checkpoint", "give both to the serve stage")
	}
	ask := AdapterRequest{User: plainID(r.PathValue("user"))}
	if err := s.checkID("user", ask.User); err != nil {
		return err
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return badField("query", "encode the query as a form", "it does not parse")
	}
	for key, values := range query {
		if len(values) != 1 {
			return badField(key, "give it once", "%d values", len(values))
		}
		switch v := values[0]; key {
		case "item":
			ask.Item, err = v, s.checkID(key, v)
		case "base":
			ask.Base, err = v, s.checkID(key, v)
		case "gguf":
			if ask.GGUF, err = strconv.ParseBool(v); err != nil {
				err = badField(key, "write true or false", "%q is neither", v)
			}
		default:
			err = badField(key, "use item, base and gguf", "there is no such parameter")
		}
		if err != nil {
			return err
		}
	}
	files, err := s.deps.Adapters.Adapter(r.Context(), ask)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store}) // weights do not shrink
		if err != nil {
			return err
		}
		if _, err := f.Write(files[name]); err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/zip")
	h.Set("Content-Disposition", `attachment; filename="adapter.zip"`)
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	w.Write(b.Bytes()) //nolint:errcheck // the client is gone; there is nobody left to tell
	return nil
}
