package scalesim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/corastream/corastream"
)

// Config is a cluster that is to be simulated, and what its users do.
type Config struct {
	// Events per second, their users and items by Zipf's law: the n-th has a share of 1/(n+flat)^exponent.
	Events       float64 `json:"events_per_s"`
	Partitions   int     `json:"partitions"`
	Users        int     `json:"users"`
	Items        int     `json:"items"`
	UserExponent float64 `json:"user_exponent"`
	UserFlat     float64 `json:"user_flat"`
	ItemExponent float64 `json:"item_exponent"`
	ItemFlat     float64 `json:"item_flat"`
	// Negatives are drawn for every event: 0 for ratings, 4 for clicks.
	Negatives int `json:"negatives"`
	// Answered is the share of moved users for whom a recommendation is made.
	Answered float64 `json:"answered"`

	Shards   int     `json:"shards"`
	Replicas int     `json:"replicas"`
	Brokers  int     `json:"brokers"`
	Copies   int     `json:"replication"` // of a topic, within Kafka
	Hosted   int     `json:"shards_per_machine"`
	Cores    int     `json:"cores_per_machine"`
	Network  float64 `json:"network_bytes_per_s"` // of a machine, each way

	// ItemTopic: items are broadcast on a topic of their own, and a follower's copies are not written to its changelog.
	ItemTopic bool `json:"item_topic"`
	// InMemory: a follower keeps what others made of their items in a table in memory, at TableUS a change, and not in its store.
	InMemory bool `json:"copies_in_memory"`
	// Broadcast is how long an owner waits before it sends an item's newest vector out; 0: with every transaction.
	Broadcast time.Duration `json:"broadcast_every_ns"`
	// Groups: each replica follows the users of one shard in so many, answers for those and teaches its list model their events; all
	// follow the items.
	Groups int `json:"replica_groups"`

	Seconds float64 `json:"seconds"` // simulated, after Warm
	Warm    float64 `json:"warm_seconds"`
	Seed    uint64  `json:"seed"`

	// NewsLimit is how many changes and parcels of other shards one transaction holds at most, as the shard owner has it.
	NewsLimit float64 `json:"-"`

	Service ServiceTimes `json:"service"`
	Bytes   RecordSizes  `json:"bytes"`
}

// ServiceTimes are what a step costs one core. Defaults: as BenchmarkShard (package store) and `corastream bench` measured them here, rounded, or
// estimates where a line says so.
type ServiceTimes struct {
	LearnUS     float64 `json:"learn_us"`      // an event, in a batch of 1,000
	NegativeUS  float64 `json:"negative_us"`   // a negative
	MergeUS     float64 `json:"merge_us"`      // an item of a parcel
	FollowUS    float64 `json:"follow_us"`     // a change of another shard's item, taken over
	TableUS     float64 `json:"table_us"`      // the same, into a table in memory (an estimate: not built)
	UserUS      float64 `json:"user_us"`       // a user's record, taken over by a replica (an estimate: restoring's)
	SkipNS      float64 `json:"skip_ns"`       // a byte of a changelog that is read and left (an estimate)
	CommitMS    float64 `json:"commit_ms"`     // a transaction: the brokers' answer (an estimate)
	HopMS       float64 `json:"hop_ms"`        // from a producer to a consumer (an estimate)
	RestoreUS   float64 `json:"restore_us"`    // a record of a changelog, on the way to a new owner's disk
	SessionS    float64 `json:"session_s"`     // until the group takes a silent member for dead
	AnswerMS    float64 `json:"answer_ms"`     // the LLM over one user's candidates, and W_A
	ListMS      float64 `json:"list_ms"`       // the list model's candidates and their order for one user, at up to a million items
	TeachUS     float64 `json:"teach_us"`      // an event that a replica's list model learns
	BatchEvents int     `json:"batch_events"`  // kafka.max_batch_events
	BatchWaitMS float64 `json:"batch_wait_ms"` // ingest.Config.MaxBatchWait
	ExchangeMS  float64 `json:"exchange_ms"`   // cluster.exchange_every
}

// RecordSizes are bytes on the wire.
type RecordSizes struct {
	Event  float64 `json:"event"`
	User   float64 `json:"user"`
	Item   float64 `json:"item"`
	Parcel float64 `json:"parcel_item"`
	Answer float64 `json:"answer"`
	Cache  float64 `json:"item_cache"` // an item's keys and values for the LLM
	Index  float64 `json:"item_index"` // an item in a replica's memory
}

// Default is a cluster of four shards and four replicas whose owners take newsLimit changes of others at a time.
func Default(newsLimit float64) Config {
	return Config{
		NewsLimit: newsLimit,
		Events:    4000, Partitions: 64, Users: 1_000_000, Items: 100_000, UserExponent: 1.1, UserFlat: 1000, ItemExponent: 1.1, ItemFlat: 20, Answered: 1,
		Shards: 4, Replicas: 4, Brokers: 3, Copies: 3, Hosted: 4, Cores: 8, Network: 1.25e9, Groups: 1, Seconds: 10, Warm: 5, Seed: 1,
		Service: ServiceTimes{
			LearnUS: 14, NegativeUS: 10, MergeUS: 4, FollowUS: 5, TableUS: 0.5, UserUS: 4, SkipNS: 1.5, CommitMS: 3, HopMS: 5, RestoreUS: 4, SessionS: 10,
			AnswerMS: 4, ListMS: 0.8, TeachUS: 75, BatchEvents: 1000, BatchWaitMS: 50, ExchangeMS: 200,
		},
		Bytes: RecordSizes{Event: 120, User: 770, Item: 350, Parcel: 223, Answer: 900, Cache: 49e3, Index: 400},
	}
}

// followUS is what a learner spends on a change that it takes over.
func (c Config) followUS() float64 {
	if c.InMemory {
		return c.Service.TableUS
	}
	return c.Service.FollowUS
}

// ReadTimes lays a file of service times and sizes over the defaults: {"service": {...}, "bytes": {...}}, as the summary has them.
func (c *Config) ReadTimes(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return corastream.Usagef(path, "give --times FILE as the summary's service and bytes", "%v", err)
	}
	if len(b) > 1<<20 {
		return corastream.Usagef(path, "give a file of service times", "%d bytes are too many", len(b))
	}
	in := struct {
		Service *ServiceTimes `json:"service"`
		Bytes   *RecordSizes  `json:"bytes"`
	}{&c.Service, &c.Bytes}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return corastream.Usagef(path, "write it as the summary's service and bytes", "%v", err)
	}
	return nil
}

// Validate reports all problems at once.
func (c Config) Validate() error {
	var errs []error
	in := func(key string, v, lo, hi float64) {
		if !(v >= lo && v <= hi) {
			errs = append(errs, corastream.Usagef("--"+key, fmt.Sprintf("choose from %g to %g", lo, hi), "%g is out of range", v))
		}
	}
	in("events", c.Events, 1, 1e7)
	in("partitions", float64(c.Partitions), 1, 1e5)
	in("users", float64(c.Users), 1, 4e9)
	in("items", float64(c.Items), 1, 1e8)
	in("user-exponent", c.UserExponent, 1.0001, 5)
	in("user-flat", c.UserFlat, 1, 1e9)
	in("item-exponent", c.ItemExponent, 1.0001, 5)
	in("item-flat", c.ItemFlat, 1, 1e9)
	in("negatives", float64(c.Negatives), 0, 100)
	in("answered", c.Answered, 0, 1)
	in("shards", float64(c.Shards), 1, math.Min(4096, float64(c.Partitions)))
	in("replicas", float64(c.Replicas), 1, 1e5)
	in("brokers", float64(c.Brokers), 1, 1e4)
	in("replication", float64(c.Copies), 1, math.Min(9, float64(c.Brokers)))
	in("shards-per-machine", float64(c.Hosted), 1, 4096)
	in("cores", float64(c.Cores), 1, 1024)
	in("network", c.Network, 1e3, 1e12)
	in("broadcast-every", c.Broadcast.Seconds(), 0, 60)
	if c.Broadcast > 0 && !c.ItemTopic {
		errs = append(errs, corastream.Usagef("--broadcast-every", "add --item-topic", "a changelog holds every transaction; only a topic of its own can leave some of them out"))
	}
	if c.InMemory && !c.ItemTopic {
		errs = append(errs, corastream.Usagef("--copies-in-memory", "add --item-topic", "a table in memory is filled again from a topic of items"))
	}
	in("replica-groups", float64(c.Groups), 1, math.Min(float64(c.Replicas), float64(c.Shards)))
	if c.Groups > 1 && !c.ItemTopic {
		errs = append(errs, corastream.Usagef("--replica-groups", "add --item-topic", "items are in every shard's changelog, so a replica needs all of them"))
	}
	in("seconds", c.Seconds, 1, 3600)
	in("warm", c.Warm, 0, 3600)
	s := c.Service
	for key, v := range map[string]float64{
		"learn_us": s.LearnUS, "negative_us": s.NegativeUS, "merge_us": s.MergeUS, "follow_us": s.FollowUS, "table_us": s.TableUS, "user_us": s.UserUS, "skip_ns": s.SkipNS,
		"restore_us": s.RestoreUS, "session_s": s.SessionS, "answer_ms": s.AnswerMS, "list_ms": s.ListMS, "teach_us": s.TeachUS,
		"event": c.Bytes.Event, "user": c.Bytes.User, "item": c.Bytes.Item, "parcel_item": c.Bytes.Parcel, "answer": c.Bytes.Answer,
		"item_cache": c.Bytes.Cache, "item_index": c.Bytes.Index,
	} {
		in("times "+key, v, 0, 1e6)
	}
	in("times batch_events", float64(s.BatchEvents), 1, 4000)
	in("times batch_wait_ms", s.BatchWaitMS, 0, 10000)
	in("times exchange_ms", s.ExchangeMS, 1, 60000)
	in("times commit_ms", s.CommitMS, 0, 10000)
	in("times hop_ms", s.HopMS, 0, 900)
	return errors.Join(errs...)
}
