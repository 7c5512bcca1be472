package corastream

import "context"

// Source reads micro-batches. It starts each partition at the store's watermark; ErrEnd says a bounded log is used up.
// Committed tells it that a batch is applied, for lag tools alone.
type Source interface {
	Next(ctx context.Context) (Batch, error)
	Committed(spans []Span)
}

// State is what learners and predictors see. Within Store.Commit every record handed out is a working copy that the
// transaction will write; within Store.View it is read-only. An unknown id gives a fresh record with Version 0.
type State interface {
	Shared() (*Embedding, error) // mu (Bias) and w (Vec)
	User(id string) (*UserState, error)
	Item(id string) (*ItemState, error)
	Items() int                            // how many items are known
	ItemAt(seq uint32) (*ItemState, error) // by dense index, for sampling
}

// Store keeps state, offsets, histories and debts. Commit and Join are atomic in each transaction; a large batch may take several.
type Store interface {
	Commit(ctx context.Context, b Batch, learn func(State, Event) error) (Commit, error)
	Join(ctx context.Context, items []Item) error // content vectors join their items
	View(ctx context.Context, read func(State) error) error
	Unread(n int) ([]Item, error) // catalogue items whose content has not been read, oldest first
	Owed(n int) ([]Owed, error)   // requests first, then moved users, oldest first unless the store was opened newest first
	Settle(ctx context.Context, paid []Owed) error
}

// Learner moves embeddings by one event. Pure: no clock, no network, no goroutine; equal events give equal bytes.
type Learner interface {
	Learn(s State, ev Event) error
}

// Predictor hands out e_u and e_i as they stand.
type Predictor interface {
	UserVector(s State, u *UserState) (Embedding, error)
	ItemVector(s State, it *ItemState) (Embedding, error)
}

// demandFloor is how far below the peak, in ln, the least demanded items stand: e^-8 is a like among 3,000.
const demandFloor = -8

// BelowPeak is what an item's demand adds to its score once weighed, 0 for the item with the highest: an index that finds
// candidates and a replay that judges it rank alike by it.
func BelowPeak(demand, peak float32) float32 { return max(demand-peak, demandFloor) }

// DemandWeight is the weight of an item's demand beside its CF score, in the units of a logit. Users take what is in demand more often
// than the score alone tells. Measured by replay's ranking of all items (docs/measured/quality.md).
const DemandWeight = 2

// WithDemand is the score by which items are found among all: the CF score and, weighed, how far the item's demand lies below the
// highest. serve's index and replay's ranking of all items both come here.
func WithDemand[F float32 | float64](score, weight F, demand, peak float32) F {
	return score + weight*F(BelowPeak(demand, peak))
}

// Retriever finds candidates for a query, best first; Moved tells it which items changed. The list is the Ranker's where
// there is one.
type Retriever interface {
	Moved(s State, items []string) error
	Candidates(q Query) ([]Candidate, error)
}

// Encoder reads items with the frozen LLM; Basis projects what it read to c_i [m].
type (
	Encoder interface {
		Encode(ctx context.Context, items []Item) ([]States, error)
	}
	Basis interface {
		Content(States) ([]float32, error)
	}
)

// Generator makes W_A for pairs, with the projection that belongs to it.
type Generator interface {
	Weights(ctx context.Context, pairs []Pair) ([]Weights, *Projection, error)
}

// Scorer runs the frozen LLM over prompts, each with its own weights; nil weights score the base model.
type Scorer interface {
	Score(ctx context.Context, prompts []Prompt, w []Weights, p *Projection) ([]Logits, error)
}

// Sink publishes recommendations, DeadLetters bad records; both return when the broker has them.
type (
	Sink interface {
		Publish(ctx context.Context, recs []Recommendation) error
	}
	DeadLetters interface {
		Bury(ctx context.Context, letters []DeadLetter) error
	}
)

// Tracer follows work from process to process. Learn and Recommend open a span for one batch of work, below or beside the traces that its
// records came with; what is called with the context they return belongs to it, and end closes it. end may set the recommendations'
// Trace.
type Tracer interface {
	Learn(ctx context.Context, b Batch) (in context.Context, end func(Commit, error))
	Recommend(ctx context.Context, owed []Owed) (in context.Context, end func([]Recommendation, error))
}

// Monitor sees each event just before it is learnt, with the embeddings and the user's state of that moment. It must not
// block, and it keeps nothing of user but what it copies.
type Monitor interface {
	Observe(ev Event, before Pair, user *UserState)
}
