package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

// TestViewSeesWholeCommitsOnly: a batch of transfers keeps the sum of all biases at zero and gives every user the count of
// batches; readers on other goroutines never see anything else, while the cache is far too small for all records.
func TestViewSeesWholeCommitsOnly(t *testing.T) {
	const users, batches, readers = 60, 150, 3
	c := testConfig()
	s := mustOpen(t, t.TempDir(), c)
	s.users = newCache[userRec](16 * 3000) // about two users in each shard
	ctx := context.Background()
	id := func(i int) string { return fmt.Sprint("u", i) }
	var stop atomic.Bool
	var views atomic.Int64
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			for !stop.Load() {
				err := s.View(ctx, func(st corastream.State) error {
					sum, count := float32(0), uint32(0)
					for i := range users {
						u, err := st.User(id(i))
						if err != nil {
							return err
						}
						if sum += u.Bias; i == 0 {
							count = u.Count
						}
						if u.Count != count || len(u.History) != int(min(count, 256)) || u.Version != uint64(count) {
							return fmt.Errorf("user %d: count %d of %d, %d interactions, version %d", i, u.Count, count, len(u.History), u.Version)
						}
						if len(u.Vec) > 0 && u.Vec[0] != float32(count) {
							return fmt.Errorf("user %d: vector %v at count %d", i, u.Vec[0], count)
						}
						if i%16 == 0 {
							runtime.Gosched()
						}
					}
					shared, err := st.Shared()
					if err != nil {
						return err
					}
					if sum != 0 || shared.Count != count*users {
						return fmt.Errorf("sum %v, shared count %d, user count %d", sum, shared.Count, count)
					}
					return nil
				})
				if err != nil {
					t.Error(err)
					stop.Store(true)
				}
				views.Add(1)
			}
		})
	}
	for n := 0; n < batches && !stop.Load(); n++ {
		var b corastream.Batch
		for i := range users {
			b.Events = append(b.Events, corastream.Event{User: id(i), Item: "i", Weight: 1, Label: float32(i%2*2 - 1)})
		}
		_, err := s.Commit(ctx, b, func(st corastream.State, ev corastream.Event) error {
			u, err := st.User(ev.User)
			if err != nil {
				return err
			}
			if u.Vec == nil {
				u.Vec = make([]float32, 200)
			}
			u.Bias += ev.Label
			u.Count++
			u.Version++
			u.Vec[0] = float32(u.Count)
			shared, err := st.Shared()
			shared.Count++
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if n%10 == 0 { // a settlement is a write too
			if owed, err := s.Owed(7); err != nil {
				t.Fatal(err)
			} else if err := s.Settle(ctx, owed); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop.Store(true)
	wg.Wait()
	st, _ := s.Stats()
	t.Logf("%d views, %d hits, %d misses", views.Load(), st.Hits, st.Misses)
	if st.Misses == 0 || st.Hits == 0 || views.Load() == 0 {
		t.Error("the test did not exercise both cache and disk")
	}
}

// TestLongViewNeitherWaitsNorHoldsBack: commits go on under an open view, which keeps seeing its own state.
func TestLongViewNeitherWaitsNorHoldsBack(t *testing.T) {
	s := mustOpen(t, t.TempDir(), testConfig())
	mustCommit(t, s, run(0, 0, 500, 10, 10))
	err := s.View(context.Background(), func(st corastream.State) error {
		before, err := st.User("u0-0")
		if err != nil {
			return err
		}
		version, length := before.Version, len(before.History)
		items := st.Items()
		for i := int64(1); i < 6; i++ {
			mustCommit(t, s, run(0, 500*i, 500*(i+1), 10, 10*int(i)))
			again, err := st.User("u0-0")
			if err != nil {
				return err
			}
			if again.Version != version || len(again.History) != length || st.Items() != items {
				t.Errorf("after commit %d: version %d, want %d; %d interactions, want %d; %d items, want %d",
					i, again.Version, version, len(again.History), length, st.Items(), items)
			}
			if it, err := st.Item("i45"); err != nil || it.Version != 0 {
				t.Errorf("an item of the future: %+v, %v", it, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestUnknownIDsAreFresh in a view: version 0, and no trace is left.
func TestUnknownIDsAreFresh(t *testing.T) {
	s := mustOpen(t, t.TempDir(), testConfig())
	mustCommit(t, s, run(0, 0, 10, 5, 5))
	before := digest(t, s)
	err := s.View(context.Background(), func(st corastream.State) error {
		u, err := st.User("nobody")
		if err != nil || u.ID != "nobody" || u.Version != 0 || u.History != nil {
			t.Errorf("user %+v, %v", u, err)
		}
		it, err := st.Item("nothing")
		if err != nil || it.ID != "nothing" || it.Version != 0 || int(it.Seq) != st.Items() {
			t.Errorf("item %+v, %v", it, err)
		}
		return nil
	})
	if err != nil || digest(t, s) != before {
		t.Error("a look left a trace", err)
	}
}

// TestClosedStoreSaysSo, whatever is asked of it.
func TestClosedStoreSaysSo(t *testing.T) {
	s := mustOpen(t, t.TempDir(), testConfig())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	ctx := context.Background()
	_, commit := s.Commit(ctx, run(0, 0, 1, 1, 1), biasLearner)
	_, owed := s.Owed(1)
	_, unread := s.Unread(1)
	_, dig := s.Digest()
	_, stats := s.Stats()
	for name, err := range map[string]error{
		"commit": commit, "owed": owed, "unread": unread, "digest": dig, "stats": stats,
		"view":   s.View(ctx, func(corastream.State) error { return nil }),
		"join":   s.Join(ctx, []corastream.Item{{ID: "i"}}),
		"settle": s.Settle(ctx, []corastream.Owed{{User: "u"}}),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSecondProcessIsRefused with the folder's name.
func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	mustOpen(t, dir, testConfig())
	_, err := Open(dir, testConfig())
	var usage *corastream.UsageError
	if !errors.As(err, &usage) || usage.Where != dir {
		t.Errorf("got %v", err)
	}
}

// TestCacheStaysWithinItsBytes and forgets what was not used first.
func TestCacheStaysWithinItsBytes(t *testing.T) {
	c := newCache[int](16 * 1000)
	for i := range 5000 {
		n := i
		c.put(fmt.Sprint(i), &n, 100, nil)
		c.get("0")
	}
	records, bytes := c.usage()
	if bytes > 16*1000 || records != int(bytes/100) || records < 100 {
		t.Errorf("%d records, %d bytes", records, bytes)
	}
	if c.get("0") == nil {
		t.Error("the record in constant use was evicted")
	}
	c.put("big", new(int), 1<<20, nil)
	if c.get("big") != nil {
		t.Error("a record larger than the cache stayed")
	}
}

// TestMemoryStaysWithinTheLimit: with far more state than memory, what is reachable stays below the limit.
func TestMemoryStaysWithinTheLimit(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 60 MB")
	}
	c := testConfig()
	c.MemoryLimit = 32 << 20
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := mustOpen(t, t.TempDir(), c)
	const n = 60_000
	for o := int64(0); o < n; o += 2000 {
		mustCommit(t, s, run(0, o, o+2000, 200_000, 50_000))
	}
	held := int64(math.MaxInt64)
	for range 200 { // until the compactors rest: they take as much again, for moments
		runtime.GC()
		runtime.ReadMemStats(&after)
		if held = int64(after.HeapAlloc) - int64(before.HeapAlloc); held <= c.MemoryLimit {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	st, err := s.Stats()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d users, %d items, %d MB on disk, %d MB held, %d MB of them records", st.Users, st.Items, st.DiskBytes>>20, held>>20, st.CachedBytes>>20)
	if st.CachedBytes > c.records() {
		t.Errorf("%d bytes of cached records, the share is %d", st.CachedBytes, c.records())
	}
	if held > c.MemoryLimit {
		t.Errorf("%d bytes are held, the limit is %d", held, c.MemoryLimit)
	}
	if st.Users < 20_000 || int64(st.Users)*600 < c.records() {
		t.Errorf("%d users do not fill the cache", st.Users)
	}
}
