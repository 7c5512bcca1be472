package decode

import "time"

// Config is what decoding needs of kafka's configuration. The keys are documented where they are read, in ingest.Config.
type Config struct {
	Topics                                                            Topics
	MaxRecordBytes, MaxFetchBytes, MaxArray, MaxIDBytes, MaxTextBytes int
	Fields                                                            Fields
	Kinds                                                             map[string]Kind
	DefaultKind                                                       string
	RatingThreshold                                                   float64
	MaxAhead, MaxAge                                                  time.Duration
	TimeOrigin                                                        time.Time     // zero: numbers are unix times
	TimeUnit                                                          time.Duration // of numbers that count from TimeOrigin
}

// Topics are the names by which a record's role is told.
type Topics struct{ Interactions, Items, Requests string }

// Fields map our fields to where foreign records keep them.
type Fields struct{ Events, Items map[string]string }

// Kind is what an event of one type means to the learner.
type Kind struct {
	Label, Weight float32
	Implicit      bool
	Retract       bool
}

// The kinds with a meaning of their own: a rating's label comes from its value, an impression lists what was shown.
const (
	kindRating     = "rating"
	kindClick      = "click"
	kindImpression = "impression"
	kindRetract    = "retract" // a deletion, where nothing says more
)

// DefaultKinds covers common names: implicit positives, explicit likes and dislikes, and what was merely shown.
func DefaultKinds() map[string]Kind {
	like, shown := Kind{Label: 1, Weight: 1}, Kind{Label: 0, Weight: 1}
	implicit := Kind{Label: 1, Weight: 1, Implicit: true}
	back := Kind{Weight: 1, Retract: true}
	return map[string]Kind{
		"unlike": back, "unstar": back, "undislike": back, "return": back, "refund": back, "remove_from_cart": back, kindRetract: back,
		kindClick: implicit, "purchase": implicit, "star": implicit, "played": implicit, "watched": implicit, "listened": implicit,
		kindRating: like, "like": like, "dislike": shown, kindImpression: shown, "read": shown,
	}
}

// Default returns the defaults of ingest.Config.
func Default() Config {
	return Config{
		Topics:         Topics{"corastream.interactions", "corastream.items", "corastream.requests"},
		MaxRecordBytes: 1 << 20, MaxFetchBytes: 64 << 20, MaxArray: 500, MaxIDBytes: 256, MaxTextBytes: 4096,
		Kinds: DefaultKinds(), DefaultKind: kindClick, RatingThreshold: 4, MaxAhead: 5 * time.Minute,
	}
}
