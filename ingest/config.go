package ingest

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/ingest/decode"
)

// Config of everything that speaks Kafka. Default() gives the defaults named here.
type Config struct {
	// Brokers are bootstrap addresses, host:port. No default: with none, the embedded broker's address is put here.
	Brokers []string `yaml:"brokers"`
	Topics  Topics   `yaml:"topics"`
	// Group is the consumer group that assigns partitions and to which offsets are reported for lag tools. Default
	// "corastream"; empty: no group, this process reads all partitions.
	Group string `yaml:"group"`
	// ClientID is what broker logs and quotas see. Default "corastream".
	ClientID string `yaml:"client_id"`
	TLS      TLS    `yaml:"tls"`
	SASL     SASL   `yaml:"sasl"`
	Create   Create `yaml:"create"`
	// Shards divide the state between the processes of a cluster: the number of partitions of the embeddings and gradients topics, fixed
	// when these are made. Default 0: no cluster, one process learns everything. Range 0..1024.
	Shards int `yaml:"shards"`

	// Start says where a partition that the store has no offset of begins: "earliest" or "latest". Default "earliest".
	Start string `yaml:"start"`
	// MaxBatchEvents closes a micro-batch. Default 1000, range 1..4000 (one transaction holds about 12,000 dirty keys).
	MaxBatchEvents int `yaml:"max_batch_events"`
	// MaxBatchWait bounds how long events are gathered after a micro-batch is learnt. They are gathered for as long as it took to
	// learn, and a lone event waits for nothing. Default 50ms, range 0..10s.
	MaxBatchWait time.Duration `yaml:"-"`
	// MaxRecordBytes is the largest record decoded; a larger one is a dead letter. Default 1 MiB, range 1 KiB..64 MiB.
	MaxRecordBytes int `yaml:"max_record_bytes"`
	// FetchBytes is asked of each partition at a time. Default 1 MiB, range 4 KiB..64 MiB.
	FetchBytes int `yaml:"-"`
	// MaxFetchBytes bounds a broker's answer and what one record batch decompresses to. Default 64 MiB, range FetchBytes..1 GiB.
	MaxFetchBytes int `yaml:"-"`
	// MaxArray bounds events in a JSON array, items in an impression or request, and each list in the body of an HTTP request. Default 500, range 1..4000.
	MaxArray int `yaml:"max_array"`
	// MaxIDBytes bounds user, item, event and request ids. Default 256, range 8..4096.
	MaxIDBytes int `yaml:"max_id_bytes"`
	// MaxTextBytes bounds a title or a field of an item. Default 4096, range 16..65536.
	MaxTextBytes int `yaml:"max_text_bytes"`

	// Fields map our fields to where foreign records keep them.
	Fields Fields `yaml:"fields"`
	// Kinds say what an event that carries neither label nor rating means, by its type. Default: DefaultKinds, which those of a config
	// file join; null takes one out.
	Kinds Kinds `yaml:"kinds"`
	// DefaultKind is the kind of an event without a type. Default "click"; empty: such an event is a dead letter.
	DefaultKind string `yaml:"default_kind"`
	// RatingThreshold: a rating at or above it is liked. Default 4.
	RatingThreshold float64 `yaml:"rating_threshold"`
	// MaxAhead: an event that happened this long after the broker got it is a dead letter. Default 5m, range 0..8760h.
	MaxAhead time.Duration `yaml:"max_ahead"`
	// MaxAge: an event that happened this long before the broker got it is a dead letter. Default 0: any age is taken.
	MaxAge time.Duration `yaml:"max_age"`
	// TimeOrigin is the moment that 0 stands for in logs whose times are relative, written as an event's time is. A timestamp that is
	// a number then counts from there. Default "": numbers are unix times.
	TimeOrigin string `yaml:"time_origin"`
	// TimeUnit is what numbers count in from TimeOrigin on: "s", "ms", "us" or "ns". Without TimeOrigin their size tells. Default "ms".
	TimeUnit string `yaml:"time_unit"`

	// ExitWhenIdle ends the source once every partition is read to its end and nothing came for this long. `up --exit-when-idle` sets it. Default 0: never.
	ExitWhenIdle time.Duration `yaml:"-"`
	// GapPatience: how long an offset beyond the log's end is taken for a broker that is still recovering its log
	// before it counts as a gap. Default 10s, range 0..10m.
	GapPatience time.Duration `yaml:"-"`
	// CommitEvery is the rhythm in which offsets are reported to the group. Default 1s, range 50ms..10m.
	CommitEvery time.Duration `yaml:"-"`
}

// Topics are the topics' names.
type Topics struct {
	Interactions    string `yaml:"interactions"`    // events in, keyed by user
	Items           string `yaml:"items"`           // the catalogue, keyed by item; compacted
	Requests        string `yaml:"requests"`        // requests for a recommendation
	Recommendations string `yaml:"recommendations"` // answers, keyed by user
	DeadLetters     string `yaml:"dead_letters"`    // records that could not be used: their bytes, with reason and position in the headers
	Embeddings      string `yaml:"embeddings"`      // a cluster's changelogs, one partition per shard; compacted
	Gradients       string `yaml:"gradients"`       // a cluster's parcels, one partition per shard that they go to
}

// Kind is what an event of one type means to the learner.
type Kind struct {
	// Label in [0,1].
	Label float32 `yaml:"label"`
	// Weight of the gradient, above 0.
	Weight float32 `yaml:"weight"`
	// Implicit: positive only, so the learner draws negatives.
	Implicit bool `yaml:"implicit"`
	// Retract: takes back what the user did with the item before; label is 0.
	Retract bool `yaml:"retract"`
}

// Create says how EnsureTopics makes a topic that is missing.
type Create struct {
	// Partitions of interactions, requests and recommendations; items and dead letters have one, a cluster's own topics one per
	// shard, and interactions no fewer than shards. Default 4, range 1..1024.
	Partitions int `yaml:"partitions"`
	// Replication factor; -1: the cluster's default. Default -1.
	Replication int `yaml:"replication"`
	// Retention of interactions, recommendations and gradients, and of what the embeddings topic says of deleted keys. A process
	// that is down for longer meets a gap. Default 168h.
	Retention time.Duration `yaml:"retention"`
}

// DefaultKinds covers common names: implicit positives, explicit likes and dislikes, and what was merely shown.
func DefaultKinds() map[string]Kind {
	out := map[string]Kind{}
	for name, k := range decode.DefaultKinds() {
		out[name] = Kind(k)
	}
	return out
}

// Default returns the defaults.
func Default() Config {
	return Config{
		Topics: Topics{
			Interactions: "corastream.interactions", Items: "corastream.items", Requests: "corastream.requests",
			Recommendations: "corastream.recommendations", DeadLetters: "corastream.dead-letters",
			Embeddings: "corastream.embeddings", Gradients: "corastream.gradients",
		},
		Group: "corastream", ClientID: "corastream", Start: startEarliest,
		Create:         Create{Partitions: 4, Replication: -1, Retention: 7 * 24 * time.Hour},
		MaxBatchEvents: 1000, MaxBatchWait: 50 * time.Millisecond,
		MaxRecordBytes: 1 << 20, FetchBytes: 1 << 20, MaxFetchBytes: 64 << 20,
		MaxArray: 500, MaxIDBytes: 256, MaxTextBytes: 4096,
		Kinds: DefaultKinds(), DefaultKind: "click", RatingThreshold: 4,
		MaxAhead: 5 * time.Minute, TimeUnit: "ms", GapPatience: 10 * time.Second, CommitEvery: time.Second,
	}
}

const (
	startEarliest = "earliest"
	startLatest   = "latest"
)

// Validate reports all problems at once.
func (c Config) Validate() error {
	var errs []error
	bad := func(key, fix, format string, args ...any) {
		errs = append(errs, corastream.Usagef(key, fix, format, args...))
	}
	whole := func(key string, v, lo, hi int) {
		if v < lo || v > hi {
			bad(key, fmt.Sprintf("choose from %d to %d", lo, hi), "%d is out of range", v)
		}
	}
	span := func(key string, v, lo, hi time.Duration) {
		if v < lo || v > hi {
			bad(key, fmt.Sprintf("choose from %s to %s", lo, hi), "%s is out of range", v)
		}
	}
	if len(c.Brokers) == 0 {
		bad("brokers", "name at least one host:port, or use the embedded broker", "no broker is named")
	}
	for i, b := range c.Brokers {
		if !strings.Contains(b, ":") || strings.ContainsAny(b, " ,/") {
			bad(fmt.Sprintf("brokers[%d]", i), "write host:port, one address per list entry", "%q is not an address", b)
		}
	}
	c.Topics.validate(bad)
	if c.Start != startEarliest && c.Start != startLatest {
		bad("start", "choose earliest or latest", "%q is unknown", c.Start)
	}
	whole("max_batch_events", c.MaxBatchEvents, 1, 4000)
	span("max_batch_wait", c.MaxBatchWait, 0, 10*time.Second)
	whole("max_record_bytes", c.MaxRecordBytes, 1<<10, 64<<20)
	whole("fetch_bytes", c.FetchBytes, 4<<10, 64<<20)
	whole("max_fetch_bytes", c.MaxFetchBytes, max(c.FetchBytes, 4<<10), 1<<30)
	whole("max_array", c.MaxArray, 1, 4000)
	whole("max_id_bytes", c.MaxIDBytes, 8, 4096)
	whole("max_text_bytes", c.MaxTextBytes, 16, 64<<10)
	whole("create.partitions", c.Create.Partitions, 1, 1024)
	if c.Create.Replication != -1 {
		whole("create.replication", c.Create.Replication, 1, math.MaxInt16)
	}
	span("create.retention", c.Create.Retention, time.Minute, 100*365*24*time.Hour)
	whole("shards", c.Shards, 0, 1024)
	if c.Shards > 0 && c.MaxFetchBytes < 2*ownBatchBytes {
		bad("max_fetch_bytes", fmt.Sprintf("choose from %d on", 2*ownBatchBytes), "%d is less than a cluster's largest record batches need", c.MaxFetchBytes)
	}
	c.Fields.validate(bad)
	c.validateKinds(bad)
	span("max_ahead", c.MaxAhead, 0, 8760*time.Hour)
	if _, ok := decode.Time(c.TimeOrigin); c.TimeOrigin != "" && !ok {
		bad("time_origin", "write RFC 3339, or unix s, ms, us or ns", "%q is no time", c.TimeOrigin)
	}
	if timeUnits[c.TimeUnit] == 0 {
		bad("time_unit", "choose s, ms, us or ns", "%q is unknown", c.TimeUnit)
	}
	span("max_age", c.MaxAge, 0, 100*8760*time.Hour)
	span("exit_when_idle", c.ExitWhenIdle, 0, 24*time.Hour)
	span("gap_patience", c.GapPatience, 0, 10*time.Minute)
	span("commit_every", c.CommitEvery, 50*time.Millisecond, 10*time.Minute)
	c.validateSecurity(bad)
	return errors.Join(errs...)
}

func (c Config) validateKinds(bad func(key, fix, format string, args ...any)) {
	for _, name := range slices.Sorted(maps.Keys(c.Kinds)) {
		k, key := c.Kinds[name], "kinds."+name
		if !(k.Label >= 0 && k.Label <= 1) {
			bad(key+".label", "choose from 0 to 1", "%v is out of range", k.Label)
		}
		if !(k.Weight > 0 && k.Weight <= 1000) {
			bad(key+".weight", "choose above 0, to 1000", "%v is out of range", k.Weight)
		}
		if k.Retract && (k.Label != 0 || k.Implicit) {
			bad(key+".retract", "leave out label and implicit", "what takes back has label 0 and is not implicit")
		} else if k.Implicit && k.Label < 0.5 {
			bad(key+".implicit", "set label: 1, or implicit: false", "an implicit kind is positive only, but its label is %v", k.Label)
		}
	}
	if k, ok := c.Kinds[c.DefaultKind]; !ok && c.DefaultKind != "" {
		bad("default_kind", "name one of kinds, or leave it empty", "%q is not in kinds", c.DefaultKind)
	} else if k.Retract {
		bad("default_kind", "name a kind that says what happened", "%q takes back", c.DefaultKind)
	}
	if math.IsNaN(c.RatingThreshold) || math.IsInf(c.RatingThreshold, 0) {
		bad("rating_threshold", "give a number, such as 4", "%v is not a number", c.RatingThreshold)
	}
}

// validate checks the names: a topic that is read and written at once would feed itself.
func (t Topics) validate(bad func(key, fix, format string, args ...any)) {
	seen := map[string]string{}
	for _, n := range []struct{ key, name string }{
		{"topics.interactions", t.Interactions},
		{"topics.items", t.Items},
		{"topics.requests", t.Requests},
		{"topics.recommendations", t.Recommendations},
		{"topics.dead_letters", t.DeadLetters},
		{"topics.embeddings", t.Embeddings},
		{"topics.gradients", t.Gradients},
	} {
		if !legalTopic(n.name) {
			bad(n.key, "use 1 to 249 of letters, digits, '.', '_' and '-'", "%q is not a topic name", n.name)
		} else if other, ok := seen[n.name]; ok {
			bad(n.key, "give each topic its own name", "%q is also %s", n.name, other)
		}
		seen[n.name] = n.key
	}
}

// own says that only corastream's own processes read and write the topic.
func (t Topics) own(topic string) bool { return topic == t.Embeddings || topic == t.Gradients }

func legalTopic(s string) bool {
	if s == "" || len(s) > 249 || s == "." || s == ".." {
		return false
	}
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-') {
			return false
		}
	}
	return true
}
