package store

import (
	"context"

	"github.com/corastream/corastream"
	"github.com/dgraph-io/badger/v4"
)

// sweeper walks through the users, a few after each so many commits, and removes those whom the TTL has already hidden.
// When it does so changes nothing that can be seen: Digest, Users and State leave them out from the moment they expire.
type sweeper struct {
	from    []byte // the next key
	commits int
}

const (
	sweepEvery = 64  // commits
	sweepUsers = 512 // looked at each time
)

// sweepSome is called with the writer's lock held, after a commit.
func (s *Store) sweepSome(ctx context.Context) error {
	if s.cfg.UserTTL == 0 || s.shard.replica() {
		return nil
	}
	if s.sweep.commits++; s.sweep.commits%sweepEvery != 0 {
		return nil
	}
	sn, err := s.acquire()
	if err != nil {
		return err
	}
	defer sn.release()
	w, n := newWork(s, sn), 0
	from := s.sweep.from
	s.sweep.from = nil // from the first user again, unless we stop before the last
	err = scan(sn.txn, []byte{pUser}, from, func(key []byte, it *badger.Item) (bool, error) {
		if n++; n > sweepUsers || w.full() {
			s.sweep.from = key
			return false, nil
		}
		return true, it.Value(func(v []byte) error {
			u, kept, err := decodeUser(key, v)
			if err == nil && s.expired(u, sn.shared.clock) && (len(u.debt.pend) == 0 || s.shard.on()) {
				u.History = make([]corastream.Interaction, kept) // its length tells which blocks there are
				w.dropUser(u)
			}
			return err
		})
	})
	if err == nil {
		err = w.close(nil, nil)
	}
	if err != nil {
		return err
	}
	return s.write(ctx, sn, w)
}

// dropUser removes all that is kept of a user but open requests.
func (w *work) dropUser(u *userRec) {
	w.delete(userKey(u.ID))
	for n, end := u.blocks(); n < end; n++ {
		w.delete(historyKey(u.ID, n))
	}
	if len(u.debt.pend) > 0 {
		key := debtKey(u.debt.oldest(), u.ID)
		w.delete(key)
		w.changes.remove(key)
	}
	w.shared.users--
	w.dropped, w.gone = append(w.dropped, u.ID), append(w.gone, u.ID)
}
