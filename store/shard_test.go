package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/rs/zerolog"
)

const changelogs = "embeddings"

// memLog is a changelog in memory with the rule of the real one: what is appended below the highest epoch is void.
type memLog struct {
	part    int32
	records []corastream.Change
	epoch   uint64
	lose    bool // store the next one and then fail, as a connection that breaks before the answer does
}

func (l *memLog) claim() uint64 {
	l.epoch++
	l.put(corastream.Change{Epoch: l.epoch, Key: []byte(corastream.ChangeClaim)})
	return l.epoch
}

func (l *memLog) put(c corastream.Change) {
	c.Pos = corastream.Position{Topic: changelogs, Partition: l.part, Offset: int64(len(l.records))}
	l.records = append(l.records, c)
}

var errLost = errors.New("the connection broke")

func (l *memLog) Append(_ context.Context, seq uint64, changes []corastream.Change) (int64, [][]byte, error) {
	for _, c := range changes {
		if c.Epoch < l.epoch {
			return 0, nil, corastream.ErrFenced
		}
		c.Key = append([]byte(nil), c.Key...)
		if c.Value != nil {
			c.Value = append([]byte{}, c.Value...)
		}
		if c.Seq != seq {
			return 0, nil, fmt.Errorf("seq %d in transaction %d", c.Seq, seq)
		}
		l.put(c)
	}
	if l.lose {
		l.lose = false
		return 0, nil, errLost
	}
	return int64(len(l.records)), nil, nil
}

// toy is a cluster of stores in one test, with the topics between them.
type toy struct {
	t      *testing.T
	cf     cfstream.Model
	logs   []*memLog
	dirs   []string
	stores []*Store
	inbox  [][]corastream.Parcel // by shard; the offset is the index
	past   [][]corastream.Batch  // by shard: what was committed, for the re-run
}

func newToy(t *testing.T, n int) *toy {
	cf, err := cfstream.New(cfstream.DefaultFor(cfstream.MF))
	if err != nil {
		t.Fatal(err)
	}
	c := &toy{t: t, cf: cf, inbox: make([][]corastream.Parcel, n), past: make([][]corastream.Batch, n)}
	for k := range n {
		c.logs = append(c.logs, &memLog{part: int32(k)})
		c.dirs = append(c.dirs, t.TempDir())
		c.stores = append(c.stores, nil)
	}
	for k := range n {
		c.open(k)
	}
	return c
}

func (c *toy) shard(k int) Shard {
	return Shard{Index: k, Of: len(c.logs), Merger: c.cf.(corastream.Merger)}
}

// open brings the folder up to its changelog and takes the shard over.
func (c *toy) open(k int) {
	c.t.Helper()
	cp, err := OpenCopy(c.dirs[k], testConfig(), zerolog.Nop())
	if err != nil {
		c.t.Fatal(err)
	}
	next, _, _ := cp.Reach()
	if next < 0 {
		next = 0
	}
	l := c.logs[k]
	if err := errors.Join(cp.Apply(context.Background(), l.records[next:], int64(len(l.records))), cp.Close()); err != nil {
		c.t.Fatal(err)
	}
	s, err := Open(c.dirs[k], testConfig(), WithShard(c.shard(k)), WithSteps(newPairs().window))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { s.Close() })
	s.Ship(l, l.claim())
	c.stores[k] = s
}

// batch is what a shard's source would hand out next: n events of its partition, and what came from the others.
func (c *toy) batch(k, n int) corastream.Batch {
	var b corastream.Batch
	span := func(topic string, part int, to int64) {
		p := corastream.Partition{Topic: topic, ID: int32(part)}
		from, _, err := c.stores[k].Next(p)
		if err != nil {
			c.t.Fatal(err)
		}
		if from < to {
			b.Spans = append(b.Spans, corastream.Span{Partition: p, From: from, To: to})
		}
	}
	for j, l := range c.logs {
		if j == k {
			continue
		}
		from, _, _ := c.stores[k].Next(corastream.Partition{Topic: changelogs, ID: int32(j)})
		b.Changes = append(b.Changes, l.records[from:]...)
		span(changelogs, j, int64(len(l.records)))
	}
	from, _, _ := c.stores[k].Next(corastream.Partition{Topic: "gradients", ID: int32(k)})
	b.Parcels = append(b.Parcels, c.inbox[k][from:]...)
	span("gradients", k, int64(len(c.inbox[k])))
	if n > 0 {
		from, _, _ := c.stores[k].Next(corastream.Partition{Topic: topic, ID: int32(k)})
		ev := run(int32(k), from, from+int64(n), 40, 30)
		b.Events, b.Spans = ev.Events, append(b.Spans, ev.Spans...)
	}
	return b
}

// step commits a batch and sends what it leaves in the outbox.
func (c *toy) step(k, n int) error {
	b := c.batch(k, n)
	if len(b.Spans) == 0 {
		return nil
	}
	if _, err := c.stores[k].Commit(context.Background(), b, c.cf.Learn); err != nil {
		return err
	}
	c.past[k] = append(c.past[k], b)
	c.send(k)
	return nil
}

func (c *toy) send(k int) {
	out := c.stores[k].Outbox(1 << 20)
	for _, p := range out {
		p.Pos = corastream.Position{Topic: "gradients", Partition: p.To, Offset: int64(len(c.inbox[p.To]))}
		c.inbox[p.To] = append(c.inbox[p.To], p)
	}
	c.stores[k].Sent(len(out))
}

// settle lets everything in flight arrive.
func (c *toy) settle() {
	c.t.Helper()
	for range 4 {
		for k := range c.stores {
			if err := c.step(k, 0); err != nil {
				c.t.Fatal(err)
			}
		}
	}
}

func (c *toy) learn(rounds int) {
	c.t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	for range rounds {
		if err := c.step(r.IntN(len(c.stores)), 1+r.IntN(40)); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *toy) item(s *Store, id string) (out corastream.ItemState) {
	c.t.Helper()
	err := s.View(context.Background(), func(v corastream.State) error {
		it, err := v.Item(id)
		if err == nil {
			out = *it
		}
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// TestShardsLearnOneModel: every event counts once at the item's owner, and every copy of an item is its owner's.
func TestShardsLearnOneModel(t *testing.T) {
	c := newToy(t, 3)
	c.learn(60)
	c.settle()
	events, counted := uint64(0), uint64(0)
	for k, s := range c.stores {
		done, _, _ := s.Next(corastream.Partition{Topic: topic, ID: int32(k)})
		events += uint64(done)
	}
	left := uint64(0) // what neither came twice nor was taken back, nor takes back
	for k := range c.past {
		seen, users := map[string]bool{}, map[string]*corastream.UserState{}
		for _, b := range c.past[k] {
			for _, ev := range b.Events {
				if ev.ID != "" && seen[ev.User+ev.ID] {
					continue
				}
				seen[ev.User+ev.ID] = true
				if users[ev.User] == nil {
					users[ev.User] = &corastream.UserState{}
				}
				users[ev.User].Remember(ev, 0)
			}
		}
		for _, u := range users {
			left += uint64(len(u.History))
		}
	}
	for i := range 30 {
		id := fmt.Sprintf("i%d", i)
		owner := c.item(c.stores[corastream.ItemShard(id, 3)], id)
		counted += uint64(owner.Count)
		for k, s := range c.stores {
			if got := c.item(s, id); !same(&got.Embedding, &owner.Embedding) {
				t.Errorf("item %s in shard %d is %+v, its owner has %+v", id, k, got.Embedding, owner.Embedding)
			}
		}
	}
	if counted != left {
		t.Errorf("the items count %d events, %d of the log's %d are left", counted, left, events)
	}
	for k, s := range c.stores {
		err := s.View(context.Background(), func(v corastream.State) error {
			shared, err := v.Shared()
			if err == nil && uint64(shared.Count) != left {
				t.Errorf("shard %d: the shared vector counts %d of %d", k, shared.Count, left)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		report, err := s.Check(context.Background())
		if err != nil || report.Found > 0 {
			t.Errorf("shard %d: %v %v", k, report.Problems, err)
		}
	}
}

// TestAShardMovesByItsChangelog: a copy made from the changelog alone is equal to the store that wrote it, goes on where that
// one stopped, and the old owner can write no more.
func TestAShardMovesByItsChangelog(t *testing.T) {
	c := newToy(t, 2)
	c.learn(20)
	if _, err := c.stores[0].Commit(context.Background(), c.batch(0, 7), c.cf.Learn); err != nil { // parcels not sent
		t.Fatal(err)
	}
	old, want := c.stores[0], digest(t, c.stores[0])
	waiting := old.Outbox(100)
	c.dirs[0] = t.TempDir()
	c.open(0)
	if got := digest(t, c.stores[0]); got != want {
		t.Errorf("the copy has digest %s, want %s", got, want)
	}
	if got := c.stores[0].Outbox(100); fmt.Sprint(got) != fmt.Sprint(waiting) || len(got) == 0 {
		t.Errorf("the copy's outbox has %d parcels, want %d", len(got), len(waiting))
	}
	before := len(c.logs[0].records)
	if _, err := old.Commit(context.Background(), c.batch(0, 3), c.cf.Learn); !errors.Is(err, corastream.ErrFenced) {
		t.Errorf("the old owner's commit: %v, want %v", err, corastream.ErrFenced)
	}
	if got := digest(t, old); got != want || len(c.logs[0].records) != before {
		t.Error("the old owner's commit left something behind")
	}
	c.send(0)
	c.learn(20)
	c.settle()
	report, err := c.stores[0].Check(context.Background())
	if err != nil || report.Found > 0 {
		t.Errorf("%v %v", report.Problems, err)
	}
}

// TestALostAnswerChangesNothing: the changelog has the transaction and the store does not know; reopened, it does, and the events
// of that transaction are not learnt twice.
func TestALostAnswerChangesNothing(t *testing.T) {
	c := newToy(t, 2)
	c.learn(10)
	c.logs[1].lose = true
	b := c.batch(1, 5)
	if _, err := c.stores[1].Commit(context.Background(), b, c.cf.Learn); !errors.Is(err, errLost) {
		t.Fatalf("got %v", err)
	}
	if err := c.stores[1].Close(); err != nil {
		t.Fatal(err)
	}
	c.past[1] = append(c.past[1], b)
	c.open(1)
	c.send(1)
	c.learn(10)
	c.settle()
	if got, want := rerunShard(t, c, 1), digest(t, c.stores[1]); got != want {
		t.Errorf("the re-run has digest %s, want %s", got, want)
	}
}

// rerunShard applies the same batches to an empty store.
func rerunShard(t *testing.T, c *toy, k int) string {
	t.Helper()
	s := mustOpen(t, t.TempDir(), testConfig(), WithShard(c.shard(k)))
	for _, b := range c.past[k] {
		if _, err := s.Commit(context.Background(), b, c.cf.Learn); err != nil {
			t.Fatal(err)
		}
	}
	return digest(t, s)
}

// TestAParcelCountsOnce although it may be sent many times.
func TestAParcelCountsOnce(t *testing.T) {
	c := newToy(t, 2)
	c.learn(10)
	c.settle()
	want := digest(t, c.stores[0])
	for _, p := range append([]corastream.Parcel(nil), c.inbox[0]...) {
		p.Pos.Offset = int64(len(c.inbox[0]))
		c.inbox[0] = append(c.inbox[0], p)
	}
	before := c.item(c.stores[0], "i1")
	if err := c.step(0, 0); err != nil {
		t.Fatal(err)
	}
	if got := c.item(c.stores[0], "i1"); !same(&got.Embedding, &before.Embedding) {
		t.Errorf("i1 was %+v and is %+v", before.Embedding, got.Embedding)
	}
	if digest(t, c.stores[0]) == want {
		t.Error("the offsets did not move: nothing was read")
	}
	bad := c.inbox[0][0]
	bad.Seq, bad.Pos.Offset, bad.Body = 1<<40, int64(len(c.inbox[0])), append([]byte(nil), bad.Body[:len(bad.Body)-1]...)
	c.inbox[0] = append(c.inbox[0], bad)
	if err := c.step(0, 0); !errors.Is(err, corastream.ErrCorrupt) {
		t.Errorf("a parcel cut short: %v", err)
	}
}

// TestAReplicaHasEveryVector, histories that fill blocks included, in batches that cut transactions in two; and void changes leave nothing.
func TestAReplicaHasEveryVector(t *testing.T) {
	c := newToy(t, 2)
	c.learn(100)
	c.settle()
	zombie := c.logs[0].records[len(c.logs[0].records)-1]
	l := c.logs[0]
	l.claim()
	for _, r := range append([]corastream.Change(nil), l.records[:len(l.records)/2]...) { // what a former owner still writes
		r.Epoch = zombie.Epoch
		if string(r.Key[:2]) != corastream.ChangeClaim {
			l.put(r)
		}
	}
	s := mustOpen(t, t.TempDir(), testConfig(), WithShard(Shard{Index: Replica, Of: 2}))
	for k, l := range c.logs {
		for from := 0; from < len(l.records); from += 7 {
			to := min(len(l.records), from+7)
			part := corastream.Partition{Topic: changelogs, ID: int32(k)}
			_, err := s.Commit(context.Background(), corastream.Batch{
				Changes: l.records[from:to], Spans: []corastream.Span{{Partition: part, From: int64(from), To: int64(to)}},
			}, func(corastream.State, corastream.Event) error { return errors.New("a replica learns nothing") })
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	users := 0
	for k, owner := range c.stores {
		err := owner.View(context.Background(), func(want corastream.State) error {
			return s.View(context.Background(), func(got corastream.State) error {
				for i := range 40 {
					id := fmt.Sprintf("u%d-%d", k, i)
					a, err := want.User(id)
					if err != nil {
						return err
					}
					b, err := got.User(id)
					if err != nil {
						return err
					}
					if len(a.History) > 0 {
						users++
					}
					if !same(&a.Embedding, &b.Embedding) || fmt.Sprint(a.History) != fmt.Sprint(b.History) {
						t.Errorf("user %s: %d interactions, version %d; want %d, %d", id, len(b.History), b.Version, len(a.History), a.Version)
					}
				}
				return nil
			})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 30 {
		id := fmt.Sprintf("i%d", i)
		want, got := c.item(c.stores[corastream.ItemShard(id, 2)], id), c.item(s, id)
		if !same(&want.Embedding, &got.Embedding) {
			t.Errorf("item %s: %+v, want %+v", id, got.Embedding, want.Embedding)
		}
	}
	report, err := s.Check(context.Background())
	if err != nil || report.Found > 0 || report.Records["user"] != users || report.Records["history"] == 0 {
		t.Errorf("%+v, %v; want %d users", report, err, users)
	}
}

// TestAReplicaLearnsEveryStepOnce, in the order of each changelog: not those that a former owner still writes, nor those
// that come twice; and a kill changes nothing. Where the shards keep fewer, a replica that starts anew learns the newest.
func TestAReplicaLearnsEveryStepOnce(t *testing.T) {
	c := newToy(t, 2)
	for _, s := range c.stores {
		s.derived.most = 1 << 20
	}
	c.learn(30)
	c.dirs[1] = t.TempDir()
	c.open(1) // moves, and its steps with it
	c.stores[1].derived.most = 1 << 20
	if a, b := stepRecords(t, c.stores[1]), c.stores[1].mark; len(a) < 3 || !b.known || b.trimmed != 0 {
		t.Fatalf("steps of %v, %+v", a, b)
	}
	c.learn(30)
	l := c.logs[0]
	last := l.records[len(l.records)-1]
	for _, r := range append([]corastream.Change(nil), l.records...) { // a transaction whose answer was lost
		if r.Epoch == last.Epoch && r.Seq == last.Seq {
			l.put(r)
		}
	}
	l.claim()
	for _, r := range append([]corastream.Change(nil), l.records[:len(l.records)/2]...) {
		if r.Epoch = last.Epoch; string(r.Key[:2]) != corastream.ChangeClaim {
			l.put(r)
		}
	}
	follow := func(from []int) *Store {
		list := newPairs()
		list.keep = true
		s := mustOpen(t, t.TempDir(), testConfig(), WithShard(Shard{Index: Replica, Of: 2}), withList(list, 300))
		for k, l := range c.logs {
			for from := from[k]; from < len(l.records); from += 7 {
				to := min(len(l.records), from+7)
				part := corastream.Partition{Topic: changelogs, ID: int32(k)}
				b := corastream.Batch{Changes: l.records[from:to], Spans: []corastream.Span{{Partition: part, From: int64(from), To: int64(to)}}}
				if _, err := s.Commit(context.Background(), b, nil); err != nil {
					t.Fatal(err)
				}
				settled(s)
			}
		}
		return s
	}
	s := follow([]int{0, 0})
	var want []corastream.Step
	for k := range c.stores {
		alone := newPairs()
		alone.keep = true
		one := mustOpen(t, t.TempDir(), testConfig(), withList(alone, 1<<30))
		n, _, _ := c.stores[k].Next(corastream.Partition{Topic: topic, ID: int32(k)})
		mustCommit(t, one, run(int32(k), 0, n, 40, 30))
		want = append(want, alone.steps...)
	}
	if got := listOf(s).steps; !reflect.DeepEqual(got, want) {
		t.Errorf("%d steps, want %d", len(got), len(want))
	}
	if files := tableFiles(t, s); len(files) != 2 {
		t.Errorf("table files %v", files)
	}
	noProblems(t, s)
	k := killedCopy(t, s, WithShard(Shard{Index: Replica, Of: 2}), withPairs(300))
	if listOf(k).saved(t) != listOf(s).saved(t) {
		t.Error("after a kill the replica has another table")
	}
	c.stores[0].Ship(l, l.epoch)
	for _, s := range c.stores {
		s.derived.most = 4 << 10
	}
	c.learn(60)
	for k, s := range c.stores {
		if seqs := stepRecords(t, s); s.derived.kept > 8<<10 || s.mark.trimmed == 0 || seqs[0] <= s.mark.trimmed {
			t.Errorf("shard %d keeps %d bytes: transactions %v, %+v", k, s.derived.kept, seqs, s.mark)
		}
	}
}

// TestMovedUsersAreReadOffTheChangelog with the newest interaction and the oldest one of the transaction.
func TestMovedUsersAreReadOffTheChangelog(t *testing.T) {
	c := newToy(t, 2)
	b := c.batch(0, 10)
	if err := c.step(0, 10); err != nil {
		t.Fatal(err)
	}
	if owed, err := c.stores[0].Owed(10); err != nil || len(owed) != 0 {
		t.Errorf("a shard owes nobody itself: %v, %v", owed, err)
	}
	want := map[string]corastream.Owed{}
	for _, ev := range b.Events {
		o, seen := want[ev.User]
		if !seen {
			o = corastream.Owed{User: ev.User, Oldest: ev.Appended}
		}
		o.Cause = ev.Pos
		want[ev.User] = o
	}
	got := map[string]corastream.Owed{}
	for _, r := range c.logs[0].records {
		o, ok, err := MovedUser(r)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			got[o.User] = o
		}
	}
	if len(got) == 0 || len(got) != len(want) {
		t.Fatalf("%d users moved, want %d", len(got), len(want))
	}
	for id, w := range want {
		if g := got[id]; !g.Oldest.Equal(w.Oldest) || g.Cause.Partition != w.Cause.Partition {
			t.Errorf("user %s: %+v, want %+v", id, g, w)
		}
	}
}

// TestACopyWaitsForRoomOnTheDisk: a full disk would kill the process in the middle of a takeover.
func TestACopyWaitsForRoomOnTheDisk(t *testing.T) {
	cp, err := OpenCopy(t.TempDir(), testConfig(), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer cp.Close()
	cp.guard.free = func(string) (int64, bool, error) { return 1, true, nil }
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := cp.Apply(ctx, nil, 5); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("on a full disk: %v", err)
	}
	if next, _, _ := cp.Reach(); next >= 0 {
		t.Errorf("it wrote up to %d all the same", next)
	}
}

// TestARecordChangesWhatItNamesOnEveryShard: shards that read the catalogue at paces of their own, between events on the item, end with
// one record of it: a partial record has changed what it names and nothing else. So does a re-run of what each shard committed.
func TestARecordChangesWhatItNamesOnEveryShard(t *testing.T) {
	text := corastream.Keep{Title: true, Fields: true}
	field := func(name, value string) corastream.Item {
		return corastream.Item{ID: "i1", Fields: map[string]string{name: value}, Keep: corastream.Keep{Title: true, Withdrawn: true, Fields: true}}
	}
	full := corastream.Item{ID: "i1", Title: "Harbour", Fields: map[string]string{"year": "1994", "price": "3"}}
	removed := corastream.Item{ID: "i1", Removed: true, Withdrawn: true}
	cleared := corastream.Item{ID: "i1", Keep: corastream.Keep{Title: true, Withdrawn: true, Fields: true, Clear: []string{"price"}}}
	for name, c := range map[string]struct {
		records []corastream.Item
		want    corastream.Item
	}{
		"a field":   {[]corastream.Item{full, field("price", "2")}, corastream.Item{ID: "i1", Title: "Harbour", Fields: map[string]string{"year": "1994", "price": "2"}}},
		"cleared":   {[]corastream.Item{full, cleared}, corastream.Item{ID: "i1", Title: "Harbour", Fields: map[string]string{"year": "1994"}}},
		"withdrawn": {[]corastream.Item{full, {ID: "i1", Withdrawn: true, Keep: text}}, corastream.Item{ID: "i1", Title: "Harbour", Fields: full.Fields, Withdrawn: true}},
		"back":      {[]corastream.Item{full, {ID: "i1", Withdrawn: true, Keep: text}, {ID: "i1", Keep: text}}, full},
		"removed":   {[]corastream.Item{full, removed, field("price", "2")}, removed},
		"a new one": {[]corastream.Item{full, removed, field("price", "2"), {ID: "i1", Title: "Orchard", Keep: corastream.Keep{Fields: true}}}, corastream.Item{ID: "i1", Title: "Orchard"}},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(2) {
				toy := newToy(t, 3)
				r := rand.New(rand.NewPCG(3, seed))
				toy.learn(3)
				topic := corastream.Partition{Topic: "items"}
				read := func(k int) bool { // the next record of the catalogue
					from, _, err := toy.stores[k].Next(topic)
					if err != nil {
						t.Fatal(err)
					}
					if from == int64(len(c.records)) {
						return false
					}
					b := items(c.records[from])
					b.Items[0].Pos = corastream.Position{Topic: topic.Topic, Offset: from}
					b.Spans = []corastream.Span{{Partition: topic, From: from, To: from + 1}}
					mustCommit(t, toy.stores[k], b)
					toy.past[k] = append(toy.past[k], b)
					return true
				}
				for range 30 {
					if k := r.IntN(3); r.IntN(2) == 0 {
						read(k)
					} else if err := toy.step(k, r.IntN(6)); err != nil {
						t.Fatal(err)
					}
				}
				for k := range toy.stores {
					for read(k) {
					}
				}
				toy.settle()
				for k, s := range toy.stores {
					if got := toy.item(s, "i1").Item; !reflect.DeepEqual(got, c.want) {
						t.Errorf("seed %d, shard %d: %+v, want %+v", seed, k, got, c.want)
					}
					if got := rerunShard(t, toy, k); got != digest(t, s) {
						t.Errorf("seed %d, shard %d: the re-run has another digest", seed, k)
					}
				}
			}
		})
	}
}

// TestAnErasureIsToldWhereverTheUserWasRead: in the store that erases, and in a replica that reads its changelog.
func TestAnErasureIsToldWhereverTheUserWasRead(t *testing.T) {
	c := newToy(t, 2)
	c.learn(20)
	c.settle()
	told := map[string]bool{}
	c.stores[0].forgotten = func(user string) { told["owner "+user] = true }
	s := mustOpen(t, t.TempDir(), testConfig(), WithShard(Shard{Index: Replica, Of: 2}), WithForgotten(func(user string) { told["replica "+user] = true }))
	read := 0
	follow := func() {
		part, all := corastream.Partition{Topic: changelogs}, c.logs[0].records
		mustCommit(t, s, corastream.Batch{Changes: all[read:], Spans: []corastream.Span{{Partition: part, From: int64(read), To: int64(len(all))}}})
		read = len(all)
	}
	follow()
	if len(told) > 0 {
		t.Fatalf("told of %v", told)
	}
	if err := c.stores[0].Erase(t.Context(), "u0-1"); err != nil {
		t.Fatal(err)
	}
	follow()
	if !reflect.DeepEqual(told, map[string]bool{"owner u0-1": true, "replica u0-1": true}) {
		t.Errorf("told of %v", told)
	}
}
