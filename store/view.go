package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/corastream/corastream"
	"github.com/dgraph-io/badger/v4"
)

// ErrClosed says that the store was closed.
var ErrClosed = errors.New("store: closed")

// snap is the state after one commit: a Badger read transaction and, beside it, the epoch that
// tells which cached records belong to it. A record in the cache is valid here when it became
// current at or before this epoch (since); a newer one, or none, sends the reader to the
// transaction. So readers hold no lock, and see whole commits only.
//
// refs counts the readers and the store's own reference. The last release discards the transaction;
// Badger keeps the old versions of keys until then.
type snap struct {
	epoch   uint64
	txn     *badger.Txn
	shared  *sharedRec
	offsets map[corastream.Partition]int64
	seq     uint64 // the last journal line
	refs    atomic.Int32
	readers *sync.WaitGroup // of the whole store, for Close
}

func (sn *snap) release() {
	if sn.refs.Add(-1) == 0 {
		sn.txn.Discard()
		sn.readers.Done()
	}
}

// hold gives a new snapshot its first reference, the store's own.
func (s *Store) hold(sn *snap) {
	s.readers.Add(1)
	sn.readers = &s.readers
	sn.refs.Store(1)
}

// acquire returns the current snapshot; the caller releases it. The reference is taken under
// snapMu, so publish can not release the last one in between.
func (s *Store) acquire() (*snap, error) {
	s.snapMu.Lock()
	defer s.snapMu.Unlock()
	if s.snap == nil {
		return nil, ErrClosed
	}
	s.snap.refs.Add(1)
	return s.snap, nil
}

// publish makes the state after a write the current one and gives up the store's reference to the
// one before. Readers that hold it go on with it. Called with the writer's lock.
func (s *Store) publish(sn *snap) {
	s.snapMu.Lock()
	old := s.snap
	s.snap = sn
	s.snapMu.Unlock()
	old.release()
}

// View runs read over one consistent state. The records it hands out are shared: they must not be changed, and may be
// kept after read returns.
func (s *Store) View(ctx context.Context, read func(corastream.State) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	sn, err := s.acquire()
	if err != nil {
		return err
	}
	defer sn.release()
	return read(&view{s, sn})
}

// view is a snapshot as a State.
type view struct {
	s *Store
	*snap
}

func (v *view) Shared() (*corastream.Embedding, error) { return &v.shared.Embedding, nil }

func (v *view) Items() int { return int(v.shared.items) }

func (v *view) User(id string) (*corastream.UserState, error) {
	u, err := v.s.user(v.snap, id)
	if err != nil {
		return nil, err
	}
	if u == nil {
		return &corastream.UserState{ID: id}, nil
	}
	return &u.UserState, nil
}

// Item of an unknown id is fresh and has the Seq that the next new item will get.
func (v *view) Item(id string) (*corastream.ItemState, error) {
	it, err := v.s.item(v.snap, id)
	if err != nil {
		return nil, err
	}
	if it == nil {
		return &corastream.ItemState{Item: corastream.Item{ID: id}, Seq: v.shared.items}, nil
	}
	return &it.ItemState, nil
}

func (v *view) ItemAt(seq uint32) (*corastream.ItemState, error) {
	it, err := v.s.itemAt(v.snap, seq)
	if err != nil {
		return nil, err
	}
	return &it.ItemState, nil
}

// user returns the record in a snapshot, nil when unknown or silent for longer than the TTL.
//
// A record read from the disk goes into the cache only while this snapshot is the newest (pending).
// A slow reader of an older one would otherwise put an old record in the place of a newer one, with
// a since that makes it look valid.
func (s *Store) user(sn *snap, id string) (*userRec, error) {
	u := s.users.get(id)
	if u == nil || u.since > sn.epoch {
		var err error
		if u, err = loadUser(sn.txn, id); err != nil || u == nil {
			return nil, err
		}
		u.since = sn.epoch
		s.users.put(id, u, u.cost(), func() bool { return s.pending.Load() == sn.epoch })
	}
	if s.expired(u, sn.shared.clock) {
		return nil, nil
	}
	return u, nil
}

func (s *Store) expired(u *userRec, clock int64) bool {
	return s.cfg.UserTTL > 0 && u.last != noTime && clock-u.last > int64(s.cfg.UserTTL)
}

// item returns the record in a snapshot, nil when unknown.
func (s *Store) item(sn *snap, id string) (*itemRec, error) {
	if it := s.items.get(id); it != nil && it.since <= sn.epoch {
		return it, nil
	}
	it, err := loadItem(sn.txn, id)
	if err != nil || it == nil {
		return nil, err
	}
	if it.Seq >= sn.shared.items {
		return nil, fmt.Errorf("%w: item %q has index %d of %d", corastream.ErrCorrupt, id, it.Seq, sn.shared.items)
	}
	it.since = sn.epoch
	s.items.put(id, it, it.cost(), func() bool { return s.pending.Load() == sn.epoch })
	return it, nil
}

func (s *Store) itemAt(sn *snap, seq uint32) (*itemRec, error) {
	if seq >= sn.shared.items {
		return nil, fmt.Errorf("%w: item index %d of %d", corastream.ErrUnknown, seq, sn.shared.items)
	}
	if it := s.bySeq.at(seq).Load(); it != nil && it.since <= sn.epoch {
		return it, nil
	}
	id, err := loadSeq(sn.txn, seq)
	if err != nil {
		return nil, err
	}
	it, err := s.item(sn, id)
	if err == nil && it == nil {
		err = fmt.Errorf("%w: item %q at index %d has no record", corastream.ErrCorrupt, id, seq)
	}
	return it, err
}

func loadSeq(txn *badger.Txn, seq uint32) (string, error) {
	key := seqKey(pSeq, seq)
	value, err := get(txn, key)
	if err != nil {
		return "", err
	}
	if value == nil {
		return "", fmt.Errorf("%w: %s is missing", corastream.ErrCorrupt, keyName(key))
	}
	return decodeString(key, value)
}

func decodeString(key, value []byte) (string, error) {
	r, err := open(key, value)
	if err != nil {
		return "", err
	}
	str := r.string()
	return str, r.done(key)
}

func loadItem(txn *badger.Txn, id string) (*itemRec, error) {
	key := itemKey(id)
	value, err := get(txn, key)
	if err != nil || value == nil {
		return nil, err
	}
	return decodeItem(key, value)
}

// loadUser reads a user with the whole history.
func loadUser(txn *badger.Txn, id string) (*userRec, error) {
	key := userKey(id)
	value, err := get(txn, key)
	if err != nil || value == nil {
		return nil, err
	}
	return assembleUser(txn, key, value)
}

// assembleUser joins the record with its finished history blocks.
func assembleUser(txn *badger.Txn, key, value []byte) (*userRec, error) {
	u, kept, err := decodeUser(key, value)
	if err != nil || kept == len(u.History) {
		return u, err
	}
	tail := u.History
	u.History = make([]corastream.Interaction, 0, kept+16)
	first := u.total - uint64(kept)
	for n := uint32(first / blockLen); n < uint32(u.total/blockLen); n++ {
		bkey := historyKey(u.ID, n)
		value, err := get(txn, bkey)
		if err != nil {
			return nil, err
		}
		if value == nil {
			return nil, fmt.Errorf("%w: %s is missing", corastream.ErrCorrupt, keyName(bkey))
		}
		at, list, err := decodeBlock(bkey, value)
		if err != nil {
			return nil, err
		}
		next := first + uint64(len(u.History))
		if at > next || at+uint64(len(list)) != uint64(n+1)*blockLen {
			return nil, fmt.Errorf("%w: %s holds [%d,%d), wanted [%d,%d)",
				corastream.ErrCorrupt, keyName(bkey), at, at+uint64(len(list)), next, uint64(n+1)*blockLen)
		}
		u.History = append(u.History, list[next-at:]...)
	}
	if u.History = append(u.History, tail...); len(u.History) != kept {
		return nil, fmt.Errorf("%w: %s: %d interactions, wanted %d", corastream.ErrCorrupt, keyName(key), len(u.History), kept)
	}
	return u, nil
}

// cost is what a cached record takes in memory.
func (u *userRec) cost() int64 {
	return int64(320 + 2*len(u.ID) + 4*(cap(u.Vec)+cap(u.Acc)) + 48*cap(u.History) + cap(u.tags) + 16*cap(u.ids) + u.size/2)
}

func (it *itemRec) cost() int64 {
	n := 400 + 2*len(it.ID) + len(it.Title) + 4*(cap(it.Vec)+cap(it.Acc)+cap(it.Content))
	for k, v := range it.Fields {
		n += 64 + len(k) + len(v)
	}
	return int64(n)
}

// withOffsets is a copy with some of them replaced.
func (sn *snap) withOffsets(next map[corastream.Partition]int64) map[corastream.Partition]int64 {
	if len(next) == 0 {
		return sn.offsets
	}
	out := maps.Clone(sn.offsets)
	maps.Copy(out, next)
	return out
}

// seqTable finds cached items by their dense index: 8 bytes for each known item. The writer alone
// makes it longer, by a new slice of the same pages, so readers of the old slice see every change
// of a page.
type seqTable struct {
	pages atomic.Pointer[[]*seqPage]
}

type seqPage [1024]atomic.Pointer[itemRec]

func (t *seqTable) grow(n uint32) {
	var pages []*seqPage
	if p := t.pages.Load(); p != nil {
		pages = *p
	}
	if need := int(n/uint32(len(seqPage{}))) + 1; need > len(pages) {
		grown := append(make([]*seqPage, 0, 2*need), pages...)
		for len(grown) < need {
			grown = append(grown, new(seqPage))
		}
		t.pages.Store(&grown)
	}
}

func (t *seqTable) at(seq uint32) *atomic.Pointer[itemRec] {
	n := uint32(len(seqPage{}))
	return &(*t.pages.Load())[seq/n][seq%n]
}
