package scalesim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

// smallScale is a cluster that is simulated in a tenth of a second.
func smallScale() Config {
	c := Default(2000)
	c.Events, c.Shards, c.Partitions, c.Users, c.Items, c.Seconds, c.Warm = 3000, 6, 60, 50_000, 5_000, 6, 1
	c.Replicas, c.Brokers = 8, 6
	return c
}

func simulated(t *testing.T, c Config) (*Sim, Report) {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	s := New(c)
	if err := s.Run(context.Background(), func(int, int) {}); err != nil {
		t.Fatal(err)
	}
	return s, s.Report()
}

func TestSimulatedEventsAndParcelsAreNeitherLostNorMade(t *testing.T) {
	for _, load := range []float64{500, 3000, 60_000} { // the last is more than the cluster can take
		c := smallScale()
		c.Events, c.Warm, c.Seconds, c.Negatives = load, 0, 3, 2
		s, r := simulated(t, c)
		if got := s.m.learnt + s.queued(); got != s.m.arrived || s.m.arrived == 0 {
			t.Errorf("%v events/s: %d came, %d were learnt and %d wait", load, s.m.arrived, s.m.learnt, s.queued())
		}
		under := 0
		for i := range s.shards {
			under += len(s.shards[i].inbox) + s.shards[i].taken
		}
		for _, p := range s.parcels {
			under += len(p)
		}
		if s.m.sent != s.m.merged+under || s.m.sent == 0 {
			t.Errorf("%v events/s: %d items of parcels sent, %d merged, %d under way", load, s.m.sent, s.m.merged, under)
		}
		if visible := s.log[len(s.log)-1].changes; visible > s.m.changes || s.m.changes > float64(s.m.learnt*(1+c.Negatives)+s.m.merged) {
			t.Errorf("%v events/s: %v changes published, %v seen, of %d events", load, s.m.changes, visible, s.m.learnt)
		}
		if r.Saturated != (load > 50_000) {
			t.Errorf("%v events/s: saturated is %v", load, r.Saturated)
		}
	}
}

// Little (1961): the mean number in a system is the rate through it times the mean time in it.
func TestSimulatedQueuesObeyLittlesLaw(t *testing.T) {
	for _, load := range []float64{300, 5000, 20_000} {
		c := smallScale()
		c.Events, c.Replicas = load, 100
		_, r := simulated(t, c)
		if want := r.LearntPerS * r.LagMS / 1e3; math.Abs(r.LagEvents-want) > 0.03*want || want == 0 {
			t.Errorf("%v events/s: %.1f in the system, rate times time is %.1f", load, r.LagEvents, want)
		}
	}
}

// One shard, nothing else to do: an event waits for its batch (50 ms from the first one's coming), for the work and the commit.
func TestASimulatedShardAloneTakesAsLongAsByHand(t *testing.T) {
	c := smallScale()
	c.Shards, c.Hosted, c.Events, c.Items = 1, 1, 1000, 1
	s, r := simulated(t, c)
	// 50 ms of events and those that came while the last batch was busy, 4 ms: 54 events at 14 us each are .8 ms, and 3 ms of commit.
	if r.BatchEvents < 51 || r.BatchEvents > 57 {
		t.Errorf("batches of %.1f events, by hand 54", r.BatchEvents)
	}
	// 50 of 54 come evenly over the wait, 4 wait for all of it: 27 ms, and 4 ms of work.
	if r.LagMS < 28 || r.LagMS > 36 {
		t.Errorf("an event is learnt after %.1f ms, by hand 31", r.LagMS)
	}
	// All events are of one item: a change a batch; no parcels, nothing to follow.
	if per := r.ChangesPerS * s.m.measured / float64(s.m.batches); math.Abs(per-1) > 0.02 || r.ParcelsPerS != 0 || s.m.adopted != 0 || r.CopyAgeMS != 0 {
		t.Errorf("%.2f changes a batch, %v parcels/s, %v followed, copies %v ms old", per, r.ParcelsPerS, s.m.adopted, r.CopyAgeMS)
	}
	if load := r.Resources[0].Load; math.Abs(load-1000*14e-6-3e-3) > 0.002 { // a batch of 1,000 a second
		t.Errorf("the writer's load is %v, by hand .017", load)
	}
}

func TestMoreLoadIsNeverFaster(t *testing.T) {
	var last Report
	for _, load := range []float64{200, 1000, 4000, 16_000} {
		c := smallScale()
		c.Events, c.Replicas = load, 100
		_, r := simulated(t, c)
		for i, x := range last.Resources {
			if r.Resources[i].Load < x.Load {
				t.Errorf("%v events/s: %s is at %v, at less load at %v", load, x.Name, r.Resources[i].Load, x.Load)
			}
		}
		if r.ChangelogRate <= last.ChangelogRate || r.KafkaOut <= last.KafkaOut || r.Staleness <= last.Staleness {
			t.Errorf("%v events/s: less is written or read than at less load", load)
		}
		last = r
	}
	c := smallScale()
	_, few := simulated(t, c)
	c.Shards = 30
	_, many := simulated(t, c)
	if few.Resources[2].Load <= many.Resources[2].Load || few.KafkaOut >= many.KafkaOut {
		t.Error("more shards: each has less to learn, and all have more to read")
	}
	c.ItemTopic, c.InMemory, c.Broadcast = true, true, time.Second
	_, apart := simulated(t, c)
	if apart.ChangesPerS >= many.ChangesPerS || apart.KafkaOut >= many.KafkaOut || apart.Resources[1].Load >= many.Resources[1].Load || apart.Staleness <= many.Staleness {
		t.Errorf("changes held back for a second: %v changes/s and %v events stale, before %v and %v", apart.ChangesPerS, apart.Staleness, many.ChangesPerS, many.Staleness)
	}
}

func TestSlowNetworksMakeCopiesOldAndAreNamed(t *testing.T) {
	c := smallScale()
	_, fast := simulated(t, c)
	c.Network = fast.LearnerIn / 2
	_, slow := simulated(t, c)
	if !slow.Saturated || slow.CopyAgeMS < 5*fast.CopyAgeMS || !strings.Contains(slow.First+slow.Then, "network") {
		t.Errorf("on half the network that is needed copies are %v ms old (before %v), saturated %v, first %s", slow.CopyAgeMS, fast.CopyAgeMS, slow.Saturated, slow.First)
	}
}

func TestEqualSeedsSimulateAlike(t *testing.T) {
	c := smallScale()
	c.Seconds = 1
	c.ItemTopic, c.Broadcast = true, 200*time.Millisecond
	encode := func() []byte {
		_, r := simulated(t, c)
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	a, b := encode(), encode()
	if !bytes.Equal(a, b) {
		t.Error("two equal runs differ")
	}
	c.Seed++
	if bytes.Equal(a, encode()) {
		t.Error("the seed changes nothing")
	}
}

func TestServiceTimesComeFromAFileAndAreChecked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "times.json")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"service": {"learn_us": 42}, "bytes": {"user": 1000}}`)
	c := Default(2000)
	if err := c.ReadTimes(path); err != nil || c.Service.LearnUS != 42 || c.Bytes.User != 1000 || c.Service.MergeUS != Default(2000).Service.MergeUS {
		t.Errorf("read %+v, %v", c.Service, err)
	}
	for _, text := range []string{`{"service": {"learn": 42}}`, `{"service": [1]}`, `{"times": {}}`, ``, strings.Repeat(" ", 1<<20+1)} {
		write(text)
		c := Default(2000)
		if err := c.ReadTimes(path); !errors.As(err, new(*corastream.UsageError)) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
	for name, spoil := range map[string]func(*Config){
		"--events": func(c *Config) { c.Events = math.NaN() }, "--shards": func(c *Config) { c.Shards = c.Partitions + 1 },
		"--item-topic": func(c *Config) { c.Broadcast = time.Second }, "times learn_us": func(c *Config) { c.Service.LearnUS = -1 },
		"--replication": func(c *Config) { c.Copies = c.Brokers + 1 }, "--items": func(c *Config) { c.Items = 0 },
	} {
		c := Default(2000)
		spoil(&c)
		err := c.Validate()
		var usage *corastream.UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
