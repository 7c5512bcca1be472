package ingest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/ingest/devbroker"
)

// TestOfManyOwnersOneHistoryCounts: processes take a shard from each other as they please. What was acknowledged is in the log, what was
// fenced is not, and everybody who reads the log ends with the same state.
func TestOfManyOwnersOneHistoryCounts(t *testing.T) {
	sharded(t, 1, func(t *testing.T, cfg Config) {
		const owners, each = 4, 25
		var mu sync.Mutex
		acknowledged, fenced := map[string]bool{}, map[string]bool{}
		claims := 0
		var all []*replica
		var wg sync.WaitGroup
		for k := range owners {
			r := newReplica(t, cfg, 0, fmt.Sprint("owner", k))
			all = append(all, r)
			wg.Go(func() {
				random := rand.New(rand.NewPCG(7, uint64(k)))
				for n := 0; n < each; {
					if err := r.own(t.Context()); err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					claims++
					mu.Unlock()
					for turn := 1 + random.IntN(5); turn > 0; turn-- {
						// Every transaction leaves a key of its own, and all of them fight for a few.
						key := fmt.Sprintf("x:%s-%d", r.member, n)
						err := r.write(t.Context(), key, "1", fmt.Sprint("u:", random.IntN(5)), key)
						mu.Lock()
						switch {
						case err == nil:
							acknowledged[key] = true
						case errors.Is(err, corastream.ErrFenced):
							fenced[key] = true
						default:
							t.Error(err)
						}
						mu.Unlock()
						n++
						if err != nil {
							break
						}
					}
				}
			})
		}
		wg.Wait()
		last := all[0]
		must(t, last.own(t.Context()))
		must(t, last.write(t.Context(), "s:", "end"))
		all = append(all, newReplica(t, cfg, 0, "reader"))
		for _, r := range all {
			must(t, r.follow(t.Context()))
			if fmt.Sprint(r.state) != fmt.Sprint(last.state) {
				t.Errorf("%s holds %v\nthe last owner %v", r.member, r.state, last.state)
			}
		}
		for key := range acknowledged {
			if last.state[key] == "" {
				t.Errorf("%s was acknowledged and is lost", key)
			}
		}
		for key := range fenced {
			if last.state[key] != "" {
				t.Errorf("%s was fenced and is there", key)
			}
		}
		if len(fenced) == 0 || claims <= owners {
			t.Errorf("%d transactions fenced, %d claims: nobody fought, so this tests nothing", len(fenced), claims)
		}
		t.Logf("%d acknowledged, %d fenced, %d claims", len(acknowledged), len(fenced), claims)
	})
}

// embeddedShard is one shard on an embedded broker that a test may hurt.
func embeddedShard(t *testing.T) (*devbroker.Broker, Config) {
	b, err := devbroker.Start(devbroker.Options{})
	must(t, err)
	t.Cleanup(func() { b.Close() })
	cfg := testConfigWith(t, b.Addr(), func(c *Config) { c.Shards = 1 })
	return b, cfg
}

// cut has the next Produce to the embeddings topic end in a closed connection. Before that, with store, the batch is stored, and then
// what after does happens.
func cut(t *testing.T, b *devbroker.Broker, cfg Config, store bool, after func()) (hits *atomic.Int32) {
	return meddle(t, b, cfg, store, after, errors.New("cut"))
}

// meddle does so; where end is nil, the Produce then goes on to the broker.
func meddle(t *testing.T, b *devbroker.Broker, cfg Config, store bool, after func(), end error) (hits *atomic.Int32) {
	hits = new(atomic.Int32)
	a, err := newAccess(cfg)
	must(t, err)
	b.Kafka().ControlKey(int16(kmsg.Produce), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		req := kreq.(*kmsg.ProduceRequest)
		if req.Topics[0].Topic != cfg.Topics.Embeddings || hits.Add(1) > 1 {
			return nil, nil, false
		}
		if store {
			var c recordBatch
			c, _, _, err := nextRecordBatch(req.Topics[0].Partitions[0].Records)
			if err != nil {
				t.Error(err)
			}
			part := corastream.Partition{Topic: cfg.Topics.Embeddings, ID: req.Topics[0].Partitions[0].Partition}
			records, err := c.records(nil, part, 0, limits{record: 1 << 20, batch: 1 << 20})
			if err != nil {
				t.Error(err)
			}
			b.Kafka().SleepControl(func() {
				p := newPoster(a)
				defer p.close()
				one := &posting{part: part, records: records}
				if p.post(context.Background(), one); one.err != nil {
					t.Error(one.err)
				}
				if after != nil {
					after()
				}
			})
		}
		return nil, end, end != nil
	})
	return hits
}

// written are the keys of all records of the embeddings topic, void ones too.
func written(t *testing.T, cfg Config) string {
	t.Helper()
	var out []string
	for _, r := range consume(t, cfg, cfg.Topics.Embeddings) {
		if !isClaim(r.Key) {
			out = append(out, string(r.Key)+"="+string(r.Value))
		}
	}
	return strings.Join(out, " ")
}

func TestABatchWhoseAnswerIsLostIsFoundInTheLog(t *testing.T) {
	b, cfg := embeddedShard(t)
	ctx := t.Context()
	a := newReplica(t, cfg, 0, "a")
	must(t, a.own(ctx))
	must(t, a.write(ctx, "u:1", "1"))

	hits := cut(t, b, cfg, true, nil)
	must(t, a.write(ctx, "u:2", "2", "u:3", "2"))
	if hits.Load() < 1 {
		t.Fatal("nothing was cut, so this tests nothing")
	}
	cut(t, b, cfg, false, nil)
	must(t, a.write(ctx, "u:4", "3"))
	// The broker stores these and answers that it may not have.
	for i, e := range []*kerr.Error{kerr.RequestTimedOut, kerr.NotEnoughReplicasAfterAppend} {
		h := b.Kafka().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: cfg.Topics.Embeddings, Err: e})
		must(t, a.write(ctx, fmt.Sprint("u:", 5+i), "4"))
		if h.Hits() != 1 {
			t.Errorf("%v did not come", e)
		}
	}
	// And this one it does not store.
	b.Kafka().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: cfg.Topics.Embeddings, Err: kerr.NotEnoughReplicas, Count: 2})
	must(t, a.write(ctx, "u:7", "5"))
	if got := written(t, cfg); got != "u:1=1 u:2=2 u:3=2 u:4=3 u:5=4 u:6=4 u:7=5" {
		t.Errorf("the log holds %s", got)
	}
	if len(a.Void()) > 0 {
		t.Errorf("void %s", a.Void())
	}

	// The same for a claim.
	c := newReplica(t, cfg, 0, "c")
	cut(t, b, cfg, true, nil)
	must(t, c.own(ctx))
	must(t, c.write(ctx, "u:1", "6"))
	if e, _ := c.LastSeen(); e != 2 {
		t.Errorf("epoch %d: the claim was made more than once", e)
	}
}

// TestALostAnswerDoesNotHideANewOwner: the batch is stored, its answer is lost, and another process takes the shard before its writer can
// look. The transaction counts, for it came before the claim; the next one is fenced, and nothing of the new owner's is skipped.
func TestALostAnswerDoesNotHideANewOwner(t *testing.T) {
	b, cfg := embeddedShard(t)
	ctx := t.Context()
	a, c := newReplica(t, cfg, 0, "a"), newReplica(t, cfg, 0, "c")
	must(t, a.own(ctx))
	cut(t, b, cfg, true, func() {
		if err := c.own(context.Background()); err != nil {
			t.Error(err)
		}
	})
	must(t, a.write(ctx, "u:1", "a", "u:2", "a"))
	if err := a.write(ctx, "u:2", "lost"); !errors.Is(err, corastream.ErrFenced) {
		t.Errorf("a wrote on: %v", err)
	}
	must(t, c.write(ctx, "u:1", "c"))
	must(t, a.own(ctx))
	for _, r := range []*replica{a, c} {
		must(t, r.follow(ctx))
		r.holds(t, "map[u:1:c u:2:a]")
	}

	// The first copy of a batch comes after its writer has looked, then a claim, then the copy that was sent again.
	must(t, a.own(ctx))
	cut(t, b, cfg, false, nil)
	meddle(t, b, cfg, true, func() {
		if err := errors.Join(c.own(context.Background()), c.write(context.Background(), "u:1", "c2")); err != nil {
			t.Error(err)
		}
	}, nil)
	must(t, a.write(ctx, "u:1", "a2", "u:2", "a2"))
	must(t, a.follow(ctx))
	a.holds(t, "map[u:1:c2 u:2:a2]")

	// Before the answer is lost, another owner: the batch is in the log, and void.
	cut(t, b, cfg, false, nil)
	must(t, c.own(ctx))
	if err := a.write(ctx, "u:2", "lost"); !errors.Is(err, corastream.ErrFenced) {
		t.Errorf("a wrote on: %v", err)
	}
	must(t, c.write(ctx, "u:3", "c"))
	must(t, a.follow(ctx))
	a.holds(t, "map[u:1:c2 u:2:a2 u:3:c]")
}

// TestACopyThatComesLateIsVoid: the network holds a batch back, its writer sends it again and goes on, and then it comes.
func TestACopyThatComesLateIsVoid(t *testing.T) {
	sharded(t, 1, func(t *testing.T, cfg Config) {
		ctx := t.Context()
		a := newReplica(t, cfg, 0, "a")
		must(t, a.own(ctx))
		must(t, a.write(ctx, "u:1", "old", "u:2", "old"))
		must(t, a.write(ctx, "u:1", "new"))
		late := &posting{part: a.part}
		for _, k := range []string{"u:1", "u:2"} {
			late.records = append(late.records, encodeChange(corastream.Change{Epoch: 1, Seq: 1, Key: []byte(k), Value: []byte("old")}))
		}
		if a.post.post(ctx, late); late.err != nil {
			t.Fatal(late.err)
		}
		r := newReplica(t, cfg, 0, "r")
		must(t, r.follow(ctx))
		r.holds(t, "map[u:1:new u:2:old]")
		if got := fmt.Sprintf("%s", r.Void()); got != "[u:1 u:2]" {
			t.Errorf("a reader finds void %s", got)
		}
		next, void, err := a.Append(ctx, 3, []corastream.Change{{Key: []byte("u:3"), Value: []byte("x")}})
		must(t, err)
		if got := fmt.Sprintf("%s", void); got != "[u:1 u:2]" {
			t.Errorf("the owner is told of %s", got)
		}
		_, void, err = a.Append(ctx, 4, []corastream.Change{{Key: []byte("u:2"), Value: []byte("old")}})
		must(t, err)
		if got := fmt.Sprintf("%s", void); got != "[u:1]" || next == 0 {
			t.Errorf("then of %s", got)
		}
		must(t, r.follow(ctx))
		if got := fmt.Sprintf("%s", r.Void()); got != "[u:1]" {
			t.Errorf("the reader finds void %s", got)
		}
	})
}

func TestWhatCompactionLeavesRebuildsTheState(t *testing.T) {
	b, cfg := embeddedShard(t)
	ctx := t.Context()
	a, z := newReplica(t, cfg, 0, "a"), newReplica(t, cfg, 0, "zombie")
	must(t, z.own(ctx))
	for i := range 30 {
		must(t, z.write(ctx, fmt.Sprint("u:", i%7), fmt.Sprint("z", i), "s:", fmt.Sprint(i)))
		if i%10 == 9 {
			b.Kafka().Compact()
		}
	}
	must(t, a.own(ctx))
	if err := z.write(ctx, "u:1", "lost", "u:6", "lost", "u:new", "lost"); !errors.Is(err, corastream.ErrFenced) {
		t.Fatal(err)
	}
	must(t, a.write(ctx, "u:0", "a"))
	must(t, a.write(ctx, "s:", "a", "u:2", "")) // and what was void
	must(t, a.write(ctx, "s:", "b"))
	before := len(consume(t, cfg, cfg.Topics.Embeddings))
	b.Kafka().Compact()
	if after := len(consume(t, cfg, cfg.Topics.Embeddings)); after >= before {
		t.Errorf("%d records before, %d after: nothing was compacted, so this tests nothing", before, after)
	}
	r := newReplica(t, cfg, 0, "r")
	must(t, r.follow(ctx))
	want := "map[s::b u:0:a u:1:z29 u:3:z24 u:4:z25 u:5:z26 u:6:z27]"
	r.holds(t, want)
	a.holds(t, want)
	if len(r.Void()) > 0 {
		t.Errorf("void %s", r.Void())
	}
}

// TestABrokersRestartNeitherLosesNorDoublesATransaction: an owner writes while the broker goes away and comes back.
func TestABrokersRestartNeitherLosesNorDoublesATransaction(t *testing.T) {
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		o := devbroker.Options{Dir: t.TempDir()}
		b, err := devbroker.Start(o)
		must(t, err)
		defer func() { b.Close() }()
		cfg := testConfigWith(t, b.Addr(), func(c *Config) { c.Shards = 1 })
		o.Port = portOf(t, b.Addr())
		ownThroughRestarts(t, cfg, 4, func() {
			must(t, b.Close())
			b, err = devbroker.Start(o)
			must(t, err)
		})
	})
	t.Run("kafka", func(t *testing.T) {
		addr, dir := os.Getenv("CORASTREAM_KAFKA"), os.Getenv("CORASTREAM_KAFKA_DIR")
		if addr == "" || dir == "" {
			t.Skip("set CORASTREAM_KAFKA and CORASTREAM_KAFKA_DIR, the folder given to .ci/kafka/kafka.sh, to restart Apache Kafka too")
		}
		ownThroughRestarts(t, testConfigWith(t, addr, func(c *Config) { c.Shards = 1 }), 1, func() {
			out, err := exec.Command(filepath.Join("..", ".ci", "kafka", "kafka.sh"), "restart", dir).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		})
	})
}

func ownThroughRestarts(t *testing.T, cfg Config, restarts int, restart func()) {
	ctx, stop := context.WithCancel(t.Context())
	a := newReplica(t, cfg, 0, "a")
	must(t, a.own(ctx))
	var wrote, trouble atomic.Int64
	done := make(chan error, 1)
	go func() {
		for n := 0; ctx.Err() == nil; n++ {
			if err := a.write(ctx, fmt.Sprint("u:", n), "1", "s:", fmt.Sprint(n)); err != nil {
				done <- err
				return
			}
			wrote.Add(1)
		}
		done <- nil
	}()
	go func() {
		for ctx.Err() == nil {
			if !a.Writing() {
				trouble.Add(1)
			}
			pause(ctx, 1)
		}
	}()
	for range restarts {
		n := wrote.Load()
		until(t, "transactions flow", func() bool { return wrote.Load() > n+20 })
		restart()
		n = wrote.Load()
		until(t, "transactions flow again", func() bool { return wrote.Load() > n+20 })
	}
	stop()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if trouble.Load() == 0 && cfg.Brokers[0] == os.Getenv("CORASTREAM_KAFKA") {
		t.Error("the owner noticed no restart, so this tests nothing")
	}
	r := newReplica(t, cfg, 0, "r")
	must(t, r.follow(t.Context()))
	n := int(wrote.Load())
	if len(r.state) != n+1 && len(r.state) != n+2 { // the last one may have been stopped on its way back
		t.Errorf("%d transactions acknowledged, %d keys", n, len(r.state))
	}
	for i := range n {
		if r.state[fmt.Sprint("u:", i)] == "" {
			t.Errorf("transaction %d was acknowledged and is lost", i)
		}
	}
	if len(r.Void()) > 0 {
		t.Errorf("void %s", r.Void())
	}
}

// TestEveryPartitionsLeaderIsFound: three brokers lead the partitions, and the leaders move.
func TestEveryPartitionsLeaderIsFound(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(3))
	must(t, err)
	defer c.Close()
	cfg := testConfigWith(t, c.ListenAddrs()[0], func(c *Config) { c.Shards = 6 })
	var owners []*replica
	for k := range cfg.Shards {
		owners = append(owners, newReplica(t, cfg, k, "a"))
		must(t, owners[k].own(t.Context()))
	}
	s, err := NewParcelSink(cfg, testLog(t))
	must(t, err)
	defer s.Close()
	seq := uint64(0)
	for turn := range int32(3) {
		var parcels []corastream.Parcel
		for k, o := range owners {
			must(t, c.MoveTopicPartition(cfg.Topics.Embeddings, int32(k), (int32(k)+turn)%3))
			must(t, c.MoveTopicPartition(cfg.Topics.Gradients, int32(k), (int32(k)+2*turn)%3))
			must(t, o.write(t.Context(), fmt.Sprint("u:", turn), "1"))
			for range 3 {
				seq++
				parcels = append(parcels, corastream.Parcel{From: 0, To: int32(k), Seq: seq})
			}
		}
		must(t, s.Send(t.Context(), parcels))
	}
	if len(s.post.conns) != 3 {
		t.Errorf("%d leaders: one would do for this test", len(s.post.conns))
	}
	for k, o := range owners {
		r := newReplica(t, cfg, k, "r")
		must(t, r.follow(t.Context()))
		r.holds(t, "map[u:0:1 u:1:1 u:2:1]")
		if r.next != o.next {
			t.Errorf("shard %d: read to %d, written to %d", k, r.next, o.next)
		}
	}
	if got := consume(t, cfg, cfg.Topics.Gradients); len(got) != int(seq) {
		t.Errorf("%d parcels of %d", len(got), seq)
	}
}
