package serve

import (
	"context"
	"net/http"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
)

// Recommender answers requests; *corastream.Pipeline is one.
type Recommender interface {
	Recommend(ctx context.Context, owed []corastream.Owed) ([]corastream.Recommendation, error)
}

// Browser makes the lists that are the same for every caller; *corastream.Pipeline is one. It
// returns corastream.ErrNoLists where no list model runs.
type Browser interface {
	Browse(ctx context.Context, b corastream.Browse) ([]corastream.Listed, error)
}

// Viewer gives read-only access to the state; every corastream.Store is one.
type Viewer interface {
	View(ctx context.Context, read func(corastream.State) error) error
}

// EventSink takes events in any dialect of the interactions topic, one JSON object each, and
// returns when the broker has all of them. headers are the request's ce-* headers (CloudEvents,
// binary mode). It produces none when one of them is bad; the error is then a
// *corastream.UsageError whose Where names it ("[3].user_id"). The positions are where the events
// lie.
type EventSink interface {
	Produce(ctx context.Context, events [][]byte, headers map[string]string) ([]corastream.Position, error)
}

// TextScorer reads raw prompts. LabelLogits returns the next-token logits of each label
// [prompts][labels] and how many prompt tokens were read; weights (one per prompt, or nil: the
// base model) are merged in as for Scorer.
type TextScorer interface {
	LabelLogits(ctx context.Context, prompts []string, labels []int, w []corastream.Weights, p *corastream.Projection) ([][]float32, int, error)
	// Token returns the id of a text that is exactly one token.
	Token(text string) (int, bool)
}

// Neighbours finds items by direction; *Retriever is one.
type Neighbours interface {
	Nearest(vec []float32, n int, skip func(item string) bool) ([]Near, error)
}

// Check is one condition of readiness.
type Check struct {
	Name string `json:"name"` // "state", "llm", "warm_up", "broker", ...
	OK   bool   `json:"ok"`
	// what is missing; may be set for a passed check too ("degraded: cf")
	Why string `json:"why,omitempty"`
}

// Gauge is one further value on /metrics, as corastream_NAME. Labels must be the same keys for one
// name, and never ids of users.
type Gauge struct {
	Name, Help string
	Labels     map[string]string
	Value      float64
}

// Fact is a line of the dashboard: what the generator did last, which LLM is loaded.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Model is a line of GET /v1/models.
type Model struct {
	ID      string // the name requests use
	Parent  string // the base model, for a generator's checkpoint
	Digest  string
	Created time.Time
}

// Deps are what the routes need. A route whose dependency is nil answers 501 and says what is
// missing.
type Deps struct {
	Recommender Recommender
	Browser     Browser // nil: 501
	View        Viewer
	Predictor   corastream.Predictor
	Generator   corastream.Generator
	Scorer      corastream.Scorer
	Text        TextScorer
	Speaker     corastream.Speaker // conversations; nil: 501
	Arms        corastream.Arms    // nil: Generator answers everybody
	Rollout     Rollout            // nil: 501
	Neighbours  Neighbours
	Crowd       *Crowd // who took what; nil: 501
	Adapters    Adapters
	Events      EventSink
	// Catalogue takes records of the items topic as Events takes events; nil: 501.
	Catalogue EventSink
	// Users lists up to n users whose ids begin with prefix and come after the id after, in the order of ids; nil: 501.
	Users    func(prefix, after string, n int) ([]corastream.UserState, error)
	Letters  DeadLetters // nil: 501
	Validate Validator   // of uploaded files; nil: 501
	// Foreign answers another program's paths, which begin with /api/, by the API's handler, where Config.Gorse is set; nil: nothing.
	// A request that it makes to api may be larger than a client's: a body of 2 MiB, with 2,000 events or catalogue records.
	Foreign func(api http.Handler) http.Handler
	// Learnt waits until the events at these positions are part of what lists are made from, or until ctx ends; nil: 501.
	Learnt func(ctx context.Context, at []corastream.Position) error
	// Past reads the interactions that a request brings, in the forms of the interactions topic
	// without a user; nil: 501. An error about an entry is a *corastream.UsageError whose Where is
	// its index ("[3]").
	Past func(entries [][]byte, now time.Time) ([]corastream.Interaction, error)

	// Old says that what happened then no longer counts as a user's history; nil: everything counts.
	Old func(at time.Time) bool

	// Erase forgets a user, once and for all; nil: 501. Data is the folder that it forgets in.
	Erase func(ctx context.Context, user string) error
	Data  string

	History  int                        // liked titles in a prompt, as in corastream.PipelineConfig
	Versions func() corastream.Versions // of the generator and the LLM in use
	Models   func() []Model
	Status   func() []Check
	Stats    *corastream.Stats
	Gauges   func() []Gauge
	AUC      func() map[string]float64 // running prequential AUC by model: "bias", "cf", "cora"
	Hits     func() map[string]float64 // running HR@10 of lists: "mix", "popularity", "late"
	LLM      func() *LLMStatus         // what the LLM does to lists; nil, or nil of it: nothing
	Facts    func() []Fact
	// Span, when there is one, opens a span for a request to this route, below its caller's; the
	// request goes on with ctx, and end closes it.
	Span func(r *http.Request, route string) (ctx context.Context, end func(status int))

	Version string // of this program
	Log     zerolog.Logger
	Now     func() time.Time
}
