package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/corastream/corastream"
	"github.com/dgraph-io/badger/v4"
)

// Shard says which part of a cluster's state the store holds.
type Shard struct {
	// Index is the shard's number in [0,Of), or Replica: a copy of all shards' users and items that learns nothing itself.
	Index, Of int
	// Merger joins what shards learnt apart; a replica needs none.
	Merger corastream.Merger
}

// Replica is the index of a store that follows all shards.
const Replica = -1

// WithShard makes the store one of a cluster's.
func WithShard(sh Shard) Option { return func(s *Store) { s.shard = sh } }

func (sh Shard) on() bool      { return sh.Of > 0 }
func (sh Shard) replica() bool { return sh.on() && sh.Index == Replica }
func (sh Shard) learns() bool  { return sh.on() && sh.Index >= 0 }

// owns says whether the item's vector and catalogue record are written here; alone, everything is.
func (sh Shard) owns(item string) bool {
	return !sh.on() || sh.Index >= 0 && corastream.ItemShard(item, sh.Of) == sh.Index
}

// ownsShared: the first shard owns mu and w.
func (sh Shard) ownsShared() bool { return !sh.on() || sh.Index == 0 }

// Ship makes every transaction from now on go to the changelog first, as owner number epoch. The
// folder must hold what the changelog holds: a Copy has brought it up to its end. Otherwise the
// first transaction would be computed from an older state than the one that readers of the
// changelog have.
func (s *Store) Ship(log corastream.Changelog, epoch uint64) {
	s.writer.Lock()
	defer s.writer.Unlock()
	s.changelog, s.epoch = log, epoch
}

// ship appends a transaction to the changelog and notes in t how far that reaches. Only then may t
// be committed.
//
// The append is where ownership is decided. The changelog is one partition of Kafka, and an owner's
// records are valid until the next owner's claim. Append waits until the record is in the log with
// every in-sync replica, looks at what lies before it, and fails with ErrFenced if another claim
// does. A fenced owner then commits nothing, so its folder never holds a transaction that readers
// ignore.
//
// The note (reach) goes into the same transaction of Badger. It tells a restart at which offset the
// folder's copy of the changelog ends, and which keys are void.
func (s *Store) ship(ctx context.Context, p *part, t *badger.Txn) error {
	if s.changelog == nil {
		return nil
	}
	changes := make([]corastream.Change, len(p.ops))
	for i, o := range p.ops {
		changes[i] = corastream.Change{Epoch: s.epoch, Seq: p.seq, Key: s.shard.changeKey(o.key), Value: o.value}
	}
	next, void, err := s.changelog.Append(ctx, p.seq, changes)
	if err != nil {
		return err
	}
	s.void = void
	key, value := encodeReach(reach{next, s.epoch, p.seq, void})
	return t.Set(key, value)
}

// Beat confirms that this process still owns the shard, and writes again the keys that a former
// owner overwrote after it had lost the shard. Readers ignore such a record, but Kafka's compaction
// keeps the newest record of a key, valid or not, and would delete the valid one. An idle shard
// must therefore beat more often than the compaction lag (1 h).
func (s *Store) Beat(ctx context.Context) error {
	s.writer.Lock()
	if s.failed != nil || s.changelog == nil {
		defer s.writer.Unlock()
		return s.failed
	}
	_, void, err := s.changelog.Append(ctx, 0, nil)
	if err != nil {
		s.failed = err
	}
	s.void = void
	s.writer.Unlock()
	if err != nil || len(void) == 0 {
		return err
	}
	return s.update(ctx, func(w *work) error { return w.close(nil, nil) })
}

// changeKey is the store's key as the changelog has it. Users, the shard's own items and the shared
// vector have keys that other shards and replicas understand. All else, such as offsets and journal
// lines, is "other": only a copy of this very shard reads it.
func (sh Shard) changeKey(key []byte) []byte {
	switch {
	case key[0] == pUser:
		return append([]byte(corastream.ChangeUser), key[1:]...)
	case key[0] == pItem && sh.owns(string(key[1:])):
		return append([]byte(corastream.ChangeItem), key[1:]...)
	case key[0] == pShared && sh.ownsShared():
		return []byte(corastream.ChangeShared)
	}
	return append([]byte(corastream.ChangeOther), key...)
}

// storeKey is the inverse; nil for what no store keeps.
func storeKey(key []byte) []byte {
	kind, rest := changeKind(key)
	switch kind {
	case corastream.ChangeUser:
		return append([]byte{pUser}, rest...)
	case corastream.ChangeItem:
		return append([]byte{pItem}, rest...)
	case corastream.ChangeShared:
		return sharedKey
	case corastream.ChangeOther:
		return rest
	}
	return nil
}

func changeKind(key []byte) (kind string, rest []byte) {
	if len(key) < 2 {
		return "", nil
	}
	return string(key[:2]), key[2:]
}

// rewrite puts what a former owner has overwritten in the changelog into the transaction, as it
// stands in this store (see Beat).
func (w *work) rewrite(p *part) error {
	for _, k := range w.s.void {
		key := storeKey(k)
		if len(key) == 0 {
			continue
		}
		value, err := get(w.sn.txn, key)
		if err != nil {
			return err
		}
		p.ops = append(p.ops, op{key, value})
	}
	return nil
}

// accepted is how far a followed changelog has been taken in: the newest transaction seen, and the
// newest of its step records that was learnt. A record below it is void or has come before. Epochs
// order owners: every record of a later owner is newer than any record of an earlier one, whatever
// their numbers.
type accepted struct {
	epoch, seq   uint64
	taught, part uint64
}

func (a accepted) less(b accepted) bool {
	return a.epoch < b.epoch || a.epoch == b.epoch && a.seq < b.seq
}

// change applies one record of another shard's changelog.
//
// A record of an older epoch than one already seen is void: its writer had lost the shard when it
// wrote. A shard takes over foreign items and the shared vector, which its own events are learnt
// with. A replica takes over users, histories and steps too. It learns nothing itself, so records
// are copied byte by byte where that is possible.
func (w *work) change(c *corastream.Change) error {
	part := corastream.Partition{Topic: c.Pos.Topic, ID: c.Pos.Partition}
	last, known := w.accepted[part]
	if !known {
		var err error
		if last, err = loadAccepted(w.sn.txn, part); err != nil {
			return err
		}
	}
	now := accepted{c.Epoch, c.Seq, last.taught, last.part}
	if now.less(last) {
		return nil // void
	}
	w.accepted[part] = now
	kind, rest := changeKind(c.Key)
	id := string(rest)
	switch kind {
	case corastream.ChangeItem:
		if w.s.shard.owns(id) {
			return nil
		}
		if c.Value == nil { // a later version in this batch has superseded it; the item is known from here on all the same
			_, err := w.item(id)
			return err
		}
		return w.adoptItem(id, c.Value)
	case corastream.ChangeShared:
		if w.s.shard.ownsShared() || c.Value == nil {
			return nil
		}
		from, err := decodeShared(c.Value)
		if err != nil {
			return err
		}
		w.shared.Embedding, w.sharedMark = from.Embedding, cloneEmbedding(&from.Embedding)
	case corastream.ChangeUser:
		if w.s.shard.replica() {
			return w.adoptUser(id, c.Value)
		}
	case corastream.ChangeOther:
		if w.s.shard.replica() && len(rest) > 0 && rest[0] == pOffset && c.Value != nil {
			// A transaction's offsets come behind what it changed, so all of that is adopted when this record is read.
			p, next, err := decodeOffset(rest, c.Value)
			if err != nil {
				return err
			}
			w.out.Reached = append(w.out.Reached, corastream.Reached{Shard: c.Pos.Partition, Span: corastream.Span{Partition: p, To: next}})
			return nil
		}
		if w.s.shard.replica() && len(rest) > 0 && rest[0] == pHistory {
			w.raw(bytes.Clone(rest), c.Value)
		}
		if w.s.shard.replica() && w.steps != nil && len(rest) == 13 && rest[0] == pSteps && c.Value != nil {
			seq, n := binary.BigEndian.Uint64(rest[1:]), uint64(binary.BigEndian.Uint32(rest[9:]))
			if seq < now.taught || seq == now.taught && n < now.part {
				return nil
			}
			now.taught, now.part = seq, n+1
			w.accepted[part] = now
			return w.adoptSteps(rest, c.Value)
		}
	}
	return nil
}

// raw writes a record of another store as it is.
func (w *work) raw(key, value []byte) {
	w.extra = append(w.extra, op{key, bytes.Clone(value)})
	w.charge(1, len(key)+len(value))
}

// adoptSteps takes over what another shard teaches the list model, as a step record of our own.
func (w *work) adoptSteps(key, value []byte) error {
	if _, err := decodeSteps(key, value); err != nil {
		return err
	}
	w.steps.finish()
	w.steps.bodies = append(w.steps.bodies, bytes.Clone(value[:len(value)-4]))
	w.chargeSteps(len(value))
	return nil
}

// adoptItem takes over the owner's record. Its dense index (Seq) stays our own, since every store
// numbers items in the order in which it met them. mark is reset to the vector that was adopted:
// what we learn about the item from now on is the difference to it.
func (w *work) adoptItem(id string, value []byte) error {
	from, err := decodeItem(itemKey(id), value)
	if err != nil {
		return err
	}
	it, err := w.item(id)
	if err != nil {
		return err
	}
	if w.steps != nil && w.s.shard.replica() && !sameRecord(it.rec, from) {
		w.chargeSteps(w.steps.item(&from.Item))
	}
	seq := it.rec.Seq
	it.rec.ItemState, it.rec.listed = from.ItemState, from.listed
	it.rec.ID, it.rec.Seq = strings.Clone(id), seq
	it.mark = cloneEmbedding(&from.Embedding)
	it.edited = true
	w.charge(0, len(value))
	return nil
}

// adoptUser takes over a user's record as it is; nil: the user was erased or forgotten.
func (w *work) adoptUser(id string, value []byte) error {
	key := userKey(id)
	if value != nil {
		if _, _, err := decodeUser(key, value); err != nil {
			return err
		}
	}
	if !w.adopted[id] {
		w.adopted[id] = true
		old, err := get(w.sn.txn, key)
		if err != nil {
			return err
		}
		if old == nil && value != nil {
			w.shared.users++
		} else if old != nil && value == nil {
			w.shared.users--
		}
		w.dropped = append(w.dropped, id)
		if value == nil {
			w.gone = append(w.gone, id)
		}
		w.out.Users = append(w.out.Users, id)
	}
	w.raw(key, value)
	return nil
}

// parcel adds what another shard learnt about vectors that this one owns, once. Parcels are sent
// again after a restart of their sender, so each sender numbers them, and a number that was seen is
// dropped.
func (w *work) parcel(p *corastream.Parcel) error {
	seen, known := w.seen[p.From]
	if !known {
		var err error
		if seen, err = loadSeen(w.sn.txn, p.From); err != nil {
			return err
		}
	}
	if p.Seq <= seen {
		return nil
	}
	w.seen[p.From] = p.Seq
	w.charge(1, 8)
	return w.merge(p.Body)
}

// merge applies a parcel's body: version, a flag with the shared vector's difference, the number of
// items and theirs. A parcel that names an item of another shard is refused as corrupt. Merging it
// here would give the item two owners.
func (w *work) merge(body []byte) error {
	r := reader{b: body}
	if v := r.byte(); v != recordVersion {
		return fmt.Errorf("%w: parcel version %d, this program reads %d", corastream.ErrMismatch, v, recordVersion)
	}
	if r.byte() == 1 {
		d := r.embedding()
		if r.bad || !w.s.shard.ownsShared() {
			return errParcel
		}
		if err := w.s.shard.Merger.MergeShared(&w.shared.Embedding, &d); err != nil {
			return fmt.Errorf("shared vector: %w", err)
		}
	}
	for range r.count(2) {
		id := r.string()
		d := r.embedding()
		if r.bad || !w.s.shard.owns(id) {
			return errParcel
		}
		it, err := w.item(id)
		if err != nil {
			return err
		}
		if err := w.s.shard.Merger.MergeItem(&it.rec.ItemState, &d); err != nil {
			return fmt.Errorf("item %q: %w", id, err)
		}
		it.rec.Touch(timeOf(w.shared.clock)) // a parcel has no times, and comes soon after its events
		w.settle()
	}
	if r.bad || len(r.b) != 0 {
		return errParcel
	}
	return nil
}

var errParcel = fmt.Errorf("%w: the parcel does not decode, or is for another shard", corastream.ErrCorrupt)

// pack leaves in the outbox what this transaction learnt about vectors of other shards. Each
// difference counts from a mark: the vector at the begin of the transaction, or as a change of its
// owner set it meanwhile (adoptItem). The owner adds the difference to whatever the vector has
// become there.
//
// The parcels are part of the transaction. A crash after the commit sends them again, a crash
// before it has not learnt the events.
func (w *work) pack(p *part) error {
	sh := w.s.shard
	if !sh.learns() {
		return nil
	}
	var shared *corastream.Embedding
	if sh.Index != 0 && !same(&w.shared.Embedding, &w.sharedMark) {
		d := sh.Merger.SharedDelta(&w.sharedMark, &w.shared.Embedding)
		shared = &d
	}
	type entry struct {
		id string
		d  corastream.Embedding
	}
	to := map[int][]entry{}
	for _, it := range w.dirtyItems {
		if id := it.rec.ID; !sh.owns(id) && !same(&it.rec.Embedding, &it.mark) {
			q := corastream.ItemShard(id, sh.Of)
			to[q] = append(to[q], entry{id, sh.Merger.ItemDelta(id, &it.mark, &it.rec.Embedding)})
		}
	}
	for q := range sh.Of {
		if q == sh.Index || len(to[q]) == 0 && (q != 0 || shared == nil) {
			continue
		}
		b := []byte{recordVersion, 0}
		if q == 0 && shared != nil {
			b[1] = 1
			b = appendEmbedding(b, shared)
		}
		b = appendUvarint(b, uint64(len(to[q])))
		for i := range to[q] {
			b = appendEmbedding(appendString(b, to[q][i].id), &to[q][i].d)
		}
		key := outboxKey(w.seq(), int32(q))
		if err := w.put(p, key, len(b), func(dst []byte) ([]byte, error) { return append(append(dst, recordVersion), b...), nil }); err != nil {
			return err
		}
		p.parcels = append(p.parcels, corastream.Parcel{From: int32(sh.Index), To: int32(q), Seq: w.seq(), Body: b})
	}
	return nil
}

// putMarks writes how far parcels and changelogs of others have come.
func (w *work) putMarks(p *part) error {
	for _, from := range slices.Sorted(maps.Keys(w.seen)) {
		seq := w.seen[from]
		key := seenKey(from)
		if err := w.put(p, key, 16, func(b []byte) ([]byte, error) { return appendUvarint(append(b, recordVersion), seq), nil }); err != nil {
			return err
		}
	}
	for _, part := range sortedPartitions(w.accepted) {
		a := w.accepted[part]
		key := acceptedKey(part)
		if err := w.put(p, key, 48, func(b []byte) ([]byte, error) {
			return appendUvarints(append(b, recordVersion), a.epoch, a.seq, a.taught, a.part), nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// outbox holds the parcels on their way, in memory as on the disk. A shard owner's goroutine sends
// them while the writer adds more, so it has a lock of its own. It is a leaf: nothing is locked
// under it.
type outbox struct {
	mu      sync.Mutex
	waiting []corastream.Parcel // to be sent, in order
	sent    [][]byte            // keys of those that are, to be deleted by the next transaction
}

func (o *outbox) load(txn *badger.Txn, from int32) error {
	return scan(txn, []byte{pOutbox}, nil, func(key []byte, it *badger.Item) (bool, error) {
		if len(key) != 13 {
			return false, fmt.Errorf("%w: %s", corastream.ErrCorrupt, keyName(key))
		}
		p := corastream.Parcel{From: from, Seq: binary.BigEndian.Uint64(key[1:]), To: int32(binary.BigEndian.Uint32(key[9:]))}
		err := it.Value(func(v []byte) error {
			r, err := open(key, v)
			p.Body = bytes.Clone(r.b)
			return err
		})
		o.waiting = append(o.waiting, p)
		return err == nil, err
	})
}

func (o *outbox) add(list []corastream.Parcel) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting = append(o.waiting, list...)
}

// Outbox gives up to n parcels that are to be sent, in order. They stay until Sent.
func (s *Store) Outbox(n int) []corastream.Parcel {
	s.outbox.mu.Lock()
	defer s.outbox.mu.Unlock()
	return slices.Clone(s.outbox.waiting[:min(n, len(s.outbox.waiting))])
}

// Sent says that the brokers have the first n parcels of the outbox. Their keys are deleted by the
// next transaction and not by one of their own, which would cost a commit for each batch of
// parcels. Until then a restart sends them again, and their receivers drop them.
func (s *Store) Sent(n int) {
	s.outbox.mu.Lock()
	defer s.outbox.mu.Unlock()
	for _, p := range s.outbox.waiting[:n] {
		s.outbox.sent = append(s.outbox.sent, outboxKey(p.Seq, p.To))
	}
	s.outbox.waiting = s.outbox.waiting[n:]
}

// cluster puts into a transaction what only a cluster's store has. The first part of a write also
// deletes the parcels that were sent and repairs void keys.
func (w *work) cluster(p *part) error {
	if !w.s.shard.on() {
		return nil
	}
	if w.lines == 0 {
		w.s.outbox.mu.Lock()
		for _, key := range w.s.outbox.sent {
			p.delete(key)
		}
		w.s.outbox.sent = nil // should this write fail, a restart finds them again
		w.s.outbox.mu.Unlock()
		if err := w.rewrite(p); err != nil {
			return err
		}
	}
	if err := w.pack(p); err != nil {
		return err
	}
	return w.putMarks(p)
}

// MovedUser reads what a user's record in a changelog says about the interactions that no recommendation covers yet: the newest one and
// the time of the oldest of the transaction that wrote the record. ok is false where there is none.
func MovedUser(c corastream.Change) (o corastream.Owed, ok bool, err error) {
	kind, rest := changeKind(c.Key)
	if kind != corastream.ChangeUser || c.Value == nil {
		return o, false, nil
	}
	u, _, err := decodeUser(append([]byte{pUser}, rest...), c.Value)
	if err != nil || len(u.debt.pend) == 0 {
		return o, false, err
	}
	return corastream.Owed{User: u.ID, Cause: u.debt.cause, Oldest: timeOf(u.debt.oldest())}, true, nil
}

// Description is what a changelog's record says to outsiders: the vector of a user, of an item, or what all share.
type Description struct {
	Kind                 string // "user", "item" or "shared"
	ID                   string
	Gone                 bool // forgotten: there is no Embedding
	corastream.Embedding      // Vec and Acc as the learner keeps them (docs/reference/format.md)
	Title                string
	Content              []float32 // c_i
	Interactions         uint64    // of a user, ever
}

// Describe reads a change; ok is false for what only copies of a shard need.
func Describe(c corastream.Change) (t Description, ok bool, err error) {
	kind, rest := changeKind(c.Key)
	t.ID, t.Gone = string(rest), c.Value == nil
	switch kind {
	case corastream.ChangeUser:
		t.Kind = "user"
		if !t.Gone {
			u, _, err := decodeUser(storeKey(c.Key), c.Value)
			if err != nil {
				return t, false, err
			}
			t.Embedding, t.Interactions = u.Embedding, u.total
		}
	case corastream.ChangeItem:
		t.Kind = "item"
		if !t.Gone {
			it, err := decodeItem(storeKey(c.Key), c.Value)
			if err != nil {
				return t, false, err
			}
			t.Embedding, t.Title, t.Content = it.Embedding, it.Title, it.Content
		}
	case corastream.ChangeShared:
		t.Kind = "shared"
		if !t.Gone {
			s, err := decodeShared(c.Value)
			if err != nil {
				return t, false, err
			}
			t.Embedding = s.Embedding
		}
	default:
		return t, false, nil
	}
	return t, true, nil
}

// The keys of a cluster's store.
func outboxKey(seq uint64, to int32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64([]byte{pOutbox}, seq), uint32(to))
}

func seenKey(from int32) []byte { return binary.BigEndian.AppendUint32([]byte{pSeen}, uint32(from)) }

func acceptedKey(p corastream.Partition) []byte {
	return binary.BigEndian.AppendUint32(append([]byte{pAccepted}, p.Topic...), uint32(p.ID))
}

func loadSeen(txn *badger.Txn, from int32) (uint64, error) {
	key := seenKey(from)
	value, err := get(txn, key)
	if err != nil || value == nil {
		return 0, err
	}
	r, err := open(key, value)
	if err != nil {
		return 0, err
	}
	seq := r.uvarint()
	return seq, r.done(key)
}

func loadAccepted(txn *badger.Txn, p corastream.Partition) (a accepted, err error) {
	key := acceptedKey(p)
	value, err := get(txn, key)
	if err != nil || value == nil {
		return a, err
	}
	r, err := open(key, value)
	if err != nil {
		return a, err
	}
	a = r.accepted()
	return a, r.done(key)
}

// accepted reads a mark; one of before there were steps ends early.
func (r *reader) accepted() accepted {
	a := accepted{epoch: r.uvarint(), seq: r.uvarint()}
	if len(r.b) > 0 {
		a.taught, a.part = r.uvarint(), r.uvarint()
	}
	return a
}

// reach is how much of its own changelog a store holds.
type reach struct {
	next       int64
	epoch, seq uint64
	void       [][]byte // keys of the changelog to be written once more
}

var reachKey = []byte{pReach}

func encodeReach(c reach) (key, value []byte) {
	b := appendUvarints(appendVarint([]byte{recordVersion}, c.next), c.epoch, c.seq, uint64(len(c.void)))
	for _, k := range c.void {
		b = appendString(b, string(k))
	}
	return reachKey, seal(reachKey, b)
}

func loadReach(txn *badger.Txn) (c reach, err error) {
	value, err := get(txn, reachKey)
	if err != nil || value == nil {
		return reach{next: -1}, err
	}
	r, err := open(reachKey, value)
	if err != nil {
		return c, err
	}
	c = reach{next: r.varint(), epoch: r.uvarint(), seq: r.uvarint()}
	for range r.count(1) {
		c.void = append(c.void, []byte(r.string()))
	}
	return c, r.done(reachKey)
}

func checkMarks(key, v []byte) error {
	r, err := open(key, v)
	if err != nil {
		return err
	}
	switch key[0] {
	case pSeen:
		r.uvarint()
	case pAccepted:
		r.accepted()
	case pReach:
		r.varint()
		r.uvarint()
		r.uvarint()
		for range r.count(1) {
			_ = r.string()
		}
	case pOutbox:
		if len(key) != 13 {
			return errKey
		}
		return nil
	}
	return r.done(key)
}
