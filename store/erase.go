package store

import (
	"context"
	"crypto/sha256"
	"iter"
	"time"

	"github.com/corastream/corastream"
	"github.com/dgraph-io/badger/v4"
)

// Erasure says that a user was erased. Events of that user appended at or before At are never learnt again, not even by a
// replay from the first offset. It holds no id, but its SHA-256.
type Erasure struct {
	User [32]byte
	At   time.Time
}

// ErasureOf is the erasure of a user at a time.
func ErasureOf(user string, at time.Time) Erasure {
	return Erasure{User: sha256.Sum256([]byte(user)), At: at}
}

// Erase removes all that is kept of a user: record, history, ids, debt and open requests; reads are without them as soon as
// it returns. What item vectors and the shared vector learnt from the user stays in them. The bytes leave the disk when
// the store is rewritten (Snapshot, then Restore).
func (s *Store) Erase(ctx context.Context, user string) error {
	e := ErasureOf(user, s.now())
	return s.update(ctx, func(w *work) error {
		if err := w.eraseUser(user); err != nil {
			return err
		}
		if err := corastream.Failpoint("store.erase"); err != nil {
			return err
		}
		return w.erase([]Erasure{e})
	})
}

// EraseAll repeats erasures, those of another store (Erasures) or of a journal line. The users are known by their hashes
// alone, so all ids are read.
func (s *Store) EraseAll(ctx context.Context, list ...Erasure) error {
	for len(list) > 0 {
		n := min(len(list), 64)
		if err := s.update(ctx, func(w *work) error {
			wanted := hashes(list[:n])
			err := scan(w.sn.txn, []byte{pUser}, nil, func(key []byte, _ *badger.Item) (bool, error) {
				if _, yes := wanted[sha256.Sum256(key[1:])]; !yes {
					return true, nil
				}
				return true, w.eraseUser(string(key[1:]))
			})
			if err != nil {
				return err
			}
			return w.erase(list[:n])
		}); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

func hashes(list []Erasure) map[[32]byte]int64 {
	out := make(map[[32]byte]int64, len(list))
	for _, e := range list {
		out[e.User] = nanos(e.At)
	}
	return out
}

func (w *work) eraseUser(id string) error {
	u, err := loadUser(w.sn.txn, id)
	if err != nil || u == nil {
		return err
	}
	w.dropUser(u)
	return nil
}

// erase removes the open requests, notes the erasures and closes the transaction with its line.
func (w *work) erase(list []Erasure) error {
	if err := w.eraseRequests(hashes(list)); err != nil {
		return err
	}
	p := part{}
	for _, e := range list {
		key := append([]byte{pErased}, e.User[:]...)
		err := w.put(&p, key, 16, func(b []byte) ([]byte, error) { return appendVarint(append(b, recordVersion), nanos(e.At)), nil })
		if err != nil {
			return err
		}
	}
	w.extra = append(w.extra, p.ops...)
	w.erasures = list
	if w.list.known {
		w.list.erased = w.seq()
	}
	return w.close(&Line{Kind: KindErasure, Erasures: list}, nil)
}

func (w *work) eraseRequests(wanted map[[32]byte]int64) error {
	return scan(w.sn.txn, []byte{pRequest}, nil, func(key []byte, it *badger.Item) (bool, error) {
		err := it.Value(func(v []byte) error {
			r, _, err := decodeRequest(key, v)
			if err != nil {
				return err
			}
			if _, yes := wanted[sha256.Sum256([]byte(r.User))]; yes {
				w.delete(key)
				w.changes.remove(key)
			}
			return nil
		})
		return err == nil, err
	})
}

func decodeErasure(key, value []byte) (Erasure, error) {
	r, err := open(key, value)
	if err != nil {
		return Erasure{}, err
	}
	e := Erasure{At: timeOf(r.varint())}
	if copy(e.User[:], key[1:]) != len(e.User) || len(key) != 33 {
		return e, errKey
	}
	return e, r.done(key)
}

// Erasures yields all erasures, to be applied to a store that is made anew from the log.
func (s *Store) Erasures() iter.Seq2[Erasure, error] {
	return func(yield func(Erasure, error) bool) {
		err := s.scan([]byte{pErased}, nil, func(key []byte, it *badger.Item) (bool, error) {
			var e Erasure
			err := it.Value(func(v []byte) (err error) { e, err = decodeErasure(key, v); return err })
			return err == nil && yield(e, nil), err
		})
		if err != nil {
			yield(Erasure{}, err)
		}
	}
}

// loadErased reads the erasures when the store is opened.
func (s *Store) loadErased(txn *badger.Txn) error {
	m := map[[32]byte]int64{}
	err := scan(txn, []byte{pErased}, nil, func(key []byte, it *badger.Item) (bool, error) {
		err := it.Value(func(v []byte) error {
			e, err := decodeErasure(key, v)
			m[e.User] = nanos(e.At)
			return err
		})
		return err == nil, err
	})
	s.erased = m
	return err
}

// erasedAt is until when a user's events are not to be learnt; noTime when the user was never erased.
func (s *Store) erasedAt(user string) int64 {
	if len(s.erased) > 0 {
		if at, yes := s.erased[sha256.Sum256([]byte(user))]; yes {
			return at
		}
	}
	return noTime
}
