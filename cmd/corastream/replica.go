package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream/mix"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/serve"
	"github.com/corastream/corastream/store"
)

// replica is a cluster's answering process: its store follows all shards' changelogs, and its debts are those of the partitions that
// the group gives it: requests, and users moved by a shard.
type replica struct {
	*store.Store
	topic  string // of the changelogs
	duties *ingest.Source
	debts  debts
	lag    func() (records int64, known bool)

	mu     sync.Mutex
	caught time.Time // when last nothing was left to read
}

// open opens the store that follows.
func (r *replica) open(cfg Config, log zerolog.Logger) (*store.Store, *mix.Model, error) {
	m, err := newMix(cfg)
	if err != nil {
		return nil, nil, err
	}
	sc := cfg.Store
	sc.UserTTL, sc.SyncWrites = 0, false // the shards forget users, and say so; and what is lost here is read again
	r.topic = cfg.Kafka.Topics.Embeddings
	r.Store, err = store.Open(filepath.Join(cfg.Data, "replica"), sc, store.WithLogger(log), store.WithDerived(m),
		store.WithShard(store.Shard{Index: store.Replica, Of: cfg.Kafka.Shards}))
	return r.Store, m, err
}

// openReplica opens the stages of an answering process. Its state comes from the changelogs, wherever the group's offsets are; what it
// has to do, from the group.
func openReplica(ctx context.Context, cfg Config, log zerolog.Logger, beside *learner) (e *engine, err error) {
	e = &engine{cfg: cfg, log: log, began: time.Now(), replica: &replica{}, learner: beside}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
			e = nil
		}
	}()
	if err = e.openStages(ctx); err != nil {
		return e, err
	}
	r, kc := e.replica, cfg.Kafka
	if err = r.Bind(ctx, "shards", fmt.Sprint(kc.Shards), "give all processes of the cluster one configuration, or use another --data folder"); err != nil {
		return e, corastream.Usagef(cfg.Data, "", "%v", err)
	}
	all := kc
	all.Group = ""
	e.source, err = ingest.NewSource(ctx, all, ingest.Hooks{
		Next: r.Next, Meta: r.Meta, Log: log,
		SetMeta: func(k, v string) error { return r.SetMeta(ctx, k, v) },
		Topics:  []string{kc.Topics.Embeddings},
	})
	if err != nil {
		return e, err
	}
	e.onClose(e.source.Close)
	r.duties, err = ingest.NewSource(ctx, kc, ingest.Hooks{
		Log: log, Topics: []string{kc.Topics.Requests, kc.Topics.Embeddings}, GroupOffsets: true,
		Keep: func(key []byte) bool { return len(key) > 1 && string(key[:2]) == corastream.ChangeUser },
	})
	if err != nil {
		return e, err
	}
	e.onClose(r.duties.Close)
	r.lag = func() (n int64, known bool) {
		lags := e.source.Lag()
		for _, records := range lags {
			n += records
		}
		return n, len(lags) == kc.Shards
	}
	r.debts.init()
	e.pipeline.Source, e.pipeline.Store, e.pipeline.Behind = e.source, r, r.behind
	if e.tracer != nil {
		e.pipeline.Store = e.tracer.Store(r)
	}
	return e, nil
}

// runReplica follows and answers until ctx ends.
func (e *engine) runReplica(ctx context.Context) error {
	e.monitor.Start()
	defer e.judged()
	return e.run(ctx, func(ctx context.Context) error {
		for {
			b, err := e.replica.duties.Next(ctx)
			if err != nil {
				return err
			}
			if len(b.Bad) > 0 {
				if err := e.pipeline.DeadLetters.Bury(ctx, b.Bad); err != nil {
					return err
				}
				e.pipeline.Stats.DeadLetters.Add(int64(len(b.Bad)))
			}
			if err := e.replica.debts.take(b); err != nil {
				return err
			}
			e.replica.report()
			e.pipeline.Wake()
			for e.replica.debts.full() { // the rest waits in Kafka
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(20 * time.Millisecond):
				}
			}
		}
	})
}

// report tells the group how far all is answered.
func (r *replica) report() {
	if spans := r.debts.paid(); len(spans) > 0 {
		r.duties.Committed(spans)
	}
}

// Owed implements corastream.Store by the process's own list. A moved user is owed once the store has the vectors that the debt is
// about: a recommendation from older ones would pay it for nothing.
func (r *replica) Owed(n int) ([]corastream.Owed, error) {
	return r.debts.owed(n, func(pos corastream.Position) (bool, error) {
		next, _, err := r.Next(corastream.Partition{Topic: pos.Topic, ID: pos.Partition})
		return next > pos.Offset, err
	}, r.assigned())
}

// assigned are the partitions that are this process's duty now; what was taken away is somebody else's.
func (r *replica) assigned() map[corastream.Partition]bool {
	out := map[corastream.Partition]bool{}
	for _, p := range r.duties.Assigned() {
		out[p] = true
	}
	return out
}

// Settle implements corastream.Store.
func (r *replica) Settle(_ context.Context, paid []corastream.Owed) error {
	if err := corastream.Failpoint("replica.settle"); err != nil {
		return err
	}
	r.debts.settle(paid)
	r.report()
	return nil
}

// Unread implements corastream.Store: titles are read by the shards that own them.
func (r *replica) Unread(int) ([]corastream.Item, error) { return nil, nil }

// behind says how old the state is.
func (r *replica) behind() *corastream.Behind {
	n, known := r.lag()
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if known && n == 0 {
		r.caught = now
		return &corastream.Behind{}
	}
	if r.caught.IsZero() {
		return &corastream.Behind{Records: n, MS: -1}
	}
	return &corastream.Behind{Records: n, MS: now.Sub(r.caught).Milliseconds()}
}

// check is the replica's condition of readiness: it must have read all there was once; from then on it serves stale rather than not at all.
func (r *replica) check() serve.Check {
	if r.lag == nil {
		return serve.Check{Name: "replica", Why: "opening"}
	}
	b := r.behind()
	c := serve.Check{Name: "replica", OK: b.MS >= 0, Why: fmt.Sprintf("%d records, %d ms behind the shards", b.Records, b.MS)}
	if !c.OK {
		c.Why = fmt.Sprintf("reading the shards' changelogs for the first time: %d records to go", b.Records)
	}
	return c
}

func (r *replica) gauges() []serve.Gauge {
	if r.duties == nil || r.lag == nil {
		return nil
	}
	b := r.behind()
	var ahead int64
	for _, n := range r.duties.Lag() {
		ahead += n
	}
	return []serve.Gauge{
		{Name: "behind_records", Help: "Records of the shards' changelogs not read yet.", Value: float64(b.Records)},
		{Name: "behind_seconds", Help: "Since all changelogs were read to their ends; below 0: never yet.", Value: float64(b.MS) / 1000},
		{Name: "duties_lag", Help: "Requests and moves of this replica's partitions not read yet.", Value: float64(ahead)},
		{Name: "duties_open", Help: "Recommendations that this replica owes.", Value: float64(r.debts.open())},
		{Name: "duties_partitions", Help: "Partitions whose requests or moves are this replica's.", Value: float64(len(r.duties.Assigned()))},
	}
}

// debts are recommendations owed, with the records of the log that asked for them. Nothing of it is on the disk: what is not paid is
// not reported to the group, and whoever has the partition next reads it again.
type debts struct {
	mu       sync.Mutex
	queue    []*debt                           // oldest first
	moved    map[string]*debt                  // by user: not handed out yet
	marks    map[corastream.Partition]*headway // what is read, and what of it is paid
	reported map[corastream.Partition]int64
	covered  int // records that debts cover
	seq      uint64
}

// debtsLimit is how many records of the log a replica's debts may cover at a time: about 10 MB.
const debtsLimit = 1 << 16

func (d *debts) full() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.covered >= debtsLimit
}

// debt covers a request, or all moves of a user until it is handed out.
type debt struct {
	owed   corastream.Owed
	covers []corastream.Position
	handed bool
}

// headway on one partition.
type headway struct {
	next int64   // read up to here
	open []int64 // offsets not paid yet, rising
}

func (d *debts) init() {
	d.moved, d.marks, d.reported = map[string]*debt{}, map[corastream.Partition]*headway{}, map[corastream.Partition]int64{}
}

// open counts the debts.
func (d *debts) open() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.queue)
}

// take notes what a batch of the duties asks for.
func (d *debts) take(b corastream.Batch) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range b.Spans {
		p := d.marks[s.Partition]
		if p == nil || s.From < p.next { // new here, or back after it was elsewhere: what was open is to be read again
			d.forget(s.Partition)
			p = &headway{}
			d.marks[s.Partition] = p
			delete(d.reported, s.Partition)
		}
		p.next = s.To
	}
	for i := range b.Requests {
		q := b.Requests[i]
		d.add(&debt{owed: corastream.Owed{User: q.User, Cause: q.Pos, Request: &q}}, q.Pos)
	}
	for _, c := range b.Changes {
		o, ok, err := store.MovedUser(c)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if before := d.moved[o.User]; before != nil {
			before.owed.Cause = o.Cause
			if o.Oldest.Before(before.owed.Oldest) {
				before.owed.Oldest = o.Oldest
			}
			d.cover(before, c.Pos)
			continue
		}
		one := &debt{owed: o}
		d.moved[o.User] = one
		d.add(one, c.Pos)
	}
	return nil
}

func (d *debts) add(one *debt, pos corastream.Position) {
	d.seq++
	one.owed.Seq = d.seq
	d.queue = append(d.queue, one)
	d.cover(one, pos)
}

func (d *debts) cover(one *debt, pos corastream.Position) {
	one.covers = append(one.covers, pos)
	d.covered++
	if p := d.marks[corastream.Partition{Topic: pos.Topic, ID: pos.Partition}]; p != nil {
		p.open = append(p.open, pos.Offset)
	}
}

// forget drops the debts of a partition that is no longer ours.
func (d *debts) forget(part corastream.Partition) {
	d.queue = slices.DeleteFunc(d.queue, func(one *debt) bool {
		before := len(one.covers)
		one.covers = slices.DeleteFunc(one.covers, func(pos corastream.Position) bool {
			return pos.Topic == part.Topic && pos.Partition == part.ID
		})
		d.covered -= before - len(one.covers)
		if len(one.covers) > 0 {
			return false
		}
		if d.moved[one.owed.User] == one {
			delete(d.moved, one.owed.User)
		}
		return true
	})
	delete(d.marks, part)
}

// owed hands out up to n debts, requests first, each oldest first: those that were handed out before and not settled too.
func (d *debts) owed(n int, ready func(corastream.Position) (bool, error), assigned map[corastream.Partition]bool) ([]corastream.Owed, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for part := range d.marks {
		if !assigned[part] && len(assigned) > 0 {
			d.forget(part)
		}
	}
	var out []corastream.Owed
	for _, requests := range []bool{true, false} {
		for _, one := range d.queue {
			if len(out) == n {
				return out, nil
			}
			if (one.owed.Request != nil) != requests {
				continue
			}
			if !requests && !one.handed {
				ok, err := ready(one.covers[len(one.covers)-1])
				if err != nil {
					return nil, err
				}
				if !ok {
					continue
				}
				one.handed = true
				delete(d.moved, one.owed.User) // later moves are another debt
			}
			out = append(out, one.owed)
		}
	}
	return out, nil
}

// settle takes paid debts off the list.
func (d *debts) settle(paid []corastream.Owed) {
	d.mu.Lock()
	defer d.mu.Unlock()
	done := make(map[uint64]bool, len(paid))
	for _, o := range paid {
		done[o.Seq] = true
	}
	d.queue = slices.DeleteFunc(d.queue, func(one *debt) bool {
		if !done[one.owed.Seq] {
			return false
		}
		d.covered -= len(one.covers)
		for _, pos := range one.covers {
			p := d.marks[corastream.Partition{Topic: pos.Topic, ID: pos.Partition}]
			if p == nil {
				continue
			}
			if i, found := slices.BinarySearch(p.open, pos.Offset); found {
				p.open = slices.Delete(p.open, i, i+1)
			}
		}
		return true
	})
}

// paid gives, for each partition that has moved on, the run of offsets up to the first that is not paid.
func (d *debts) paid() (spans []corastream.Span) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for part, p := range d.marks {
		to := p.next
		if len(p.open) > 0 {
			to = p.open[0]
		}
		if from := d.reported[part]; to > from {
			spans = append(spans, corastream.Span{Partition: part, From: from, To: to})
			d.reported[part] = to
		}
	}
	return spans
}
