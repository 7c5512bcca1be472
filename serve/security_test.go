package serve

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// public are the routes that anybody may ask. They tell nothing of users or items: the pages are empty until their script asks, with
// the token. The list repeats what routes() says, on purpose: a route that is made public shows here. Every other route asks for the
// token.
var public = []string{
	"GET /healthz", "GET /readyz", "GET /openapi.json", "GET /{$}", "GET /items", "GET /users", "GET /lists", "GET /data", "GET /users/{id}", "GET /items/{id}", "GET /assets/{file}",
}

func TestEveryRouteAsksForTheTokenButThoseThatAnybodyMayAsk(t *testing.T) {
	f := newFixture(t, withLLM, func(c *Config, _ *Deps) { c.Token = token })
	seen := map[string]bool{}
	for _, rt := range f.routes() {
		name := rt.method + " " + rt.path
		seen[name] = true
		without := f.call(rt.method, example(rt), "", nil).Code
		with := f.call(rt.method, example(rt), "", nil, "Authorization", "Bearer "+token).Code
		if anybody := slices.Contains(public, name); (without == http.StatusUnauthorized) == anybody || with == http.StatusUnauthorized {
			t.Errorf("%s: %d without the token, %d with it; it is for anybody: %v", name, without, with, anybody)
		}
	}
	for _, name := range public {
		if !seen[name] {
			t.Errorf("%s is in the list, but there is no such route", name)
		}
	}
}

// adminAccess is who may ask the admin address what: it tells anybody on this machine what there is to read, and asks for the
// token before it changes anything.
var adminAccess = map[string]string{
	"GET /metrics": "anybody", "GET /healthz": "anybody", "GET /readyz": "anybody", "GET /v1/rollout": "anybody", "POST /v1/rollout": "token",
}

func TestWhoMayAskTheAdminAddressIsAsTheTableSays(t *testing.T) {
	f := newFixture(t, withLLM, func(c *Config, _ *Deps) { c.Token = token })
	seen := map[string]bool{}
	for _, rt := range f.adminRoutes() {
		name := rt.method + " " + rt.path
		seen[name] = true
		for _, c := range []struct {
			headers []string
			let     bool
		}{
			{nil, adminAccess[name] == "anybody"},
			{[]string{"Authorization", "Bearer " + token + "x"}, adminAccess[name] == "anybody"},
			{[]string{"X-API-Key", token[:len(token)-1]}, adminAccess[name] == "anybody"},
			{[]string{"Authorization", "Bearer " + token}, adminAccess[name] != ""},
			{[]string{"X-API-Key", token}, adminAccess[name] != ""},
		} {
			body := ""
			if rt.method == "POST" {
				body = `{"action":"promote"}`
			}
			if w := f.admin(rt.method, rt.path, body, nil, c.headers...); (w.Code == http.StatusOK) != c.let || !c.let && (w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") == "") {
				t.Errorf("%s with %v: %d %s", name, c.headers, w.Code, w.Body)
			}
		}
	}
	for name := range adminAccess {
		if !seen[name] {
			t.Errorf("%s is in the table, but there is no such route", name)
		}
	}
}

// TestARolloutIsChangedOnTheAdminAddressAlone: who may ask for recommendations may read how a trial stands and no more; another
// site's page, which a browser on the server's machine may show, changes nothing either.
func TestARolloutIsChangedOnTheAdminAddressAlone(t *testing.T) {
	for _, secret := range []Secret{"", token} {
		f := newFixture(t, withLLM, func(c *Config, _ *Deps) { c.Token = secret })
		body, auth := `{"action":"promote"}`, []string{"Authorization", "Bearer " + token}
		code, fail := f.failure("POST", "/v1/rollout", body, auth...)
		if code != http.StatusMethodNotAllowed || !strings.Contains(fail.Fix, "admin_listen") {
			t.Errorf("the main address: %d %+v", code, fail)
		}
		if w := f.call("GET", "/v1/rollout", "", nil, auth...); w.Code != http.StatusOK {
			t.Errorf("how it stands: %d %s", w.Code, w.Body)
		}
		if w := f.admin("POST", "/v1/rollout", body, nil, auth...); w.Code != http.StatusOK {
			t.Errorf("the admin address: %d %s", w.Code, w.Body)
		}
		for _, headers := range [][]string{
			{"Host", "evil.example"}, {"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}, {"Content-Type", "text/plain"},
		} {
			if w := f.admin("POST", "/v1/rollout", body, nil, append(headers, auth...)...); w.Code != http.StatusForbidden && w.Code != http.StatusUnsupportedMediaType {
				t.Errorf("%v: %d %s", headers, w.Code, w.Body)
			}
		}
	}
}

// TestNobodyElsesPageReadsTheAdminAddress: it asks for no token, so a foreign Host must be refused even where the main
// address has one.
func TestNobodyElsesPageReadsTheAdminAddress(t *testing.T) {
	for _, secret := range []Secret{"", token} {
		f := newFixture(t, func(c *Config, _ *Deps) { c.Token = secret })
		for _, path := range []string{"/metrics", "/healthz", "/readyz", "/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/cmdline"} {
			for host, want := range map[string]bool{"evil.example": false, "evil.example:8643": false, "127.0.0.1:8643": true, "[::1]:8643": true, "localhost": true} {
				r := httptest.NewRequest("GET", path, nil)
				r.Host = host
				w := httptest.NewRecorder()
				f.adminMux().ServeHTTP(w, r)
				if (w.Code != http.StatusForbidden) != want {
					t.Errorf("%s as %s, token %v: %d", path, host, secret != "", w.Code)
				}
			}
		}
	}
}

// TestNoRequestNamesAFile: what is read from the disk is the operator's choice alone. No field or path parameter is a
// file, an address or an adapter's name; ids that look like paths are ids.
func TestNoRequestNamesAFile(t *testing.T) {
	f := newFixture(t, withLLM)
	var api struct {
		Paths map[string]map[string]struct {
			Parameters  []struct{ Name string }
			RequestBody json.RawMessage
		}
		Components struct{ Schemas map[string]json.RawMessage }
	}
	if err := json.Unmarshal(f.call("GET", "/openapi.json", "", nil).Body.Bytes(), &api); err != nil {
		t.Fatal(err)
	}
	fields := map[string]bool{}
	for path, methods := range api.Paths {
		for _, m := range methods {
			for _, p := range m.Parameters {
				if !strings.HasPrefix(path, "/assets/") { // embedded in the binary; see below
					fields[p.Name] = true
				}
			}
			collect(t, m.RequestBody, api.Components.Schemas, fields, map[string]bool{})
		}
	}
	if len(fields) < 10 {
		t.Fatalf("only %d fields found: is the description read rightly?", len(fields))
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		for _, word := range []string{"file", "path", "url", "uri", "dir", "lora", "checkpoint", "host"} {
			// A rollout's checkpoint is a name within the operator's rollout.dir; cmd/corastream holds it to that.
			if strings.Contains(strings.ToLower(name), word) && name != "checkpoint" {
				t.Errorf("a request can say %q", name)
			}
		}
	}
	for _, id := range []string{"..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd", "..", "%00", "C:%5cwindows%5cwin.ini"} {
		for _, path := range []string{"/assets/", "/v1/users/", "/v1/items/", "/v1/models/", "/v1/adapters/"} {
			if w := f.call("GET", path+id, "", nil); w.Code < 300 && path != "/v1/users/" || strings.Contains(w.Body.String(), "root:") {
				t.Errorf("GET %s%s: %d %.200s", path, id, w.Code, w.Body)
			}
		}
	}
}

// collect gathers the names of properties of a schema, through its references.
func collect(t *testing.T, schema json.RawMessage, all map[string]json.RawMessage, into, done map[string]bool) {
	t.Helper()
	var v any
	if len(schema) == 0 {
		return
	}
	if err := json.Unmarshal(schema, &v); err != nil {
		t.Fatal(err)
	}
	var walk func(any)
	walk = func(v any) {
		switch x := v.(type) {
		case []any:
			for _, e := range x {
				walk(e)
			}
		case map[string]any:
			if p, ok := x["properties"].(map[string]any); ok {
				for name := range p {
					into[name] = true
				}
			}
			if ref, ok := x["$ref"].(string); ok && !done[ref] {
				done[ref] = true
				collect(t, all[ref[strings.LastIndexByte(ref, '/')+1:]], all, into, done)
			}
			for k, e := range x {
				if k != "example" && k != "examples" {
					walk(e)
				}
			}
		}
	}
	walk(v)
}
