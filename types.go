package corastream

import (
	"maps"
	"math"
	"slices"
	"time"
)

// Partition names one partition of one topic.
type Partition struct {
	Topic string
	ID    int32
}

// Position is where a record lies in Kafka.
type Position struct {
	Topic     string
	Partition int32
	Offset    int64
}

// Event is one interaction. The learner sees Label and Weight; Kind is what the producer called it.
type Event struct {
	Pos  Position
	ID   string // the producer's id, for dropping repeats; "" when it gave none
	User string
	Item string
	Kind string // "rating", "click", "impression", ...
	// Label is the learning target in [0,1]: 1 liked or clicked, 0 not.
	Label float32
	// Weight scales the gradient; 1 is the default of every kind.
	Weight float32
	// Implicit events are positive only: the learner draws negatives for them.
	Implicit bool
	// Retract takes back what User did with Item before. Label is then 0: the vectors move as a new negative moves them. The event
	// itself joins no history.
	Retract bool
	// Labels are the user's from now on, where the event OfUser says so; it has no Item then and teaches nothing itself.
	Labels   []string
	Time     time.Time // when it happened
	Appended time.Time // when the broker appended it; freshness counts from here
	Trace    string    // the trace its record came with (W3C traceparent); "": none. It is not stored
}

// KindLabels is the kind of an event that sets its user's labels.
const KindLabels = "labels"

// MaxLabels bounds a user's labels.
const MaxLabels = 32

// OfUser says that the event is about its user alone: it sets the labels.
func (e Event) OfUser() bool { return e.Item == "" && e.Kind == KindLabels }

// Shown says that the item was shown and not clicked: the user saw it and did nothing.
func (e Event) Shown() bool { return e.Kind == KindImpression && !e.Positive() }

// Opposes says that the event is a judgement, and one against the item: an earlier like of it no longer holds. Other kinds with
// label 0 (shown, read, skipped) judge nothing for good.
func (e Event) Opposes() bool {
	if e.Retract || e.Positive() {
		return false
	}
	switch e.Kind {
	case "rating", "label", "dislike", "like":
		return true
	}
	return false
}

// TakesBack says whether the event takes an earlier interaction out of its user's history: Retract takes every one with the
// event's item, an event that opposes takes the likes. What happened after the event, by the events' own times, stays.
func (e Event) TakesBack(h Interaction) bool {
	return h.Item == e.Item && !h.Time.After(e.Time) && (e.Retract || e.Opposes() && h.Label >= 0.5)
}

// FirstTakenBack is the place of the first interaction of a history that the event takes back; -1: none. Learning asks this of every
// dislike, so it is a plain loop, which compares ids only where all else fits.
func (e *Event) FirstTakenBack(history []Interaction) int {
	n := len(e.Item)
	if n == 0 || !e.Retract && !e.Opposes() {
		return -1
	}
	last := e.Item[n-1]
	for i := range history {
		h := &history[i]
		if (h.Label >= 0.5 || e.Retract) && len(h.Item) == n && h.Item[n-1] == last && e.TakesBack(*h) {
			return i
		}
	}
	return -1
}

// Settled is a log in time order as it stands at its end: without the events that only take back and without those that were
// taken back. It is for learning in several passes; a log that takes nothing back is returned as it is.
func Settled(events []Event) []Event {
	type pair struct{ user, item string }
	type later struct{ retracted, opposed bool }
	after := map[pair]later{} // from the end on: what comes after the event
	gone := make([]bool, len(events))
	n := 0
	for i := len(events) - 1; i >= 0; i-- {
		e := &events[i]
		at := pair{e.User, e.Item}
		next := after[at]
		if gone[i] = e.Retract || next.retracted || next.opposed && e.Positive(); gone[i] {
			n++
		}
		if opposes := e.Opposes(); e.Retract || opposes {
			after[at] = later{next.retracted || e.Retract, next.opposed || opposes}
		}
	}
	if n == 0 {
		return events
	}
	out := make([]Event, 0, len(events)-n)
	for i, e := range events {
		if !gone[i] {
			out = append(out, e)
		}
	}
	return out
}

// KindImpression is the kind of an event that says only that an item was shown.
const KindImpression = "impression"

// Positive says whether the event belongs to the user's liked items.
func (e Event) Positive() bool { return e.Label >= 0.5 }

// Item is a catalogue record.
type Item struct {
	ID        string
	Title     string
	Fields    map[string]string // plain fields by name: "year", "genre", ...
	Withdrawn bool              // known, but never recommended
	Removed   bool              // a tombstone came: as withdrawn, and the title is forgotten
	// Content is c_i [m]: what is known of the item before any click, read once from the frozen LLM's hidden states.
	// Every value is a multiple of ContentStep (int16 in the store), so a replay sees the same bytes. nil until read.
	Content []float32
	// Code is what lists know of the item from the frozen LLM [mix.Spec.Codes], multiples of ContentStep; nil: nothing new.
	Code []float32
	// Pos is where the catalogue record came from, so that a redelivery changes nothing; the zero Position (a record that
	// is from no log) always applies. It is not stored.
	Pos Position
	// Keep says what the record is silent about. Such parts stay as they were; the zero Keep is that of a whole record. Not stored.
	Keep Keep
}

// Keep makes a catalogue record a merge patch (RFC 7396) of what is known of the item.
type Keep struct {
	Title, Withdrawn bool     // the record does not speak of it
	Fields           bool     // fields that the record does not name stay
	Clear            []string // names of fields that go, though Fields is set
}

// MaxFields bounds an item's plain fields.
const MaxFields = 64

// Onto is the whole record that it makes of what is known of the item. A removed item comes back with a title, or with the word that it
// is available; any other partial record leaves it removed. Past MaxFields, known fields of the last names give way to the record's.
func (it Item) Onto(known Item) Item {
	keep := it.Keep
	it.Keep = Keep{}
	if it.Removed || keep.zero() {
		return it
	}
	if known.Removed && it.Title == "" && (keep.Withdrawn || it.Withdrawn) {
		return Item{ID: it.ID, Pos: it.Pos, Withdrawn: true, Removed: true}
	}
	if keep.Title {
		it.Title = known.Title
	}
	if keep.Withdrawn {
		it.Withdrawn = known.Withdrawn && !known.Removed
	}
	if !keep.Fields || len(known.Fields) == 0 {
		return it
	}
	named := it.Fields
	it.Fields = maps.Clone(named)
	for _, name := range slices.Sorted(maps.Keys(known.Fields)) {
		if _, ok := named[name]; ok || slices.Contains(keep.Clear, name) || len(it.Fields) >= MaxFields {
			continue
		}
		if it.Fields == nil {
			it.Fields = map[string]string{}
		}
		it.Fields[name] = known.Fields[name]
	}
	return it
}

func (k Keep) zero() bool { return !k.Title && !k.Withdrawn && !k.Fields && len(k.Clear) == 0 }

// ContentStep is the quantum of a content value: c_i is stored as int16 multiples of it, range +-8.
const ContentStep = 1.0 / 4096

// QuantizeContent rounds v in place to multiples of ContentStep, clipped to int16's range. Non-finite values become 0.
func QuantizeContent(v []float32) {
	for i, x := range v {
		r := math.RoundToEven(float64(x) / ContentStep)
		if math.IsNaN(r) || math.IsInf(r, 0) {
			r = 0
		}
		v[i] = float32(max(math.MinInt16, min(math.MaxInt16, r)) * ContentStep)
	}
}

// Embedding is a CF vector with its bias. Learners keep their parameters in it; Predictor hands out the ready-made e_u
// and e_i in the same type (method: e_u = [p_u, w+t_u], e_i = [q_i, c_i]).
type Embedding struct {
	Vec     []float32
	Acc     []float32 // the learner's own: Adagrad sums and the like; nil in what a Predictor hands out
	Bias    float32
	Count   uint32 // events learnt; negatives drawn do not count
	Version uint64 // grows by one with each change
}

// Clone returns a deep copy.
func (e Embedding) Clone() Embedding {
	e.Vec = append([]float32(nil), e.Vec...)
	e.Acc = append([]float32(nil), e.Acc...)
	return e
}

// Interaction is one line of a user's history.
type Interaction struct {
	Item  string
	Label float32
	// Shown: the item was shown and not clicked. Such an item may be listed again (see PipelineConfig.Seen).
	Shown bool
	Time  time.Time
}

// UserState is all that is stored of a user.
type UserState struct {
	ID string
	Embedding
	// History is oldest first and bounded (store.Config.HistoryLimit); it is what "seen" means for candidates.
	History []Interaction
	// Labels say what the user is ("student", "lang=de"), sorted, at most MaxLabels.
	Labels []string
}

// Liked appends to dst the ids of the last n positives, oldest first (the paper's history).
func (u *UserState) Liked(n int) []string {
	var ids []string
	for i := len(u.History) - 1; i >= 0 && len(ids) < n; i-- {
		if u.History[i].Label >= 0.5 {
			ids = append(ids, u.History[i].Item)
		}
	}
	for i, j := 0, len(ids)-1; i < j; i, j = i+1, j-1 {
		ids[i], ids[j] = ids[j], ids[i]
	}
	return ids
}

// ItemState is all that is stored of an item: the catalogue record and what the learner made of it. An item clicked
// before its catalogue record came has an empty Title.
type ItemState struct {
	Item
	Embedding
	Seq uint32 // dense index, in order of first appearance
}

// Pair is what CF knows of one user and one item at one moment: the generator's input and the CF score.
type Pair struct {
	UserID, ItemID string
	Mu             float32
	User           Embedding // Vec [K+m] = [p_u, w+t_u], Bias b_u
	Item           Embedding // Vec [K+m] = [q_i, c_i], Bias b_i
}

// Logit is the CF score z = mu + b_u + b_i + e_u.e_i.
func (p Pair) Logit() float32 {
	z := p.Mu + p.User.Bias + p.Item.Bias
	var dot float32
	for i := range min(len(p.User.Vec), len(p.Item.Vec)) {
		dot += p.User.Vec[i] * p.Item.Vec[i]
	}
	return z + dot
}

// ItemScale is the scalar by which the item's side enters W_A beside what the LLM reads of it: b_i + p_u.q_i, what behaviour alone
// says of this item for this user. factors is K, the width of p_u and q_i; the content's part is left to the LLM.
func (p Pair) ItemScale(factors int) float32 {
	scale := p.Item.Bias
	for i := range min(factors, len(p.User.Vec), len(p.Item.Vec)) {
		scale += float32(p.User.Vec[i] * p.Item.Vec[i])
	}
	return scale
}

// Weights is W_A [hidden, rank], row-major, for one (user, item): W_A = User + ItemScale*Item. Pairs of one user share
// the same User slice, so a scorer can tell by its address that one matrix serves all of that user's candidates.
type Weights struct {
	Hidden, Rank int
	User         []float32 // A_u [hidden*rank]
	Item         []float32 // A_b [hidden*rank], the item's column; nil when the generator has none
	ItemScale    float32   // b_i + p_u.q_i
	UserVersion  uint64
	ItemVersion  uint64
	// Generator is the digest of the checkpoint that made it: caches are keyed by content, never by name.
	Generator string
}

// Dense writes W_A into dst [hidden*rank].
func (w Weights) Dense(dst []float32) {
	copy(dst, w.User)
	if w.Item != nil {
		for i, x := range w.Item {
			dst[i] += w.ItemScale * x
		}
	}
}

// Target is a linear layer of the LLM that takes the low-rank delta. Down is absent: its input is not `hidden` wide.
type Target string

// The targets. A delta is y = Wx + (alpha/r) P^T (W_A^T x), method 3.3.
const (
	TargetQ    Target = "q"
	TargetK    Target = "k"
	TargetV    Target = "v"
	TargetO    Target = "o"
	TargetGate Target = "gate"
	TargetUp   Target = "up"
)

// Adapt says on which tokens the delta acts.
type Adapt string

// The three forms: all tokens (the paper), from the candidate's title on, or the answer token alone.
const (
	AdaptAll    Adapt = "all"
	AdaptSuffix Adapt = "suffix"
	AdaptLast   Adapt = "last"
)

// Slot is one adapted linear layer.
type Slot struct {
	Layer  int
	Target Target
}

// Projection is the trained P of every adapted layer and target, resident for all users.
type Projection struct {
	Rank  int
	Alpha float32
	Adapt Adapt
	// P maps a slot to [rank, out], row-major.
	P map[Slot][]float32
}

// Scale is alpha/r.
func (p *Projection) Scale() float32 { return p.Alpha / float32(p.Rank) }

// LowestLayer is the lowest adapted layer: below it every state is the frozen model's.
func (p *Projection) LowestLayer() int {
	low := math.MaxInt
	for s := range p.P {
		low = min(low, s.Layer)
	}
	return low
}

// Prompt is what the LLM reads for one candidate. The template belongs to the scorer's configuration.
type Prompt struct {
	ItemID  string
	Title   string
	Fields  map[string]string
	History []string // liked titles, oldest first; empty in the `item` form
}

// Logits are the two rows of the LM head that matter.
type Logits struct{ Yes, No float32 }

// P is P(Yes)/(P(Yes)+P(No)).
func (l Logits) P() float32 { return float32(1 / (1 + math.Exp(float64(l.No)-float64(l.Yes)))) }

// States is what the frozen LLM makes of one item prompt, read once per catalogue item.
type States struct {
	// Title is the content read-out: the mean of the title tokens' states and the last token's, at the read-out layer.
	Title []float32 // [2*hidden]
	// Answer is what W_A reads at the answer token of the top layers, lowest first: the inputs of o, or of gate and up where o's
	// are not hidden wide. Decoders start from it.
	Answer [][]float32 // [N][hidden]
}

// Request asks for a recommendation.
type Request struct {
	ID   string
	User string
	N    int // items wanted; 0: the configured number
	Pos  Position
	// Exclude lists items never to return; Candidates, when not empty, replaces retrieval.
	Exclude    []string
	Candidates []string
	// Allow and Deny narrow the answer by the items' plain fields, as Filter's do; they come over HTTP alone.
	Allow, Deny map[string][]string
	// History are interactions of the asker's that no log has, oldest first, at most MaxPast of them. They follow the stored
	// history of User. User may be empty beside them: a visitor without an account. None of them is stored.
	History []Interaction
	// Seen says which items of the history may be listed: one of the Seen constants; "": as PipelineConfig.Seen says.
	Seen string
	// List names one of RecommendConfig.Lists; "": the user's own list.
	List string
	// Ahead is how many ids are wanted of those that follow the answer's, for the next pages.
	Ahead int
	// Keep leaves Candidates in their order: a page of a list that began earlier.
	Keep     bool
	Appended time.Time
	Trace    string // as Event's
}

// MaxPast bounds Request.History.
const MaxPast = 200

// Scored is one recommended item. A list is ranked by ListScore where there is a Ranker, and by Score elsewhere: Score is the
// probability of a like once the item is taken, ListScore says what is taken next.
type Scored struct {
	Item  string `json:"item_id"`
	Title string `json:"title,omitempty"`
	// Score is the probability of a like: P(Yes), or the CF probability where the LLM did not
	// score.
	Score float32 `json:"score"`
	CF    float32 `json:"cf"`   // the CF probability
	Rank  int     `json:"rank"` // from 1
	// ListScore is what the list is ranked by, the Ranker's: how likely the item is to be taken
	// next. It compares within one list alone. It is absent where no Ranker listed the item.
	ListScore float32 `json:"list_score,omitzero"`
	// Propensity is the probability that the policy puts this item in this place, given those above
	// it. It is 1 where the list is best first, without a policy.
	Propensity float32 `json:"propensity"`
	Why        Why     `json:"why,omitzero"` // why it is listed; absent where nothing is known but a score
}

// Versions says from what a recommendation was made.
type Versions struct {
	User      uint64 `json:"user"`                // how often the user's embedding has changed
	Generator string `json:"generator,omitempty"` // digest of the checkpoint
	LLM       string `json:"llm,omitempty"`       // digest of the LLM
	List      string `json:"list,omitempty"`      // of what the Ranker trains, as NUMBER-DIGEST; absent where it trains nothing
}

// Recommendation is what goes out. ID is deterministic (user, cause, versions), so a consumer can drop repeats.
type Recommendation struct {
	ID         string
	User       string
	Items      []Scored
	Candidates int // how many there were to choose from
	Cause      Position
	RequestID  string
	Versions   Versions
	// Oldest is the append time of the oldest interaction newly covered; zero when none is.
	Oldest   time.Time
	Made     time.Time
	Degraded string   // "" or "cf"
	Cold     bool     // the user has no history
	Arm      string   // which checkpoint's share the user fell in: "active", "canary", or "" where nothing is tried
	Policy   string   // "", or the stochastic policy that drew the list: its propensities are true ones
	Rest     []string // where Policy is set: the candidates that were not drawn, for whoever asks what another policy would have earned
	Ahead    []string // what follows Items in the list, where the request asks for it
	Fallback string   // "", or "popular": nothing was known to rank by but what most people like
	Behind   *Behind  // how old the state was that it was made from; nil where the state is the process's own
	Trace    string   // the span that made it, as a W3C traceparent; "": none
}

// Behind says how far a replica's state lies behind the shards'.
type Behind struct {
	Records int64 `json:"records"` // of the shards' changelogs, not read yet
	MS      int64 `json:"ms"`      // since it had read all there was
}

// Freshness is the time from the oldest newly covered interaction to when the answer was made; 0 when none is.
func (r Recommendation) Freshness() time.Duration {
	if r.Oldest.IsZero() {
		return 0
	}
	return r.Made.Sub(r.Oldest)
}

// DeadLetter is a record that could not be used: its bytes, why, and where it came from.
type DeadLetter struct {
	Pos    Position
	Key    []byte
	Value  []byte
	Reason string // a short stable word: "json", "no_user", "nan", "future", "too_large", ...
	Detail string
}

// Owed is a user whose embedding moved and who has not had a recommendation since.
type Owed struct {
	User    string
	Cause   Position  // the newest interaction
	Oldest  time.Time // append time of the oldest one not yet covered
	Seq     uint64    // the journal line of the newest one: a settlement never erases a newer debt
	Request *Request  // set for an explicit request
}

// Span is a run of offsets [From, To) of one partition that a batch covers.
type Span struct {
	Partition
	From, To int64
}

// Batch is what a source read: decoded, in order, not yet applied. Changes and Parcels, which only a cluster has, are applied
// first, then Items, then Events.
type Batch struct {
	Changes  []Change // of other shards
	Parcels  []Parcel // for this one
	Items    []Item
	Events   []Event
	Requests []Request
	Bad      []DeadLetter
	// Spans say which offsets it covers, in the order they were read; they become the journal's line. Every offset of
	// the records above lies in one of them.
	Spans []Span
}

// Reached says that a shard has learnt a partition up to the span's end.
type Reached struct {
	Shard int32
	Span
}

// Commit says what one transaction did.
type Commit struct {
	Seq        uint64 // the journal line
	Learnt     int    // events learnt
	Duplicates int    // events dropped: at or below the watermark, or an id seen before
	Items      []string
	Users      []string
	Reached    []Reached // how far shards have learnt their parts of the log, as a replica reads it in their changelogs
}

// Gradients is the result of a backward pass over a batch of B rows.
type Gradients struct {
	Loss   float32   // mean binary cross-entropy
	Scores []float32 // [B] the logit that was scored
	// DW is dLoss/dW_A for each row [B][hidden*rank]; the loss is the mean over rows.
	DW [][]float32
	// DP is dLoss/dP summed over rows, keyed as Projection.P.
	DP map[Slot][]float32
}
