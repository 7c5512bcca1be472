package store

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/corastream/corastream"
	"github.com/dgraph-io/badger/v4"
)

// part is one transaction of a write: the encoded keys and values, and what changes in memory once
// they are on the disk. A batch that is too large for one transaction becomes several parts.
type part struct {
	ops []op
	// What changes beside the records once it is on the disk.
	next map[corastream.Partition]int64

	seq     uint64 // its journal line
	parcels []corastream.Parcel
	steps   []op // those of ops that teach the list model
}

// op sets a key, or deletes it when value is nil.
type op struct{ key, value []byte }

// Commit applies a batch in one transaction, or in several of whole events when it would write more
// than Config.MaxDirty keys or a seventh of a memtable. The state after each of them is one that a
// crash may leave behind: vectors, histories, ids, debts, offsets and the journal line always
// agree. If learn or the encoding of a record fails, nothing is written.
//
// The steps are in this order. The disk guard waits for room first, because a full disk must stop
// the log and not fail it. The writer's turn comes next and lasts to the end, so that journal lines
// are numbered in the order of commits. Then apply works on copies, write brings them to the disk,
// and only then do readers see them.
func (s *Store) Commit(ctx context.Context, b corastream.Batch, learn func(corastream.State, corastream.Event) error) (corastream.Commit, error) {
	if err := s.guard.wait(ctx); err != nil {
		return corastream.Commit{}, err
	}
	sn, unlock, err := s.lock()
	if err != nil {
		return corastream.Commit{}, err
	}
	defer unlock()
	w := newWork(s, sn)
	if err := w.apply(&b, learn); err != nil {
		// The copies are thrown away. The sets of met items are the one thing outside of them that
		// apply changes.
		w.forgetMet()
		return corastream.Commit{}, fmt.Errorf("store: %w", err)
	}
	if err := s.write(ctx, sn, w); err != nil {
		w.forgetMet()
		return corastream.Commit{}, err
	}
	w.out.Seq = sn.seq + uint64(w.lines)
	return w.out, s.sweepSome(ctx)
}

// update runs a small write: change fills transactions, as Commit does with a batch.
func (s *Store) update(ctx context.Context, change func(*work) error) error {
	if err := s.guard.wait(ctx); err != nil {
		return err
	}
	sn, unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	w := newWork(s, sn)
	if err := change(w); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return s.write(ctx, sn, w)
}

// lock takes the writer's turn and returns the current snapshot, which stays while the turn lasts.
//
// After a failed write every turn is refused with ErrFailed. The disk then holds whole commits, but
// nobody knows whether the last one is among them, so memory may be a commit behind. A store that
// went on would write its next commit over a state that it does not know. Opening again reads the
// truth from the disk.
func (s *Store) lock() (*snap, func(), error) {
	s.writer.Lock()
	if s.failed != nil {
		defer s.writer.Unlock()
		return nil, nil, fmt.Errorf("%w: %w", ErrFailed, s.failed)
	}
	sn, err := s.acquire()
	if err != nil {
		s.writer.Unlock()
		return nil, nil, err
	}
	s.arena.reset(s.cfg.arena())
	return sn, func() { sn.release(); s.writer.Unlock() }, nil
}

// apply learns a whole batch and leaves its transactions in parts.
//
// The order within a batch is fixed, since equal batches must give equal bytes: changes of other
// shards, their parcels, catalogue records, events, requests. Catalogue records come before events,
// so that an event about a new item of the same batch finds its record. The plan passes by what an
// earlier commit has applied: a batch that comes again after a crash changes nothing.
func (w *work) apply(b *corastream.Batch, learn func(corastream.State, corastream.Event) error) error {
	if w.list.known && w.steps == nil && len(b.Items)+len(b.Events) > 0 {
		return fmt.Errorf("%w: %s is with a list model, which this program did not give it", corastream.ErrMismatch, w.s.dir)
	}
	p, err := newPlan(*b, w.sn.offsets)
	if err != nil {
		return err
	}
	for i := range b.Changes {
		if c := &b.Changes[i]; p.fresh(c.Pos) {
			if err := w.change(c); err != nil {
				return fmt.Errorf("change %s:%d@%d: %w", c.Pos.Topic, c.Pos.Partition, c.Pos.Offset, err)
			}
		}
	}
	for i := range b.Parcels {
		if c := &b.Parcels[i]; p.fresh(c.Pos) {
			if err := w.parcel(c); err != nil {
				return fmt.Errorf("parcel %d of shard %d: %w", c.Seq, c.From, err)
			}
		}
	}
	for i := range b.Items {
		if p.fresh(b.Items[i].Pos) && w.s.shard.owns(b.Items[i].ID) {
			if err := w.upsert(&b.Items[i]); err != nil {
				return fmt.Errorf("item %q: %w", b.Items[i].ID, err)
			}
		}
		if err := w.border(p, b, i+1, 0, 0); err != nil {
			return err
		}
	}
	for i := range b.Events {
		ev := &b.Events[i]
		learnt := false
		if p.fresh(ev.Pos) {
			if learnt, err = w.event(*ev, learn); err != nil {
				return fmt.Errorf("event %s:%d@%d of user %q, item %q: %w",
					ev.Pos.Topic, ev.Pos.Partition, ev.Pos.Offset, ev.User, ev.Item, err)
			}
		}
		if learnt {
			w.out.Learnt++
		} else {
			w.out.Duplicates++
		}
		if err := w.border(p, b, len(b.Items), i+1, 0); err != nil {
			return err
		}
	}
	for i := range b.Requests {
		if r := &b.Requests[i]; p.fresh(r.Pos) {
			w.requests = append(w.requests, r)
			w.charge(1, requestSize(r))
		}
		if err := w.border(p, b, len(b.Items), len(b.Events), i+1); err != nil {
			return err
		}
	}
	spans, next, _ := p.part(everything)
	if len(spans) == 0 && len(next) == 0 && !w.any() {
		return nil // all of it was applied before: not a byte changes
	}
	return w.close(&Line{Kind: KindEvents, Spans: spans}, next)
}

// border ends the transaction being filled when the next event might not fit. The first n items,
// events and requests of the batch are in.
//
// A cut is possible only where the offsets can say so. Offsets are positions in each partition, and
// a part may end only if everything of each partition up to its position is in, and nothing behind
// it. The plan knows these places.
func (w *work) border(p *plan, b *corastream.Batch, items, events, requests int) error {
	if !w.full() {
		return nil
	}
	if slices.ContainsFunc(b.Items[items:], func(it corastream.Item) bool { return it.Pos.Topic == "" }) {
		return nil // whose spans they belong to is not known: none may be closed before they are in
	}
	if items == len(b.Items) && events == len(b.Events) && requests == len(b.Requests) {
		return nil // the last one closes anyway
	}
	spans, next, ok := p.part(positions(b, items, events, requests))
	if !ok {
		return nil // not a place to cut; the transaction grows on, and is refused whole should it grow too big
	}
	if err := w.close(&Line{Kind: KindEvents, Spans: spans}, next); err != nil {
		return err
	}
	w.reopen()
	return nil
}

// maxKeys and maxBytes leave a seventh of what Badger takes for one more event and what goes with every transaction.
func (s *Store) maxKeys() int {
	return min(corastream.FailpointLimit("MAX_DIRTY", s.cfg.MaxDirty), int(s.db.MaxBatchCount()*6/7))
}

func (s *Store) maxBytes() int {
	n := int(s.db.MaxBatchSize() * 6 / 7)
	if s.shard.learns() {
		n = min(n, maxShipped)
	}
	return n
}

// maxShipped bounds a shard's transaction, which is one record batch of its changelog.
const maxShipped = 8 << 20

// any says whether the transaction would write anything but offsets. A batch that was applied
// before then leaves not a byte.
func (w *work) any() bool {
	return len(w.requests) > 0 || len(w.extra) > 0 || len(w.accepted) > 0 || len(w.seen) > 0 ||
		slices.ContainsFunc(w.dirtyUsers, (*userWork).changed) || slices.ContainsFunc(w.dirtyItems, (*itemWork).changed) ||
		w.sharedChanged()
}

func (w *work) sharedChanged() bool {
	return w.shared.clock != w.sn.shared.clock || w.shared.items != w.sn.shared.items || w.shared.users != w.sn.shared.users ||
		w.shared.first != w.sn.shared.first ||
		!same(&w.shared.Embedding, &w.sn.shared.Embedding)
}

func (u *userWork) changed() bool {
	if u.base == nil {
		return u.learnt || !same(&u.rec.Embedding, &corastream.Embedding{})
	}
	return u.learnt || u.paid || u.again || !same(&u.rec.Embedding, &u.base.Embedding)
}

func (it *itemWork) changed() bool {
	return it.base == nil || it.edited || it.again || !same(&it.rec.Embedding, &it.base.Embedding)
}

// reopen starts the next transaction after one that was closed. What that one wrote is what the
// disk will hold, so each written record becomes the base that the next part is compared with.
//
// From here on base and rec share their vectors, and a comparison would find them equal whatever
// the next part learns. again marks such a record: once it is touched it is written, changed or
// not.
func (w *work) reopen() {
	for _, u := range w.dirtyUsers {
		if u.changed() {
			base := *u.rec
			u.base, u.stale, u.again = &base, nil, true
		}
	}
	for _, it := range w.dirtyItems {
		if it.changed() {
			base := *it.rec
			it.base, it.again = &base, true
		}
	}
	w.part++
	w.keys, w.bytes, w.stepKeys = 0, 0, 0
	if w.s.shard.on() {
		w.sharedMark = cloneEmbedding(&w.shared.Embedding)
		clear(w.accepted)
		clear(w.seen)
	}
	w.dirtyUsers, w.dirtyItems, w.requests = nil, nil, nil
}

// close encodes the transaction with its journal line. line nil stands for a note, which is written
// only if there is anything to write. Every transaction has a line, so that a hole in the
// write-ahead files shows as a missing number (checkJournal).
//
// trimJournal moves the number of the first line, which the shared record holds, so the shared
// record is encoded after it.
func (w *work) close(line *Line, next map[corastream.Partition]int64) error {
	p := part{next: next, seq: w.seq(), ops: w.extra}
	w.extra = nil
	if err := w.cluster(&p); err != nil {
		return err
	}
	for _, u := range w.dirtyUsers {
		if u.changed() {
			if err := w.putUser(&p, u); err != nil {
				return fmt.Errorf("user %q: %w", u.rec.ID, err)
			}
		}
	}
	for _, it := range w.dirtyItems {
		if it.changed() {
			if err := w.putItem(&p, it); err != nil {
				return fmt.Errorf("item %q: %w", it.rec.ID, err)
			}
		}
	}
	for _, r := range w.requests {
		if err := w.putRequest(&p, r); err != nil {
			return fmt.Errorf("request %q: %w", r.ID, err)
		}
	}
	if err := w.putSteps(&p); err != nil {
		return err
	}
	w.trimJournal(&p)
	if w.sharedChanged() {
		if !finite(w.shared.Vec) || !finite(w.shared.Acc) || w.shared.Bias-w.shared.Bias != 0 {
			return fmt.Errorf("shared vector: %w", errNotFinite)
		}
		err := w.put(&p, sharedKey, 8*len(w.shared.Vec)+64, func(b []byte) ([]byte, error) { return w.shared.encode(b), nil })
		if err != nil {
			return fmt.Errorf("shared vector: %w", err)
		}
	}
	for _, part := range sortedPartitions(next) {
		to := next[part]
		err := w.put(&p, offsetKey(part), 16, func(b []byte) ([]byte, error) { return appendVarint(append(b, recordVersion), to), nil })
		if err != nil {
			return err
		}
	}
	if line == nil {
		if len(p.ops) == 0 {
			return nil
		}
		line = &Line{Kind: kindNote}
	}
	if err := w.trimSteps(&p, max(w.trimMost, trimKeys+2*len(p.steps))); err != nil {
		return err
	}
	line.Seq, line.At = w.seq(), w.s.now()
	if err := w.put(&p, journalKey(line.Seq), 64, line.encode); err != nil {
		return fmt.Errorf("journal line of %d spans and %d items: %w", len(line.Spans), len(line.Items), err)
	}
	w.lines++
	w.parts = append(w.parts, p)
	return nil
}

// trimJournal deletes lines past the limit, a few more than come in when the limit was lowered.
func (w *work) trimJournal(p *part) {
	if w.s.cfg.JournalLimit == 0 {
		return
	}
	for range 4 {
		if w.shared.first+uint64(w.s.cfg.JournalLimit) > w.seq() {
			return
		}
		p.delete(journalKey(w.shared.first))
		w.shared.first++
	}
}

// write brings the parts to the disk and then lets readers see them. Called with the writer's lock.
//
// All transactions are filled before the first is committed, so a batch that does not fit changes
// nothing. Then each part goes through the same gate: a shard first appends it to its changelog
// (ship), and only then does Badger commit it. A kill between the two leaves a changelog that is
// ahead of the folder, and the next owner reads on from there. The other order could lose a commit
// that others never saw.
//
// An error from here on leaves it open what the disk holds, so the store fails for good (see lock).
// After the last part the list model learns from the step records, the snapshot is made and
// installed, the parcels go to the outbox, and a table file may begin.
func (s *Store) write(ctx context.Context, sn *snap, w *work) error {
	if len(w.parts) == 0 {
		return nil
	}
	txns := make([]*badger.Txn, 0, len(w.parts))
	defer func() {
		for _, t := range txns {
			t.Discard()
		}
	}()
	offsets := map[corastream.Partition]int64{}
	for _, p := range w.parts {
		t := s.db.NewTransaction(true)
		txns = append(txns, t)
		if err := p.fill(t); err != nil {
			// Badger would commit the part that did fit: the transaction is thrown away instead.
			return fmt.Errorf("store: %d keys in one transaction: %w (fix: raise store.memory_limit_bytes, or send smaller batches)",
				len(p.ops), err)
		}
		for part, to := range p.next {
			offsets[part] = to
		}
	}
	for i, t := range txns {
		err := corastream.Failpoint("store.commit")
		if err == nil {
			err = s.ship(ctx, &w.parts[i], t)
		}
		if err == nil {
			err = t.Commit()
		}
		if err == nil {
			err = corastream.Failpoint("store.committed")
		}
		if err != nil {
			s.failed = err
			return fmt.Errorf("store: commit: %w", err)
		}
	}
	if err := s.learnSteps(w); err != nil {
		s.failed = err
		return fmt.Errorf("store: list model: %w", err)
	}
	shared := w.shared // a copy: a pointer into w would keep w alive, w its snapshot, and that all earlier ones
	// The snapshot's transaction is opened after the commits, so it reads what they wrote.
	next := &snap{
		epoch: sn.epoch + 1, txn: s.db.NewTransaction(false), shared: &shared, offsets: sn.withOffsets(offsets),
		seq: sn.seq + uint64(w.lines),
	}
	s.hold(next)
	s.install(next, w)
	for i := range w.parts {
		s.outbox.add(w.parts[i].parcels)
	}
	s.saveDue()
	return corastream.Failpoint("store.installed")
}

// fill puts the part's keys into a Badger transaction. The entries are in one slice, since Badger
// keeps pointers to them until the commit.
func (p *part) fill(t *badger.Txn) error {
	entries := make([]badger.Entry, len(p.ops))
	for i, o := range p.ops {
		if o.value == nil {
			if err := t.Delete(o.key); err != nil {
				return err
			}
			continue
		}
		entries[i] = badger.Entry{Key: o.key, Value: o.value}
		if err := t.SetEntry(&entries[i]); err != nil {
			return err
		}
	}
	return nil
}

// install makes the new state current. Called with the writer's lock.
//
// Readers take no lock, so the order matters. The caches come first: a new record has since = the
// new epoch, and a reader of the old snapshot passes it by and reads its own transaction. pending
// is set before them, so that a slow reader of the old epoch can no longer put an old record over a
// new one. Last, under the queues' lock, the queues and the snapshot change together. Owed takes
// both under that lock, and so never sees a debt without the vectors that it is about.
func (s *Store) install(next *snap, w *work) {
	s.bySeq.grow(next.shared.items)
	s.pending.Store(next.epoch) // from here on no reader of the old epoch caches what it reads
	maps.Copy(s.erased, hashes(w.erasures))
	for _, id := range w.dropped {
		s.users.remove(id)
		if s.derived != nil {
			s.derived.met.drop(id)
		}
	}
	for _, u := range w.writtenUsers {
		u.rec.since = next.epoch
		s.users.put(u.rec.ID, u.rec, u.rec.cost(), nil)
	}
	for _, it := range w.writtenItems {
		it.rec.since = next.epoch
		s.items.put(it.rec.ID, it.rec, it.rec.cost(), nil)
	}
	s.queue.mu.Lock()
	s.queue.apply(&w.changes)
	s.publish(next)
	s.queue.mu.Unlock()
	if s.forgotten != nil {
		for _, id := range w.gone {
			s.forgotten(id)
		}
	}
}
