package scalesim

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Report is what cmd/scalesim prints: the JSON of the last line.
type Report struct {
	Config Config `json:"config"`
	// Saturated says that some queue grew throughout; times below are then of a cluster that falls behind.
	Saturated  bool    `json:"saturated"`
	LearntPerS float64 `json:"learnt_per_s"`
	// Resources from the busiest down: the load at the events' rate that was asked for, as a share of what there is.
	Resources []scaleLoad `json:"resources"`
	First     string      `json:"first_to_saturate"`
	Then      string      `json:"then"`

	LagEvents   float64 `json:"lag_events"` // mean, come and not learnt
	LagMS       float64 `json:"lag_ms"`     // mean time from coming to learnt
	FreshP50    float64 `json:"freshness_p50_ms"`
	FreshP99    float64 `json:"freshness_p99_ms"`
	CopyAgeMS   float64 `json:"copy_age_ms"` // mean age of what a shard has read of the others
	CopyAgeMost float64 `json:"copy_age_most_ms"`
	// Staleness is about how many events of the whole cluster pass until one of them has reached all copies.
	Staleness float64 `json:"staleness_events"`

	BatchEvents   float64 `json:"batch_events"`
	ChangesPerS   float64 `json:"item_changes_per_s"`
	UsersPerS     float64 `json:"user_records_per_s"`
	ParcelsPerS   float64 `json:"parcel_items_per_s"`
	ChangelogRate float64 `json:"changelogs_bytes_per_s"`
	KafkaIn       float64 `json:"kafka_in_bytes_per_s"` // from producers, before copies
	KafkaOut      float64 `json:"kafka_out_bytes_per_s"`
	LearnerIn     float64 `json:"learner_machine_in_bytes_per_s"`
	LearnerOut    float64 `json:"learner_machine_out_bytes_per_s"`
	ReplicaIn     float64 `json:"replica_in_bytes_per_s"`

	ShardDisk   float64 `json:"shard_disk_bytes"`
	ReplicaDisk float64 `json:"replica_disk_bytes"`
	ReplicaRAM  float64 `json:"replica_index_bytes"`

	HotItemMerges float64 `json:"hot_item_merges_per_s"` // at its owner
	HotUserEvents float64 `json:"hot_user_events_per_s"`
	HotShard      float64 `json:"hot_shard_events"`  // the busiest one's events, relative to the mean
	HotOwner      float64 `json:"hot_owner_parcels"` // the same of parcels' items

	RestoreS float64 `json:"restore_s"`  // of a lost shard: noticed, restored
	CatchUpS float64 `json:"catch_up_s"` // and until it has learnt what came meanwhile; -1: never
}

// scaleLoad is one thing that can be used up.
type scaleLoad struct {
	Name   string  `json:"name"`
	Load   float64 `json:"load"`                 // 1: all of it
	Events float64 `json:"events_per_s_at_most"` // where it would be 1, were all to grow alike
}

// Report sums up what was measured since the warm-up ended.
func (s *Sim) Report() Report {
	m, c := &s.m, s.Config
	sec := max(m.measured, tickS)
	shards, replicas := float64(c.Shards), float64(c.Replicas)
	// Rates are those at the load that was asked for, although a cluster that falls behind does less.
	up := float64(m.arrived) / max(1, float64(m.learnt))
	rate := func(x float64) float64 { return x * up / sec }
	r := Report{
		Config: c, LearntPerS: float64(m.learnt) / sec, LagEvents: m.inSystem * tickS / sec, LagMS: m.sojourn / max(1, float64(m.learnt)),
		FreshP50: quantile(m.fresh, .5), FreshP99: quantile(m.fresh, .99), CopyAgeMS: m.age * tickS / sec / shards, CopyAgeMost: m.oldest,
		BatchEvents: float64(m.learnt) / max(1, float64(m.batches)), ChangesPerS: rate(m.changes), UsersPerS: rate(m.users), ParcelsPerS: rate(float64(m.sent)),
		ChangelogRate: rate(m.logBytes), HotItemMerges: rate(float64(m.hotItem)), HotUserEvents: float64(m.hotUser) / sec,
	}
	came, merged := 0, 0
	for i := range s.shards {
		came, merged = max(came, s.shards[i].came), max(merged, s.shards[i].merged)
	}
	r.HotShard = float64(came) * shards / max(1, float64(m.arrived))
	r.HotOwner = float64(merged) * shards / max(1, float64(m.merged))

	events := c.Events * c.Bytes.Event
	broadcast := r.ChangelogRate // what every learner reads
	all := r.ChangelogRate       // what every replica reads
	if c.ItemTopic {
		broadcast = rate(m.itemBytes)
		all = broadcast + r.ChangelogRate/float64(c.Groups)
	}
	parcels, answers := rate(m.parcelBytes), r.UsersPerS*c.Answered*c.Bytes.Answer
	hosted := float64(min(c.Hosted, c.Shards))
	others := (shards - 1) / shards
	written := r.ChangelogRate + broadcast // to both
	if !c.ItemTopic {
		written = r.ChangelogRate
	}
	r.KafkaIn = events + written + parcels + answers
	r.KafkaOut = events + broadcast*(shards-1) + all*replicas + parcels + answers
	r.LearnerIn = hosted * (events/shards + broadcast*others + parcels/shards)
	r.LearnerOut = hosted * (written + parcels) / shards
	r.ReplicaIn = all

	// One writer per shard: what it learns, what it merges, what it follows.
	crowd := max(1, hosted/float64(c.Cores))
	learn, merge := rate(m.work[0])/shards/1e3, rate(m.work[1])/shards/1e3
	follow := rate(m.firsts) * others * c.followUS() / 1e6
	skip := broadcast * others * c.Service.SkipNS / 1e9
	transactions := c.Events / shards * r.HotShard / float64(c.Service.BatchEvents) // a second, at the least: they are full
	if !c.InMemory {
		transactions = max(transactions, r.ChangesPerS*others/c.NewsLimit) // events and news share theirs
	}
	commit := transactions * c.Service.CommitMS / 1e3
	writer := crowd*(learn*r.HotShard+merge*r.HotOwner+follow+skip) + commit
	brokers := float64(c.Brokers) * c.Network
	seconds := func(f flow) float64 { return s.applyMS(f) / 1e3 }
	answering := r.UsersPerS * c.Answered * s.answerMS() / 1e3
	add := func(name string, load float64) {
		r.Resources = append(r.Resources, scaleLoad{name, load, c.Events / max(load, 1e-12)})
	}
	add("learner: the busiest shard's writer", writer)
	add("  of that, following other shards' items", crowd*(follow+skip))
	add("  of that, learning its events", crowd*learn*r.HotShard)
	add("  of that, merging parcels", crowd*merge*r.HotOwner)
	add("  of that, committing full batches", commit)
	add("learner: the machine's network, in", r.LearnerIn/c.Network)
	add("learner: the machine's network, out", r.LearnerOut/c.Network)
	add("brokers: network, in, with copies", r.KafkaIn*float64(c.Copies)/brokers)
	add("brokers: network, out, with copies", (r.KafkaOut+r.KafkaIn*float64(c.Copies-1))/brokers)
	add("replica: applying the changelogs", seconds(flow{changes: r.ChangesPerS, users: r.UsersPerS / float64(c.Groups), events: r.LearntPerS / float64(c.Groups), all: all}))
	add("replica: the machine's network, in", r.ReplicaIn/c.Network)
	add("replicas: cores that answer", answering/(replicas*float64(max(1, c.Cores-1))))
	order := slices.DeleteFunc(slices.Clone(r.Resources), func(x scaleLoad) bool { return strings.HasPrefix(x.Name, " ") })
	slices.SortStableFunc(order, func(a, b scaleLoad) int { return cmp.Compare(b.Load, a.Load) })
	r.First, r.Then = order[0].Name, order[1].Name
	// A queue that holds more than a second's work in the end, and more than in the beginning, grows.
	r.Saturated = m.overflow || float64(m.lagEnd-m.lagStart) > c.Events || order[0].Load > 1 ||
		m.backlogEnd-m.backlogStart > 1e3*replicas*float64(c.Cores)
	for k := range m.agesEnd {
		r.Saturated = r.Saturated || m.agesEnd[k]-m.agesStart[k] > max(250, 50*sec)
	}
	r.Staleness = c.Events * (c.Broadcast.Seconds() + (r.LagMS+2*c.Service.HopMS+2*r.CopyAgeMS)/1e3)

	users := float64(c.Users) * c.Bytes.User
	items := float64(c.Items) * c.Bytes.Item
	r.ShardDisk = users/shards + items
	r.ReplicaDisk = users/float64(c.Groups) + items + float64(c.Items)*c.Bytes.Cache
	r.ReplicaRAM = float64(c.Items) * c.Bytes.Index
	records := float64(c.Users)/shards + float64(c.Items)
	restore := max(records*c.Service.RestoreUS/1e6, r.ShardDisk/(c.Network/hosted))
	r.RestoreS = c.Service.SessionS + restore
	if r.CatchUpS = -1; writer < 1 {
		r.CatchUpS = r.RestoreS * writer / (1 - writer)
	}
	return r
}

func quantile(v []float32, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return float64(v[int(q*float64(len(v)-1))])
}

// Table is the report for a person.
func (r Report) Table() string {
	var b strings.Builder
	c := r.Config
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-34s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("asked for", "%s events/s of %s users on %s items, %d partitions", short(c.Events), short(float64(c.Users)), short(float64(c.Items)), c.Partitions)
	row("cluster", "%d shards on %d machines, %d replicas, %d brokers", c.Shards, (c.Shards+c.Hosted-1)/c.Hosted, c.Replicas, c.Brokers)
	row("learnt", "%s events/s in batches of %s; %s events wait, %.0f ms each", short(r.LearntPerS), short(r.BatchEvents), short(r.LagEvents), r.LagMS)
	row("click to recommendation", "p50 %s, p99 %s", inMS(r.FreshP50), inMS(r.FreshP99))
	row("copies of others' items", "%s old in the mean, %s at most; about %s events stale", inMS(r.CopyAgeMS), inMS(r.CopyAgeMost), short(r.Staleness))
	row("records", "%s item changes/s, %s user records/s, %s parcel items/s", short(r.ChangesPerS), short(r.UsersPerS), short(r.ParcelsPerS))
	row("bytes/s", "changelogs %s, into Kafka %s, out of it %s", short(r.ChangelogRate), short(r.KafkaIn), short(r.KafkaOut))
	row("bytes/s of one machine", "learner in %s, out %s; replica in %s", short(r.LearnerIn), short(r.LearnerOut), short(r.ReplicaIn))
	row("bytes kept", "shard %s, replica %s and %s of index in memory", short(r.ShardDisk), short(r.ReplicaDisk), short(r.ReplicaRAM))
	row("hot", "item: %s merges/s at its owner; user: %s events/s; busiest shard %.2fx the mean, busiest owner %.2fx", short(r.HotItemMerges), short(r.HotUserEvents), r.HotShard, r.HotOwner)
	caught := "and never catches up"
	if r.CatchUpS >= 0 {
		caught = fmt.Sprintf("caught up %.0f s later", r.CatchUpS)
	}
	row("a lost shard", "learns again after %.0f s, %s", r.RestoreS, caught)
	fmt.Fprintf(&b, "\n%-42s %8s %16s\n", "load", "share", "full at events/s")
	for _, x := range r.Resources {
		fmt.Fprintf(&b, "%-42s %7.1f%% %16s\n", x.Name, 100*x.Load, short(x.Events))
	}
	verdict := "it holds"
	if r.Saturated {
		verdict = "IT FALLS BEHIND"
	}
	fmt.Fprintf(&b, "\n%s. First to be used up: %s; then: %s.\n", verdict, r.First, r.Then)
	return b.String()
}

// short writes 1234567 as 1.23M.
func short(x float64) string {
	for _, u := range []struct {
		at   float64
		name string
	}{{1e15, "P"}, {1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if math.Abs(x) >= u.at {
			return fmt.Sprintf("%.3g%s", x/u.at, u.name)
		}
	}
	return fmt.Sprintf("%.3g", x)
}

func inMS(x float64) string {
	if x >= 10_000 {
		return fmt.Sprintf("%.0f s", x/1e3)
	}
	return fmt.Sprintf("%.0f ms", x)
}
