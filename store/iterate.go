package store

import (
	"iter"

	"github.com/corastream/corastream"
	"github.com/dgraph-io/badger/v4"
)

// Users yields every user in the order of their ids, as the state stands when the iteration begins. It reads from the
// disk and leaves the cache as it is.
func (s *Store) Users() iter.Seq2[*corastream.UserState, error] {
	return func(yield func(*corastream.UserState, error) bool) {
		sn, err := s.acquire()
		if err != nil {
			yield(nil, err)
			return
		}
		defer sn.release()
		if err := s.eachUser(sn, func(u *userRec) bool { return yield(&u.UserState, nil) }); err != nil {
			yield(nil, err)
		}
	}
}

// UsersFrom returns up to n users whose ids begin with prefix and lie behind the id after, in the order of ids, without histories.
func (s *Store) UsersFrom(prefix, after string, n int) ([]corastream.UserState, error) {
	sn, err := s.acquire()
	if err != nil {
		return nil, err
	}
	defer sn.release()
	head := append([]byte{pUser}, prefix...)
	from := head
	if after >= prefix {
		from = append(append([]byte{pUser}, after...), 0)
	}
	var out []corastream.UserState
	err = scan(sn.txn, head, from, func(key []byte, it *badger.Item) (bool, error) {
		err := it.Value(func(v []byte) error {
			u, err := assembleUser(sn.txn, key, v)
			if err == nil && !s.expired(u, sn.shared.clock) {
				out = append(out, corastream.UserState{ID: u.ID, Embedding: corastream.Embedding{Bias: u.Bias, Count: u.Count, Version: u.Version}})
			}
			return err
		})
		return len(out) < n, err
	})
	return out, err
}

// Items yields every item in the order of their ids, as Users does.
func (s *Store) Items() iter.Seq2[*corastream.ItemState, error] {
	return func(yield func(*corastream.ItemState, error) bool) {
		sn, err := s.acquire()
		if err != nil {
			yield(nil, err)
			return
		}
		defer sn.release()
		if err := eachItem(sn, func(it *itemRec) bool { return yield(&it.ItemState, nil) }); err != nil {
			yield(nil, err)
		}
	}
}

// eachUser calls f in key order, leaving out those whom the TTL hides, until it returns false.
func (s *Store) eachUser(sn *snap, f func(*userRec) bool) error {
	return scan(sn.txn, []byte{pUser}, nil, func(key []byte, it *badger.Item) (more bool, err error) {
		err = it.Value(func(v []byte) error {
			u, err := assembleUser(sn.txn, key, v)
			if err != nil {
				return err
			}
			more = s.expired(u, sn.shared.clock) || f(u)
			return nil
		})
		return more, err
	})
}

func eachItem(sn *snap, f func(*itemRec) bool) error {
	return scan(sn.txn, []byte{pItem}, nil, func(key []byte, it *badger.Item) (more bool, err error) {
		err = it.Value(func(v []byte) error {
			rec, err := decodeItem(key, v)
			if err != nil {
				return err
			}
			more = f(rec)
			return nil
		})
		return more, err
	})
}

// Stats counts what the store holds.
type Stats struct {
	Users        uint64 // those whom the TTL hides included, until they are swept
	Items        uint32
	Unread       int
	Debts        int // users owed a recommendation
	Requests     int
	Seq          uint64 // the last journal line
	Cached       int    // decoded records in memory
	CachedBytes  int64
	Hits, Misses int64 // of the record cache
	DiskBytes    int64
	FreeBytes    int64 // on the disk; -1 when not known
}

// Stats may be called at any time.
func (s *Store) Stats() (Stats, error) {
	sn, err := s.acquire()
	if err != nil {
		return Stats{}, err
	}
	defer sn.release()
	st := Stats{Users: sn.shared.users, Items: sn.shared.items, Seq: sn.seq, FreeBytes: -1}
	s.queue.mu.Lock()
	st.Unread, st.Debts, st.Requests = s.queue.unread.count, s.queue.debts.count, s.queue.requests.count
	s.queue.mu.Unlock()
	un, ub := s.users.usage()
	in, ib := s.items.usage()
	st.Cached, st.CachedBytes = un+in, ub+ib
	st.Hits = s.users.hits.Load() + s.items.hits.Load()
	st.Misses = s.users.misses.Load() + s.items.misses.Load()
	lsm, vlog := s.db.Size()
	st.DiskBytes = lsm + vlog
	if free, known, err := s.guard.free(s.dir); err == nil && known {
		st.FreeBytes = free
	}
	return st, nil
}
