package simulation

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/ingest"
)

// world is what outlives a process: the log, what was written to topics, the clock and the data folder. Its users' events
// mean what truth says, which was written down when they were made: no decoder takes part in that.
type world struct {
	t      *testing.T
	seed   uint64
	rng    *rand.Rand
	mix    mix
	now    time.Time // as the process's clock has it
	broker time.Time // as the broker's has it: nobody sets that one

	kafka    ingest.Config
	cf       cfstream.Spec
	dir      string                               // the live store
	dirs     int                                  // how many there have been
	log      map[corastream.Partition][]logged    // what producers wrote
	parts    []corastream.Partition               // in a fixed order
	bad      map[corastream.Position]string       // position -> reason
	badAt    map[corastream.Partition][]int64     // their offsets, in order
	checked  map[corastream.Partition]int         // of badAt, how many are known to be buried
	letters  map[corastream.Position]string       // dead letters: position -> reason
	history  map[string][]kept                    // user -> what its history holds, in the order of the log
	cause    map[string]corastream.Position       // user -> the last event that counts
	seen     map[[2]string]bool                   // user, event id
	requests map[string]corastream.Position       // request id -> where it lies
	titles   map[string]bool                      // items with a catalogue record
	recs     map[string]corastream.Recommendation // published, by id
	last     map[string]corastream.Position       // user -> the cause of the last one published
	answered map[string]bool                      // request ids
	marks    map[corastream.Partition]int64       // watermarks, as last seen in a store
	n, left  int                                  // lines made, to make
	past     []pastLine                           // good ones, to be sent again
	repeats  int                                  // events sent again
	trace    hash.Hash
	script   io.Writer // the trace to read, when asked for
	steps    int
	tail     []string // the last steps, for a failure's report
	counts   map[string]int
}

// kept is one event of a user's history; says is 1 for the item, -1 against it, 0 neither.
type kept struct {
	item string
	says int
	at   int64 // unix ms
}

// logged is a record as the broker keeps it.
type logged struct {
	value []byte
	at    time.Time
}

type pastLine struct {
	part  corastream.Partition
	value string
}

// mix says which faults a seed has and how often: each seed draws its own, so that some meet a fault all the time and
// others never.
type mix struct {
	repeat, redeliver, bad, skew           float64 // of records
	publish, bury, slow, fetch             float64 // of broker calls
	kill, disk, gap, llm, clock, late      float64 // of steps
	partitions, users, items, batch, lives int
}

const interactions, items, requests = "sim.interactions", "sim.items", "sim.requests"

func newWorld(t *testing.T, seed uint64, events int, dir string, script io.Writer) *world {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	w := &world{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0x5eed)), dir: dir, left: events, script: script,
		now: now, broker: now, trace: sha256.New(), counts: map[string]int{},
		log: map[corastream.Partition][]logged{}, bad: map[corastream.Position]string{}, letters: map[corastream.Position]string{},
		badAt: map[corastream.Partition][]int64{}, checked: map[corastream.Partition]int{},
		history: map[string][]kept{}, cause: map[string]corastream.Position{}, seen: map[[2]string]bool{},
		requests: map[string]corastream.Position{}, titles: map[string]bool{}, recs: map[string]corastream.Recommendation{},
		last: map[string]corastream.Position{}, answered: map[string]bool{}, marks: map[corastream.Partition]int64{},
	}
	some := func(most float64) float64 { // a third of the seeds are without it
		return max(0, w.rng.Float64()*1.5-.5) * most
	}
	w.mix = mix{
		repeat: some(.2), redeliver: some(.3), bad: some(.1), skew: some(.2),
		publish: some(.3), bury: some(.3), slow: some(.2), fetch: some(.1),
		kill: some(.03), disk: some(.02), gap: some(.02), llm: some(.2), clock: some(.02), late: some(.5),
		partitions: 1 + w.rng.IntN(6), users: 5 + w.rng.IntN(300), items: 10 + w.rng.IntN(100), batch: 1 + w.rng.IntN(120), lives: 4 + w.rng.IntN(40),
	}
	w.kafka = ingest.Default()
	w.kafka.Brokers = []string{"simulated:9092"}
	w.kafka.Topics.Interactions, w.kafka.Topics.Items, w.kafka.Topics.Requests = interactions, items, requests
	if err := w.kafka.Validate(); err != nil {
		t.Fatal(err)
	}
	w.cf = cfstream.Default()
	if w.rng.IntN(4) == 0 {
		w.cf.Kind, w.cf.Factors = "mf", 4
	} else {
		w.cf.Content, w.cf.Factors = contentWidth, 4*w.rng.IntN(2)
	}
	for p := range w.mix.partitions {
		w.parts = append(w.parts, corastream.Partition{Topic: interactions, ID: int32(p)})
	}
	w.parts = append(w.parts, corastream.Partition{Topic: items}, corastream.Partition{Topic: requests})
	w.note("world %+v %s", w.mix, w.cf.String())
	return w
}

// note adds a line to the trace.
func (w *world) note(format string, args ...any) {
	line := fmt.Sprintf("%d %s ", w.steps, w.now.Format("15:04:05.000")) + fmt.Sprintf(format, args...)
	io.WriteString(w.trace, line+"\n")
	if w.script != nil {
		io.WriteString(w.script, line+"\n")
	}
	if w.tail = append(w.tail, line); len(w.tail) > 60 {
		w.tail = slices.Delete(w.tail, 0, 30)
	}
}

func (w *world) digest() string { return hex.EncodeToString(w.trace.Sum(nil)) }

// pass lets time pass on both clocks.
func (w *world) pass(d time.Duration) {
	w.now, w.broker = w.now.Add(d), w.broker.Add(d)
}

func (w *world) chance(p float64) bool { return w.rng.Float64() < p }

// append writes a record as a producer would, and gives its position.
func (w *world) append(p corastream.Partition, value string) corastream.Position {
	pos := corastream.Position{Topic: p.Topic, Partition: p.ID, Offset: int64(len(w.log[p]))}
	w.log[p] = append(w.log[p], logged{[]byte(value), w.broker.Add(-time.Duration(w.rng.IntN(50)) * time.Millisecond)})
	return pos
}

// produce lets a producer write one line: an event, an item, a request, or something nobody can use.
func (w *world) produce() {
	w.n++
	w.left--
	switch x := w.rng.Float64(); {
	case x < .05 && len(w.titles) < w.mix.items || w.n == 1:
		w.produceItem()
	case x < .07:
		id := fmt.Sprint("r", w.n)
		pos := w.append(corastream.Partition{Topic: requests}, fmt.Sprintf(`{"user_id":"u%d","request_id":"%s","n":2}`, w.rng.IntN(w.mix.users), id))
		w.requests[id] = pos
	case w.chance(w.mix.bad):
		w.produceBad()
	case w.chance(w.mix.repeat) && len(w.past) > 0:
		old := w.past[w.rng.IntN(len(w.past))]
		w.append(old.part, old.value)
		w.repeats++
	default:
		w.produceEvents()
	}
}

func (w *world) produceItem() {
	id := fmt.Sprint("i", w.rng.IntN(w.mix.items))
	w.append(corastream.Partition{Topic: items}, fmt.Sprintf(`{"item_id":"%s","title":"Title %s of %d","genre":"g%d"}`, id, id, w.n, w.n%3))
	w.titles[id] = true
}

// when is an event's own time, as clients' clocks have it: within max_ahead of the broker's.
func (w *world) when() int64 {
	at := w.broker.Add(-time.Duration(w.rng.IntN(1000)) * time.Millisecond)
	if w.chance(w.mix.skew) {
		at = at.Add(4*time.Minute - time.Duration(w.rng.Int64N(int64(48*time.Hour))))
	}
	return at.UnixMilli()
}

func (w *world) partOf(user int) corastream.Partition { return w.parts[user%w.mix.partitions] }

func (w *world) produceEvents() {
	n := int(float64(w.mix.users) * w.rng.Float64() * w.rng.Float64())
	user, item, id := fmt.Sprint("u", n), fmt.Sprint("i", w.rng.IntN(w.mix.items)), fmt.Sprint("e", w.n)
	var line string
	type event struct {
		id   string
		kept kept
	}
	at := w.when()
	stars := func() (n, says int) {
		if n = 1 + w.rng.IntN(5); n < 4 {
			return n, -1
		}
		return n, 1
	}
	var means []event
	switch x := w.rng.Float64(); {
	case x < .5:
		rating, says := stars()
		line = fmt.Sprintf(`{"user_id":"%s","item_id":"%s","rating":%d,"timestamp":%d,"id":"%s"}`, user, item, rating, at, id)
		means = []event{{id, kept{item, says, at}}}
	case x < .7:
		line = fmt.Sprintf(`{"userId":"%s","itemId":"%s","type":"click","ts":%d}`, user, item, at)
		means = []event{{"", kept{item, 1, at}}}
	case x < .9:
		line = fmt.Sprintf(`{"user_id":"%s","items":["%s","%sx"],"clicked":["%sx"],"id":"%s","timestamp":%d}`, user, item, item, item, id, at)
		means = []event{{id + "#" + item, kept{item, 0, at}}, {id + "#" + item + "x", kept{item + "x", 1, at}}}
	default:
		line = fmt.Sprintf(`[{"user_id":"%s","item_id":"%s","rating":5,"id":"%s"},{"user_id":"%s","item_id":"%s","rating":1,"id":"%s-2"}]`,
			user, item, id, user, item, id)
		means = []event{{id, kept{item, 1, 0}}, {id + "-2", kept{item, -1, 0}}} // their time is the record's
	}
	part := w.partOf(n)
	pos := w.append(part, line)
	for _, m := range means {
		if key := [2]string{user, m.id}; m.id != "" {
			if w.seen[key] {
				continue
			}
			w.seen[key] = true
		}
		if m.kept.at == 0 {
			m.kept.at = w.log[part][pos.Offset].at.UnixMilli()
		}
		if m.kept.says < 0 { // the likes of the item go
			w.history[user] = slices.DeleteFunc(w.history[user], func(k kept) bool { return k.item == m.kept.item && k.says > 0 && k.at <= m.kept.at })
		}
		w.history[user] = append(w.history[user], m.kept)
		w.cause[user] = pos
	}
	if means[0].id != "" {
		w.past = append(w.past, pastLine{part, line})
	}
}

func (w *world) produceBad() {
	n := w.rng.IntN(w.mix.users)
	user := fmt.Sprint("u", n)
	var line, reason string
	switch w.rng.IntN(7) {
	case 0:
		line, reason = fmt.Sprintf(`{"user_id":"%s","item_id":"i1","rating":5`, user), "json"
	case 1:
		line, reason = `{"item_id":"i1","rating":5}`, "no_user"
	case 2:
		line, reason = fmt.Sprintf(`{"user_id":"%s","rating":5}`, user), "no_item"
	case 3:
		line, reason = fmt.Sprintf(`{"user_id":"%s","item_id":"i1","rating":NaN}`, user), "nan"
	case 4: // a client's clock runs ahead
		line, reason = fmt.Sprintf(`{"user_id":"%s","item_id":"i1","rating":5,"timestamp":%d}`, user, w.broker.Add(24*time.Hour).UnixMilli()), "future"
	case 5:
		line, reason = fmt.Sprintf(`{"user_id":"%s","item_id":"i1","label":7}`, user), "label"
	default:
		line, reason = fmt.Sprintf(`{"user_id":"%s","item_id":"i1","type":"teleport"}`, user), "kind"
	}
	pos := w.append(w.partOf(n), line)
	part := corastream.Partition{Topic: pos.Topic, ID: pos.Partition}
	w.bad[pos], w.badAt[part] = reason, append(w.badAt[part], pos.Offset)
}

// decode gives the batch of some spans, as ingest would: by the real decoder, against the records' own times.
func (w *world) decode(d *ingest.Decoder, spans []corastream.Span) corastream.Batch {
	b := corastream.Batch{Spans: slices.Clone(spans)}
	for _, s := range spans {
		for at := s.From; at < s.To; at++ {
			r := w.log[s.Partition][at]
			d.Decode(&b, ingest.Record{
				Pos: corastream.Position{Topic: s.Topic, Partition: s.ID, Offset: at}, Value: r.value, Time: r.at, Covers: 1,
			}, r.at)
		}
	}
	return b
}

// sorted yields a map's keys in order, so that nothing depends on Go's order of maps.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
