package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/corastream/corastream"
)

// owe notes that the event is not covered by any recommendation yet.
//
// A user with a thousand unanswered clicks must not have a thousand entries. A debt keeps at most
// one entry for each stretch between two moments at which it may have been handed out (Owed): the
// last such moment and the newest published line. Within a stretch only the newest line and the
// oldest time matter, because a settlement covers the stretch as a whole or not at all. So Settle
// can drop just what was covered, and the oldest of the rest is known.
//
// In a cluster the shard hands nothing out. Each transaction starts the debt anew, and the replica
// that answers has read the earlier ones in the changelog.
func (w *work) owe(u *userWork, ev corastream.Event) {
	d := &u.rec.debt
	d.cause = ev.Pos
	at, seq := nanos(ev.Appended), w.seq()
	if w.s.shard.on() && !u.pends {
		d.pend = nil // whoever recommends has seen those before in the changelog
	}
	if !u.pends {
		d.pend, u.pends = append(make([]pending, 0, len(d.pend)+1), d.pend...), true
	}
	n := len(d.pend)
	if n == 0 {
		w.charge(2, 2*len(u.rec.ID))
	}
	if n > 0 && d.pend[n-1].seq > w.sn.seq { // of this very commit
		d.pend[n-1] = pending{seq, min(at, d.pend[n-1].at)}
		return
	}
	d.pend = append(d.pend, pending{seq, at})
	if n < 2 {
		return
	}
	handed := w.s.queue.handedTo(u.rec.ID)
	kept := d.pend[:1]
	for _, p := range d.pend[1:n] {
		last := &kept[len(kept)-1]
		if last.seq <= handed && handed < p.seq {
			kept = append(kept, p)
			continue
		}
		*last = pending{p.seq, min(last.at, p.at)}
	}
	d.pend = append(kept, pending{seq, at})
}

// Owed returns up to n debts: requests first, then users whose embedding moved, each oldest first. With WithNewestFirst three
// quarters of the moved users are those that were owed last, newest first. It takes nothing away: Settle does.
func (s *Store) Owed(n int) ([]corastream.Owed, error) {
	sn, requests, moved, err := s.heads(n)
	if err != nil {
		return nil, err
	}
	defer sn.release()
	var out []corastream.Owed
	for _, key := range requests {
		value, err := get(sn.txn, []byte(key))
		if err != nil {
			return nil, err
		}
		if value == nil {
			return nil, fmt.Errorf("%w: %s is missing", corastream.ErrCorrupt, keyName([]byte(key)))
		}
		r, seq, err := decodeRequest([]byte(key), value)
		if err != nil {
			return nil, err
		}
		out = append(out, corastream.Owed{User: r.User, Cause: r.Pos, Seq: seq, Request: r})
	}
	for _, key := range moved {
		u, err := s.owedUser(sn, debtUser(key))
		if err != nil {
			return nil, err
		}
		if u == nil || len(u.debt.pend) == 0 {
			return nil, fmt.Errorf("%w: %s, but the user owes nothing", corastream.ErrCorrupt, keyName([]byte(key)))
		}
		out = append(out, corastream.Owed{User: u.ID, Cause: u.debt.cause, Oldest: timeOf(u.debt.oldest()), Seq: u.debt.seq()})
	}
	return out, nil
}

// heads takes the first keys of the lists and the snapshot they belong to, and marks the debts as
// handed out: from then on Commit keeps what is newer than the snapshot apart. The records are read
// later, with no lock held, since reading from the disk under the queues' lock would hold every
// commit up.
func (s *Store) heads(n int) (sn *snap, requests, moved []string, err error) {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	if sn, err = s.acquire(); err != nil {
		return nil, nil, nil, err
	}
	requests, err = s.queue.requests.first(sn.txn, n)
	if err == nil {
		moved, err = s.queue.moved(sn.txn, n-len(requests), s.newest)
	}
	if err != nil {
		sn.release()
		return nil, nil, nil, err
	}
	for _, key := range moved {
		s.queue.hand(debtUser(key), sn.seq)
	}
	return sn, requests, moved, nil
}

// debtUser is the user in a debt's key.
func debtUser(key string) string { return key[9:] }

// owedUser is the user's record though the TTL may have passed: the debt outlives it.
func (s *Store) owedUser(sn *snap, id string) (*userRec, error) {
	u, err := s.user(sn, id)
	if err == nil && u == nil {
		u, err = loadUser(sn.txn, id)
	}
	return u, err
}

// Settle takes back what was paid: requests, and of a moved user all interactions up to Owed.Seq.
// Newer ones stay owed. A kill between the published answer and this transaction answers again,
// under the same recommendation id.
func (s *Store) Settle(ctx context.Context, paid []corastream.Owed) error {
	if len(paid) == 0 {
		return nil
	}
	if err := corastream.Failpoint("store.settle"); err != nil {
		return err
	}
	err := s.update(ctx, func(w *work) error {
		for i := range paid {
			o := &paid[i]
			if o.Request != nil {
				key := requestKey(o.Request)
				w.delete(key)
				w.changes.remove(key)
			} else if err := w.settleUser(o); err != nil {
				return fmt.Errorf("settle user %q: %w", o.User, err)
			}
			if w.full() {
				if err := w.close(nil, nil); err != nil {
					return err
				}
				w.reopen()
			}
		}
		return w.close(nil, nil)
	})
	if err == nil {
		s.queue.settled(paid)
	}
	return err
}

// settleUser drops the entries that the answer covers. A debt that is gone, or begins behind the
// answer, was settled before or belongs to a user who was erased meanwhile; both are fine.
func (w *work) settleUser(o *corastream.Owed) error {
	known, err := w.s.owedUser(w.sn, o.User)
	if err != nil || known == nil || len(known.debt.pend) == 0 || known.debt.pend[0].seq > o.Seq {
		return err // paid before, or erased meanwhile
	}
	u, err := w.user(o.User)
	if err != nil {
		return err
	}
	if u.stale != nil { // silent for longer than the TTL: the debt was all that kept the record
		w.dropUser(u.stale)
		u.stale, u.owed = nil, false
		return nil
	}
	d := &u.rec.debt
	n := 0 // entries that are covered
	for n < len(d.pend) && d.pend[n].seq <= o.Seq {
		n++
	}
	if d.pend = append([]pending(nil), d.pend[n:]...); len(d.pend) == 0 {
		*d = debt{}
	}
	u.pends, u.paid = true, true
	w.charge(2, 2*len(o.User))
	return nil
}

// A request's body: journal line, the request.
func (w *work) putRequest(p *part, r *corastream.Request) error {
	key := requestKey(r)
	w.changes.add(key)
	return w.put(p, key, requestSize(r), func(b []byte) ([]byte, error) {
		b = appendUvarint(append(b, recordVersion), w.seq())
		b = appendString(appendString(b, r.ID), r.User)
		b = appendVarint(b, int64(r.N))
		b = appendVarint(appendPosition(b, r.Pos), nanos(r.Appended))
		for _, list := range [][]string{r.Exclude, r.Candidates} {
			b = appendUvarint(b, uint64(len(list)))
			for _, id := range list {
				b = appendString(b, id)
			}
		}
		if r.Seen != "" || len(r.History) > 0 {
			b = appendUvarint(appendString(b, r.Seen), uint64(len(r.History)))
			b = appendInteractions(b, r.History)
		}
		return b, nil
	})
}

func decodeRequest(key, value []byte) (*corastream.Request, uint64, error) {
	r, err := open(key, value)
	if err != nil {
		return nil, 0, err
	}
	seq := r.uvarint()
	r.intern()
	out := &corastream.Request{ID: r.string(), User: r.string()}
	n := r.varint()
	r.bad = r.bad || n < math.MinInt32 || n > math.MaxInt32
	out.N = int(n)
	out.Pos, out.Appended = r.position(), timeOf(r.varint())
	for _, list := range []*[]string{&out.Exclude, &out.Candidates} {
		if n := r.count(1); n > 0 {
			*list = make([]string, n)
			for i := range *list {
				(*list)[i] = r.string()
			}
		}
	}
	if len(r.b) > 0 { // few requests bring a history, and none did in stores of old
		out.Seen = r.string()
		out.History = r.interactions(r.count(2))
	}
	return out, seq, r.done(key)
}

func requestSize(r *corastream.Request) int {
	n := len(r.ID) + len(r.User) + 2*len(r.Pos.Topic) + 96
	for _, list := range [][]string{r.Exclude, r.Candidates} {
		for _, id := range list {
			n += len(id) + 3
		}
	}
	for _, h := range r.History {
		n += len(h.Item) + 18
	}
	return n + len(r.Seen)
}

// unreadSeq is the item index in an unread key.
func unreadSeq(key []byte) uint32 { return binary.BigEndian.Uint32(key[1:]) }
