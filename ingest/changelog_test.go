package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/corastream/corastream"
)

// sharded are brokers with the topics of a cluster of n shards.
func sharded(t *testing.T, n int, test func(t *testing.T, cfg Config)) {
	eachBroker(t, func(t *testing.T, cfg Config) {
		test(t, testConfigWith(t, cfg.Brokers[0], func(c *Config) { c.Shards = n }))
	})
}

// replica is a copy of a shard's state, as a process keeps it: what it knows, and up to where.
type replica struct {
	*Changelog
	state map[string]string
	next  int64
	seq   uint64
}

func newReplica(t *testing.T, cfg Config, shard int, member string) *replica {
	t.Helper()
	c, err := OpenChangelog(cfg, shard, member, testLog(t))
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return &replica{Changelog: c, state: map[string]string{}, next: -1}
}

func (r *replica) apply(changes []corastream.Change) {
	for _, ch := range changes {
		if isClaim(ch.Key) {
			continue
		}
		if ch.Value == nil {
			delete(r.state, string(ch.Key))
		} else {
			r.state[string(ch.Key)] = string(ch.Value)
		}
	}
}

func (r *replica) follow(ctx context.Context) (err error) {
	r.next, err = r.Read(ctx, r.next, func(changes []corastream.Change) error { r.apply(changes); return nil })
	_, r.seq = r.LastSeen()
	return err
}

// own follows and claims until the shard is ours.
func (r *replica) own(ctx context.Context) error {
	for {
		if err := r.follow(ctx); err != nil {
			return err
		}
		err := r.Claim(ctx, r.next)
		if err == nil {
			r.next, r.seq = r.next+1, 0
			return nil
		}
		if !errors.Is(err, corastream.ErrFenced) {
			return err
		}
	}
}

// write appends a transaction, and applies it when it counts. Void keys are written with it, as an owner has to.
func (r *replica) write(ctx context.Context, kv ...string) error {
	var changes []corastream.Change
	add := func(k, v string) {
		ch := corastream.Change{Key: []byte(k)}
		if v != "" {
			ch.Value = []byte(v)
		}
		changes = append(changes, ch)
	}
	for _, k := range r.Void() {
		if !slices.Contains(kv, string(k)) {
			add(string(k), r.state[string(k)])
		}
	}
	for i := 0; i+1 < len(kv); i += 2 {
		add(kv[i], kv[i+1])
	}
	next, _, err := r.Append(ctx, r.seq+1, changes)
	if err != nil {
		return err
	}
	r.next, r.seq = next, r.seq+1
	r.apply(changes)
	return nil
}

func (r *replica) holds(t *testing.T, want string) {
	t.Helper()
	if got := fmt.Sprint(r.state); got != want {
		t.Errorf("state %s, want %s", got, want)
	}
}

func TestAShardIsRebuiltFromItsChangelog(t *testing.T) {
	sharded(t, 3, func(t *testing.T, cfg Config) {
		a, ctx := newReplica(t, cfg, 2, "a"), t.Context()
		must(t, a.own(ctx))
		for i := range 20 {
			must(t, a.write(ctx, "u:x", fmt.Sprint(i), fmt.Sprint("i:", i%4), fmt.Sprint("v", i)))
		}
		must(t, a.write(ctx, "u:x", "", "s:", "mu"))
		want := "map[i:0:v16 i:1:v17 i:2:v18 i:3:v19 s::mu]"
		a.holds(t, want)
		b := newReplica(t, cfg, 2, "b")
		must(t, b.follow(ctx))
		b.holds(t, want)
		if e, s := b.LastSeen(); e != 1 || s != 21 || b.next != a.next {
			t.Errorf("epoch %d, transaction %d, offset %d of %d", e, s, b.next, a.next)
		}
		// From an offset on, as after a restart.
		must(t, a.write(ctx, "u:y", "1"))
		again := newReplica(t, cfg, 2, "b")
		again.Seen(b.LastSeen())
		again.state, again.next = b.state, b.next
		must(t, again.follow(ctx))
		again.holds(t, "map[i:0:v16 i:1:v17 i:2:v18 i:3:v19 s::mu u:y:1]")
		if other := newReplica(t, cfg, 1, "c"); other.follow(ctx) != nil || len(other.state) > 0 {
			t.Errorf("another shard holds %v", other.state)
		}
	})
}

func TestAnOwnerThatWasFollowedIsFenced(t *testing.T) {
	sharded(t, 1, func(t *testing.T, cfg Config) {
		ctx := t.Context()
		a, b := newReplica(t, cfg, 0, "a"), newReplica(t, cfg, 0, "b")
		must(t, a.own(ctx))
		must(t, a.write(ctx, "u:1", "a1", "u:2", "a1"))
		must(t, b.own(ctx))
		// Whoever read before that can not claim, and still knows up to where it has read.
		late := newReplica(t, cfg, 0, "late")
		late.Seen(1, 1)
		if err := late.Claim(ctx, a.next); !errors.Is(err, corastream.ErrFenced) {
			t.Errorf("a claim from before another one: %v", err)
		}
		if e, s := late.LastSeen(); e != 1 || s != 1 {
			t.Errorf("after a lost claim: epoch %d, transaction %d", e, s)
		}
		// a does not know yet.
		err := a.write(ctx, "u:1", "lost", "u:3", "lost")
		if !errors.Is(err, corastream.ErrFenced) || !strings.Contains(err.Error(), `"b" claimed epoch 2`) {
			t.Fatalf("a former owner wrote: %v", err)
		}
		if err := a.write(ctx, "u:1", "lost"); !errors.Is(err, errUnclaimed) {
			t.Errorf("and again: %v", err)
		}
		_, void, err := b.Append(ctx, 0, nil) // writes nothing
		must(t, err)
		if got := fmt.Sprintf("%s", void); got != "[u:1 u:3]" {
			t.Errorf("an idle owner is told of %s", got)
		}
		next, void, err := b.Append(ctx, 1, []corastream.Change{{Key: []byte("u:2"), Value: []byte("b1")}})
		must(t, err)
		b.next, b.seq = next, 1
		b.apply([]corastream.Change{{Key: []byte("u:2"), Value: []byte("b1")}})
		if got := fmt.Sprintf("%s", void); got != "[u:1 u:3]" {
			t.Errorf("void keys %s", got)
		}
		must(t, b.write(ctx, "u:4", "b2"))
		if v := b.Void(); len(v) > 0 {
			t.Errorf("still void: %s", v)
		}
		want := "map[u:1:a1 u:2:b1 u:4:b2]"
		b.holds(t, want)
		c := newReplica(t, cfg, 0, "c")
		must(t, c.follow(ctx))
		c.holds(t, want)
		must(t, a.own(ctx)) // reads on from where it was
		a.holds(t, want)
		must(t, a.write(ctx, "u:1", "a3"))
		if _, _, err := b.Append(ctx, 0, nil); !errors.Is(err, corastream.ErrFenced) {
			t.Errorf("b without writing: %v", err)
		}
		must(t, b.own(ctx))
		must(t, a.own(ctx))
		if err := b.write(ctx, "u:9", "lost"); !errors.Is(err, corastream.ErrFenced) {
			t.Errorf("b after a came back: %v", err)
		}
	})
}
