package serve

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/corastream/corastream"
)

// adaptersByHand answers with what it was asked.
type adaptersByHand struct{}

func (adaptersByHand) Adapter(_ context.Context, r AdapterRequest) (map[string][]byte, error) {
	switch r.User {
	case "nobody":
		return nil, fmt.Errorf("%w: no event of user %q has been learnt", corastream.ErrUnknown, r.User)
	case "early":
		return nil, fmt.Errorf("%w: nothing to export yet", corastream.ErrDegraded)
	}
	return map[string][]byte{"b.json": fmt.Appendf(nil, "%+v", r), "a.safetensors": {0, 1, 2}}, nil
}

func withAdapters(_ *Config, d *Deps) { d.Adapters = adaptersByHand{} }

func TestAdapterIsAZipOfItsFiles(t *testing.T) {
	f := newFixture(t, withAdapters)
	const path = "/v1/adapters/an%2Fna?item=i%201&base=org%2Fmodel&gguf=true"
	w := f.call("GET", path, "", nil)
	h := w.Header()
	if w.Code != http.StatusOK || h.Get("Content-Type") != "application/zip" || h.Get("Content-Length") != fmt.Sprint(w.Body.Len()) || h.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v", w.Code, h)
	}
	z, err := zip.NewReader(bytes.NewReader(w.Body.Bytes()), int64(w.Body.Len()))
	if err != nil || len(z.File) != 2 || z.File[0].Name != "a.safetensors" || z.File[1].Name != "b.json" {
		t.Fatalf("%v, %v", z, err)
	}
	r, err := z.File[1].Open()
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); err != nil || string(b) != "{User:an/na Item:i 1 Base:org/model GGUF:true}" {
		t.Errorf("asked for %s, %v", b, err)
	}
	if again := f.call("GET", path, "", nil); !bytes.Equal(again.Body.Bytes(), w.Body.Bytes()) {
		t.Error("the same weights give another file")
	}
}

func TestAdapterRefusesByName(t *testing.T) {
	f := newFixture(t, withAdapters)
	for _, c := range []struct {
		path, field string
		status      int
	}{
		{"/v1/adapters/anna?item=", "item", 400},
		{"/v1/adapters/anna?item=a&item=b", "item", 400},
		{"/v1/adapters/anna?gguf=maybe", "gguf", 400},
		{"/v1/adapters/anna?format=peft", "format", 400},
		{"/v1/adapters/anna?item=%zz", "query", 400},
		{"/v1/adapters/%FF", "user", 400},
		{"/v1/adapters/nobody", "", 404},
		{"/v1/adapters/early", "", 503},
	} {
		if code, fail := f.failure("GET", c.path, ""); code != c.status || fail.Field != c.field {
			t.Errorf("%s: %d %+v", c.path, code, fail)
		}
	}
}
