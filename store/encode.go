package store

import (
	"errors"
	"fmt"

	"github.com/corastream/corastream"
)

var errNotFinite = errors.New("the learner made a value that is not finite; nothing was written")

// put encodes one record into the transaction.
func (w *work) put(p *part, key []byte, size int, encode func([]byte) ([]byte, error)) error {
	b := w.s.arena.buffer(size + 64)
	value, err := encode(b)
	if err != nil {
		return err
	}
	value = seal(key, value)
	if len(key)+len(value) > MaxRecord {
		return fmt.Errorf("a record of %d bytes, more than %d", len(key)+len(value), MaxRecord)
	}
	w.s.arena.took(b, value)
	p.ops = append(p.ops, op{key, value[:len(value):len(value)]})
	return nil
}

// mark puts a key whose presence is all it says.
func (w *work) mark(p *part, key []byte) error {
	return w.put(p, key, 8, func(b []byte) ([]byte, error) { return append(b, recordVersion), nil })
}

func (p *part) delete(key []byte) { p.ops = append(p.ops, op{key: key}) }

// delete removes a key that no record of this write stands for.
func (w *work) delete(key []byte) {
	w.extra = append(w.extra, op{key: key})
	w.charge(1, len(key))
}

// putUser writes the record, the history blocks that were finished, and the debt's key; and deletes what fell out.
func (w *work) putUser(p *part, u *userWork) error {
	rec := u.rec
	if !finite(rec.Vec) || !finite(rec.Acc) || rec.Bias-rec.Bias != 0 {
		return errNotFinite
	}
	old := u.base
	if old == nil {
		old = u.stale
	}
	from, to := rec.blocks()
	finished := uint32(0) // blocks below this one are on the disk already
	if u.base != nil {
		finished = uint32(u.base.total / blockLen)
	}
	if u.changedFrom > 0 {
		finished = min(finished, uint32((u.changedFrom-1)/blockLen))
	}
	for n := max(from, finished); n < to; n++ {
		list := rec.block(n)
		first := uint64(n+1)*blockLen - uint64(len(list))
		err := w.put(p, historyKey(rec.ID, n), 48*len(list), func(b []byte) ([]byte, error) { return encodeBlock(b, first, list), nil })
		if err != nil {
			return err
		}
	}
	if old == nil {
		w.shared.users++
	}
	err := w.put(p, userKey(rec.ID), rec.size+256, func(b []byte) ([]byte, error) { return rec.encode(b), nil })
	if err != nil {
		return err
	}
	rec.size = len(p.ops[len(p.ops)-1].value)
	if old != nil { // after the record: who follows the changelog may stop between two keys
		for n, end := old.blocks(); n < end; n++ {
			if n < from || n >= to {
				p.delete(historyKey(rec.ID, n))
			}
		}
	}
	if err := w.putDebt(p, u); err != nil {
		return err
	}
	if !u.written {
		u.written = true
		w.writtenUsers = append(w.writtenUsers, u)
	}
	if u.learnt && !u.listed {
		u.listed = true
		w.out.Users = append(w.out.Users, rec.ID)
	}
	return nil
}

// putDebt moves the user's place among the debts when the oldest interaction not covered is another one than before.
func (w *work) putDebt(p *part, u *userWork) error {
	owed := len(u.rec.debt.pend) > 0 && !w.s.shard.on() // a shard's replicas keep their own list
	at := int64(0)
	if owed {
		at = u.rec.debt.oldest()
	}
	if owed == u.owed && at == u.owedAt {
		if owed && u.learnt && w.s.newest {
			w.changes.touch(debtKey(at, u.rec.ID)) // he clicked again
		}
		return nil
	}
	if u.owed {
		key := debtKey(u.owedAt, u.rec.ID)
		p.delete(key)
		w.changes.remove(key)
	}
	if u.owed, u.owedAt = owed, at; !owed {
		return nil
	}
	key := debtKey(at, u.rec.ID)
	w.changes.add(key)
	return w.mark(p, key)
}

// putItem writes the record, its place in the dense index when it is new, and whether it waits to be read.
func (w *work) putItem(p *part, it *itemWork) error {
	rec := it.rec
	if !finite(rec.Vec) || !finite(rec.Acc) || rec.Bias-rec.Bias != 0 {
		return errNotFinite
	}
	if err := w.put(p, itemKey(rec.ID), rec.size+256, rec.encode); err != nil {
		return err
	}
	rec.size = len(p.ops[len(p.ops)-1].value)
	if it.base == nil {
		err := w.put(p, seqKey(pSeq, rec.Seq), len(rec.ID)+16, func(b []byte) ([]byte, error) {
			return appendString(append(b, recordVersion), rec.ID), nil
		})
		if err != nil {
			return err
		}
	}
	owned := w.s.shard.owns(rec.ID) // its owner reads it
	before, now := owned && it.base != nil && it.base.unread(), owned && rec.unread()
	if before != now {
		key := seqKey(pUnread, rec.Seq)
		if now {
			if err := w.mark(p, key); err != nil {
				return err
			}
			w.changes.add(key)
		} else {
			p.delete(key)
			w.changes.remove(key)
		}
	}
	if !it.written {
		it.written = true
		w.writtenItems = append(w.writtenItems, it)
		w.out.Items = append(w.out.Items, rec.ID)
	}
	return nil
}

// upsert applies a catalogue record, whole or partial: what was learnt stays, a new title or new fields make the content forgotten.
func (w *work) upsert(in *corastream.Item) error {
	if in.Removed {
		if it, err := w.s.item(w.sn, in.ID); err != nil || it == nil && w.items[in.ID] == nil {
			return err // a tombstone of what was never known
		}
	}
	it, err := w.item(in.ID)
	if err != nil {
		return err
	}
	whole := in.Onto(it.rec.Item)
	rec, next := it.rec, cleanItem(&whole)
	same := rec.listed && rec.Removed == next.Removed && sameText(&rec.Item, &next)
	if same && next.Content == nil {
		next.Content = rec.Content
	}
	news := in.Appended.Sub(rec.Touched) >= touchEvery && rec.Touch(timeOf(nanos(in.Appended)))
	if same && rec.Withdrawn == next.Withdrawn && sameContent(rec.Content, next.Content) {
		it.edited = it.edited || news
		return nil
	}
	next.ID = rec.ID
	rec.Touch(timeOf(nanos(in.Appended)))
	if w.steps != nil && w.s.derived.Derived != nil && !(same && rec.Withdrawn == next.Withdrawn) {
		w.chargeSteps(w.steps.item(&next))
	}
	rec.Item, rec.listed, it.edited = next, true, true
	rec.Version++
	w.charge(1, len(next.Title)+4*len(next.Content)+fieldsSize(next.Fields))
	return nil
}

// arena holds the encoded values of one write and is used again by the next: Badger has copied them when it returns.
type arena struct {
	chunks [][]byte
	used   int
}

const arenaChunk = 256 << 10

// reset keeps so many bytes for the next write.
func (a *arena) reset(keep int) {
	n := 0
	for ; n < len(a.chunks) && keep > 0; n++ {
		keep -= cap(a.chunks[n])
		a.chunks[n] = a.chunks[n][:0]
	}
	clear(a.chunks[n:])
	a.chunks, a.used = a.chunks[:n], 0
}

// buffer returns an empty slice with room for n bytes.
func (a *arena) buffer(n int) []byte {
	for ; a.used < len(a.chunks); a.used++ {
		if c := a.chunks[a.used]; cap(c)-len(c) >= n {
			return c[len(c):]
		}
	}
	a.chunks = append(a.chunks, make([]byte, 0, max(n, arenaChunk)))
	return a.chunks[a.used]
}

// took counts what was written into a buffer; a value that outgrew it has memory of its own.
func (a *arena) took(buffer, value []byte) {
	if len(value) <= cap(buffer) {
		c := a.chunks[a.used]
		a.chunks[a.used] = c[:len(c)+len(value)]
	}
}
