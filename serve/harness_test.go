package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
)

const token = "canary-3f9a7c51d2e84b60"

// memoryStore is a state in memory as the part of a store that answering needs.
type memoryStore struct {
	corastream.Store // the rest is never called here
	mu               sync.Mutex
	m                *corastream.Memory
}

func (s *memoryStore) View(_ context.Context, read func(corastream.State) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return read(s.m)
}

// fixture is a small world behind a server: six films, two users with opposite tastes, the real CF model, the real
// retriever and the real pipeline.
type fixture struct {
	*Server
	t         *testing.T
	store     *memoryStore
	pipeline  *corastream.Pipeline
	retriever *Retriever
	sent      *eventLog
	shelved   *eventLog // catalogue records
	letters   *letterLog
	log       *bytes.Buffer
}

func newFixture(t *testing.T, change ...func(*Config, *Deps)) *fixture {
	t.Helper()
	spec := cfstream.Default()
	spec.Content = 2
	spec.TasteRate = 0.5
	model, err := cfstream.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	m := corastream.NewMemory()
	for i, title := range []string{"Alien", "Blade Runner", "Casablanca", "Duck Soup", "Eraserhead", "Fargo"} {
		content := []float32{1, 0}
		if i%2 == 1 {
			content = []float32{0, 1}
		}
		m.Put(corastream.Item{ID: fmt.Sprintf("i%d", i+1), Title: title, Fields: map[string]string{"year": "1979"}, Content: content})
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for n := range 5 {
		for _, e := range []corastream.Event{
			{User: "anna", Item: "i1", Label: 1},
			{User: "anna", Item: "i2", Label: 0},
			{User: "bob", Item: "i1", Label: 0},
			{User: "bob", Item: "i2", Label: 1},
		} {
			e.Weight, e.Time = 1, at.Add(time.Duration(n)*time.Minute)
			if err := m.Apply(model, e); err != nil {
				t.Fatal(err)
			}
		}
	}
	f := &fixture{t: t, store: &memoryStore{m: m}, retriever: NewRetriever(DefaultRetrieverConfig(), model, nil), sent: &eventLog{}, shelved: &eventLog{}, letters: newLetterLog(), log: &bytes.Buffer{}}
	if err := f.retriever.Rebuild(m); err != nil {
		t.Fatal(err)
	}
	f.pipeline = &corastream.Pipeline{
		Config: corastream.DefaultPipelineConfig(), Store: f.store, Predictor: model, Retriever: f.retriever,
		Versions: corastream.Versions{Generator: "sha256:gen", LLM: "sha256:llm"},
	}
	cfg := DefaultConfig()
	deps := Deps{
		Recommender: f.pipeline, View: f.store, Predictor: model, Neighbours: f.retriever, Events: f.sent, Catalogue: f.shelved, Letters: f.letters, Validate: looked, Stats: &f.pipeline.Stats,
		Versions: func() corastream.Versions { return f.pipeline.Versions },
		Models: func() []Model {
			return []Model{{ID: "smollm", Digest: "sha256:llm"}, {ID: "smollm+cora", Parent: "smollm", Digest: "sha256:gen"}}
		},
		Status: func() []Check { return []Check{{Name: "state", OK: true}} },
		Gauges: func() []Gauge {
			return []Gauge{{Name: "lag_events", Help: "Events behind.", Labels: map[string]string{"partition": "0"}, Value: 3}}
		},
		LLM: func() *LLMStatus {
			return &LLMStatus{
				Worth:   LLMWorth{NDCG10With: .1429, NDCG10Without: .1366, CI: [2]float64{.0041, .0085}, Rows: 5000, Finding: "gain", Says: "it makes the lists better"},
				Version: 3, List: "3-0a1b2c3d", TrainedAtEvent: 2000, Training: true, Former: "1-99887766", Coded: 40,
				Shadow:   &LLMShadow{Version: 4, List: "4-01020304", TrainedAtEvent: 3000, Rows: 250, OfRows: 2000, Chance: -.012, CI: [2]float64{-.02, .004}},
				Verdicts: []LLMVerdict{{Version: 2, Decision: "taken back", AtEvent: 1800, TrainedAtEvent: 900, Rows: 150, Reason: "clearly worse: <b>"}},
			}
		},
		AUC:     func() map[string]float64 { return map[string]float64{"cf": 0.75} },
		Facts:   func() []Fact { return []Fact{{"generator", "16 weights in 3 ms"}} },
		Version: "1.2.3", Log: zerolog.New(&lockedWriter{w: f.log}),
	}
	for _, c := range change {
		c(&cfg, &deps)
	}
	f.pipeline.Generator, f.pipeline.Scorer = deps.Generator, deps.Scorer
	if f.Server, err = New(cfg, deps); err != nil {
		t.Fatal(err)
	}
	f.SetReady(true)
	return f
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// eventLog stands for the broker.
type eventLog struct {
	mu      sync.Mutex
	events  []string
	headers map[string]string
	err     error
}

func (l *eventLog) Produce(_ context.Context, events [][]byte, headers map[string]string) (at []corastream.Position, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil, l.err
	}
	l.headers = headers
	for _, e := range events {
		at = append(at, corastream.Position{Topic: "events", Offset: int64(len(l.events))})
		l.events = append(l.events, string(e))
	}
	return at, nil
}

// letterLog stands for the dead-letter topic: letter 0-17, and those that were sent again.
type letterLog struct {
	mu   sync.Mutex
	all  []FoundLetter // newest first
	sent int
}

func newLetterLog() *letterLog {
	return &letterLog{all: []FoundLetter{{
		DeadLetter: corastream.DeadLetter{Pos: corastream.Position{Topic: "events", Offset: 3}, Value: []byte(`{"item_id":"i1"}`), Reason: "no_user", Detail: "user_id is missing"},
		At:         corastream.Position{Topic: "letters", Offset: 17}, Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Size: 16,
	}}}
}

func (l *letterLog) Newest(_ context.Context, n int) ([]FoundLetter, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all[:min(n, len(l.all))]), nil
}

func (l *letterLog) Resend(_ context.Context, partition int32, offset int64) (corastream.Position, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.all, func(f FoundLetter) bool { return f.At.Partition == partition && f.At.Offset == offset })
	if i < 0 {
		return corastream.Position{}, corastream.ErrUnknown
	}
	if !l.all[i].Again.IsZero() {
		return corastream.Position{}, ErrSentAgain
	}
	l.all[i].Again = time.Date(2026, 1, 2, 4, 0, 0, 0, time.UTC)
	l.sent++
	return corastream.Position{Topic: "events", Offset: 20}, nil
}

// looked is a survey of so many lines; the real one is tested where it is wired.
func looked(_ context.Context, name string, data []byte) (Survey, error) {
	if len(data) == 0 {
		return Survey{}, corastream.Usagef(name, "write a header line", "the file is empty")
	}
	n := strings.Count(string(data), "\n")
	return Survey{Source: name, Holds: "events", Events: n, Kinds: map[string]int{"click": n}, Errors: 1, Findings: []SurveyFinding{
		{Level: "error", What: "no_user: user_id is missing", Where: name + ":2", Fix: "map it", Count: 2},
	}}, nil
}

// call sends a request through the handler and decodes the answer into out (when not nil).
func (f *fixture) call(method, path, body string, out any, headers ...string) *httptest.ResponseRecorder {
	f.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "127.0.0.1:8642"
	r.RemoteAddr = "127.0.0.1:50000"
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		} else {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	if out != nil {
		d := json.NewDecoder(bytes.NewReader(w.Body.Bytes()))
		d.DisallowUnknownFields()
		if err := d.Decode(out); err != nil {
			f.t.Fatalf("%s %s: %d %s: %v", method, path, w.Code, w.Body, err)
		}
	}
	return w
}

// admin is call on the admin address.
func (f *fixture) admin(method, path, body string, out any, headers ...string) *httptest.ResponseRecorder {
	f.t.Helper()
	main := f.handler
	defer func() { f.handler = main }()
	f.handler = f.adminMux()
	return f.call(method, path, body, out, headers...)
}

// ok is call for answers that must be 200.
func (f *fixture) ok(method, path, body string, out any, headers ...string) {
	f.t.Helper()
	if w := f.call(method, path, body, nil, headers...); w.Code != http.StatusOK {
		f.t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	} else if err := json.Unmarshal(w.Body.Bytes(), out); err != nil {
		f.t.Fatal(err)
	}
}

// failure is call for answers that must be errors.
func (f *fixture) failure(method, path, body string, headers ...string) (int, Failure) {
	f.t.Helper()
	var out struct {
		Error struct {
			Failure
			Type  string // where the route speaks like OpenAI's
			Param *string
		}
	}
	w := f.call(method, path, body, &out, headers...)
	if p := out.Error.Param; p != nil {
		out.Error.Field = *p
	}
	if _, fix, ok := strings.Cut(out.Error.Message, "(fix: "); ok {
		out.Error.Fix = fix
	}
	if likeOpenAI(path) != (out.Error.Type != "") {
		f.t.Errorf("%s %s: an error of the wrong shape: %s", method, path, w.Body)
	}
	if out.Error.Code == "" || out.Error.Message == "" || !strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") {
		f.t.Errorf("%s %s: not an error as it should be: %d %s", method, path, w.Code, w.Body)
	}
	return w.Code, out.Error.Failure
}

// example is a path that a route's pattern matches.
func example(rt route) string {
	return strings.NewReplacer("{id}", "i1", "{user}", "anna", "{model}", "smollm", "{file}", "app.js", "{$}", "").Replace(rt.path)
}
