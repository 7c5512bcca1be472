package store

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/corastream/corastream"
)

// work is the State inside a Commit: working copies over the current snapshot. Nothing of it is
// seen outside until it is on the disk; thrown away, nothing happened.
//
// A record is copied when it is first touched, and base keeps what the disk has, so that a record
// that did not change is not written. Sizes are counted as upper bounds while events come in
// (charge), because the border between two transactions must be known before they are encoded.
type work struct {
	s      *Store
	sn     *snap
	shared sharedRec
	users  map[string]*userWork
	items  map[string]*itemWork
	fresh  []*itemWork // new items, by Seq

	// What the transaction being filled would write, in the order of first touch.
	dirtyUsers []*userWork
	dirtyItems []*itemWork
	requests   []*corastream.Request
	extra      []op
	back       struct { // the first interaction that the event being learnt takes back; -1: none
		user, item string
		at         int
	}
	recent  []*corastream.Embedding // handed out since the last event: what the learner may have made longer
	floats  int                     // their length when last charged
	keys    int                     // upper bounds of what would be written
	bytes   int
	part    int // number of the transaction, from 1
	lines   int // journal lines in parts
	parts   []part
	out     corastream.Commit
	changes changes // of the queues

	dropped      []string // users that are gone, or whose record came from elsewhere
	gone         []string // those of them that are gone
	erasures     []Erasure
	writtenUsers []*userWork
	writtenItems []*itemWork

	// Of a store with a list model.
	steps    *stepsWriter
	stepKeys int      // counted for the part being filled
	list     listMark // as it will be on the disk
	listed   listMark // as the parts so far leave it
	trimmed  int      // of derived.refs, those that the parts so far delete
	tookBack bool     // a set of metSets was dropped that a failed write would need as it was
	trimMost int      // step records to delete, where it is not the usual number

	// Of a cluster's store.
	sharedMark corastream.Embedding // since when what the shared vector learns is to be told its owner
	accepted   map[corastream.Partition]accepted
	seen       map[int32]uint64
	adopted    map[string]bool // users
}

// userWork is a user's working copy.
type userWork struct {
	rec    *userRec
	base   *userRec // what the disk will hold before this part; nil: nothing. It shares no vector with rec in part 1
	stale  *userRec // forgotten by TTL: its keys are still there
	part   int      // the part in which it was last touched
	learnt bool     // in this part
	owedAt int64    // the time in the debt key that the disk will hold before this part
	owed   bool     // whether there is such a key
	pends  bool     // rec.debt.pend is our own copy
	erased int64    // events appended until then are not to be learnt
	paid   bool     // the debt changed though nothing was learnt, in this part
	listed bool     // in out.Users
	// changedFrom is one more than the lowest number whose interaction was taken out in this part, 0 for none: history blocks
	// from there on are written anew.
	changedFrom uint64

	written bool // by some part
	again   bool // written by an earlier part: base shares its vectors with rec, so they can not be compared
}

// itemWork is an item's working copy.
type itemWork struct {
	rec    *itemRec
	base   *itemRec
	part   int
	edited bool // the catalogue changed it, in this part

	mark corastream.Embedding // of another shard's item: since when what it learns is to be told its owner

	written, again bool // as in userWork
}

func newWork(s *Store, sn *snap) *work {
	w := &work{
		s: s, sn: sn, shared: *sn.shared, part: 1, users: map[string]*userWork{}, items: map[string]*itemWork{},
	}
	w.shared.Embedding = sn.shared.Clone()
	w.list, w.listed = s.mark, s.mark
	if s.derived != nil {
		w.steps = s.derived.enc
		w.steps.reset()
	}
	if s.shard.on() {
		w.accepted, w.seen, w.adopted = map[corastream.Partition]accepted{}, map[int32]uint64{}, map[string]bool{}
		w.sharedMark = cloneEmbedding(&w.shared.Embedding)
	}
	return w
}

// seq is the journal line of the transaction being filled.
func (w *work) seq() uint64 { return w.sn.seq + uint64(w.lines) + 1 }

// full says whether the transaction should be closed.
func (w *work) full() bool { return w.keys >= w.s.maxKeys() || w.bytes >= w.s.maxBytes() }

// Shared, User, Item, Items and ItemAt implement corastream.State.
func (w *work) Shared() (*corastream.Embedding, error) { return &w.shared.Embedding, nil }

func (w *work) Items() int { return int(w.shared.items) }

func (w *work) User(id string) (*corastream.UserState, error) {
	u, err := w.user(id)
	if err != nil {
		return nil, err
	}
	return &u.rec.UserState, nil
}

func (w *work) Item(id string) (*corastream.ItemState, error) {
	it, err := w.item(id)
	if err != nil {
		return nil, err
	}
	return &it.rec.ItemState, nil
}

func (w *work) ItemAt(seq uint32) (*corastream.ItemState, error) {
	if i := int64(seq) - int64(w.sn.shared.items); i >= 0 && i < int64(len(w.fresh)) {
		it := w.fresh[i]
		w.touchItem(it)
		return &it.rec.ItemState, nil
	}
	rec, err := w.s.itemAt(w.sn, seq)
	if err != nil {
		return nil, err
	}
	return w.Item(rec.ID)
}

// user returns the working copy of a user, made on first touch.
func (w *work) user(id string) (*userWork, error) {
	u := w.users[id]
	if u == nil {
		if err := checkID("user", id); err != nil {
			return nil, err
		}
		base, err := w.s.user(w.sn, id)
		if err != nil {
			return nil, err
		}
		u = &userWork{base: base, erased: w.s.erasedAt(id)}
		if base != nil {
			c := *base
			c.Embedding = cloneEmbedding(&base.Embedding)
			u.rec = &c
			if len(c.debt.pend) > 0 {
				u.owed, u.owedAt = true, c.debt.oldest()
			}
		} else {
			u.rec = &userRec{UserState: corastream.UserState{ID: strings.Clone(id)}, last: noTime}
			if w.s.cfg.UserTTL > 0 {
				if u.stale, err = loadUser(w.sn.txn, id); err != nil {
					return nil, err
				}
				if u.stale != nil && len(u.stale.debt.pend) > 0 {
					u.owed, u.owedAt = true, u.stale.debt.oldest()
				}
			}
		}
		w.users[u.rec.ID] = u
	}
	if u.part != w.part {
		u.part, u.learnt, u.paid, u.changedFrom = w.part, false, false, 0
		w.dirtyUsers = append(w.dirtyUsers, u)
		w.charge(1, len(id)+u.rec.size)
	}
	w.hand(&u.rec.Embedding)
	return u, nil
}

// item returns the working copy of an item; an unknown one gets the next dense index.
func (w *work) item(id string) (*itemWork, error) {
	it := w.items[id]
	if it == nil {
		if err := checkID("item", id); err != nil {
			return nil, err
		}
		base, err := w.s.item(w.sn, id)
		if err != nil {
			return nil, err
		}
		it = &itemWork{base: base}
		if base != nil {
			c := *base
			c.Embedding = cloneEmbedding(&base.Embedding)
			it.rec = &c
		} else {
			if w.shared.items == math.MaxUint32 {
				return nil, fmt.Errorf("item %q: all 2^32-1 item indices are taken", id)
			}
			it.rec = &itemRec{}
			it.rec.ID, it.rec.Seq = strings.Clone(id), w.shared.items
			w.shared.items++
			w.fresh = append(w.fresh, it)
			w.charge(1, len(id))
		}
		w.items[it.rec.ID] = it
	}
	w.touchItem(it)
	return it, nil
}

func (w *work) touchItem(it *itemWork) {
	if it.part != w.part {
		it.part, it.edited = w.part, false
		if w.s.shard.learns() && !w.s.shard.owns(it.rec.ID) {
			it.mark = cloneEmbedding(&it.rec.Embedding)
		}
		w.dirtyItems = append(w.dirtyItems, it)
		w.charge(1, len(it.rec.ID)+it.rec.size)
	}
	w.hand(&it.rec.Embedding)
}

// MaxID bounds user and item ids, which are parts of keys.
const MaxID = 8192

func checkID(what, id string) error {
	if id == "" || len(id) > MaxID {
		return fmt.Errorf("%s id of %d bytes (1 to %d are possible)", what, len(id), MaxID)
	}
	return nil
}

// charge counts towards the size of the transaction.
func (w *work) charge(keys, bytes int) { w.keys, w.bytes = w.keys+keys, w.bytes+bytes+64*keys }

// chargeSteps counts what a step or an item added to the step records.
func (w *work) chargeSteps(bytes int) {
	keys := 0
	if n := len(w.steps.bodies) + 1; n > w.stepKeys {
		keys, w.stepKeys = n-w.stepKeys, n
	}
	w.charge(keys, bytes)
}

// hand notes a vector that the learner may now make longer.
func (w *work) hand(e *corastream.Embedding) {
	w.recent = append(w.recent, e)
	w.floats += len(e.Vec) + len(e.Acc)
}

// settle charges what the learner added to the vectors it was handed. A fresh record gets its
// vectors within Learn, and only their length afterwards tells how much the transaction grew.
func (w *work) settle() {
	now := 0
	for _, e := range w.recent {
		now += len(e.Vec) + len(e.Acc)
	}
	if now > w.floats {
		w.charge(0, 4*(now-w.floats))
	}
	w.recent, w.floats = w.recent[:0], 0
}

// event applies one event that is new by its offset. It is dropped (false) when its user has sent
// its id before, or was erased after it.
//
// The order inside matters. The erasure and the id are looked at first, so a dropped event touches
// no item. Learn runs before the history gets the event, since models read the history as it was.
// The step record for the list model is written before it too, with the same past.
func (w *work) event(ev corastream.Event, learn func(corastream.State, corastream.Event) error) (bool, error) {
	at := nanos(ev.Appended)
	if at == noTime {
		at = nanos(ev.Time)
	}
	u, err := w.user(ev.User)
	if err != nil {
		return false, err
	}
	if u.erased != noTime && at <= u.erased {
		return false, nil
	}
	var hash uint64
	if w.s.cfg.DedupeHorizon > 0 && ev.ID != "" {
		hash = idHash(ev.ID)
		if u.rec.saw(hash, at, int64(w.s.cfg.DedupeHorizon)) {
			return false, nil
		}
	}
	if ev.OfUser() {
		w.label(u, ev)
	} else if err := w.taken(u, ev, learn); err != nil {
		return false, err
	}
	u.learnt = true
	u.rec.last = max(u.rec.last, at)
	u.rec.recall(ev.ID != "", hash, at, w.s.cfg)
	if w.s.wants == nil || w.s.wants(ev.User) {
		w.owe(u, ev)
	}
	w.shared.clock = max(w.shared.clock, at)
	w.charge(0, len(ev.Item)+len(ev.Pos.Topic)+96)
	w.settle()
	return true, nil
}

// label sets a user's labels. Readers may hold the old ones, so they are a new slice.
func (w *work) label(u *userWork, ev corastream.Event) {
	u.rec.Labels = nil
	for _, label := range ev.Labels {
		u.rec.Labels = append(u.rec.Labels, strings.Clone(label))
		w.charge(0, len(label)+2)
	}
}

// taken learns an event about an item.
func (w *work) taken(u *userWork, ev corastream.Event, learn func(corastream.State, corastream.Event) error) error {
	it, err := w.item(ev.Item)
	if err != nil {
		return err
	}
	w.back.user, w.back.item, w.back.at = ev.User, ev.Item, -1
	if ev.Retract || ev.Opposes() {
		e := ev
		e.Time = timeOf(nanos(ev.Time)) // as the history has it
		w.back.at = u.rec.firstTakenBack(&e)
	}
	if err := learn(w, ev); err != nil {
		return err
	}
	if w.back.at >= 0 {
		w.takeBack(u, ev, w.back.at)
	}
	if !ev.Retract {
		if w.steps != nil {
			met := w.s.derived.met.met(u.rec, it.rec.ID)
			w.chargeSteps(w.steps.step(u, it.rec.ID, ev.Label, nanos(ev.Time), met))
		}
		u.rec.remember(it.rec.ID, ev, w.s.cfg.HistoryLimit)
		if w.steps != nil {
			w.s.derived.met.note(u.rec)
		}
		if u.rec.total%blockLen == 0 { // a block is finished, another may fall out of the history
			w.charge(2, 2*len(ev.User))
		}
	}
	return nil
}

// takeBack takes out of the user's history, from index at on, what the event takes back, and tells
// the list model. Interactions behind it get lower numbers, so their blocks on the disk are written
// anew (changedFrom). The history becomes a new slice, since readers may hold the old one.
func (w *work) takeBack(u *userWork, ev corastream.Event, at int) {
	h := u.rec.History
	ev.Time = timeOf(nanos(ev.Time)) // as the history has it
	if w.steps != nil {
		w.chargeSteps(w.steps.retract(u, ev.Item, !ev.Retract, nanos(ev.Time)))
		w.s.derived.met.drop(u.rec.ID)
		w.tookBack = true
	}
	kept := slices.Clone(h[:at])
	bytes := 0
	for _, x := range h[at:] {
		bytes += len(x.Item) + 16
		if !ev.TakesBack(x) {
			kept = append(kept, x)
		}
	}
	first := u.rec.total - uint64(len(h)) + uint64(at) + 1
	if u.changedFrom == 0 || first < u.changedFrom {
		u.changedFrom = first
	}
	u.rec.History, u.rec.tags, u.rec.total = kept, nil, u.rec.total-uint64(len(h)-len(kept))
	w.charge(2+(len(h)-at)/blockLen, bytes)
}

// FirstTakenBack is what Event.FirstTakenBack says of the history of the event's user, which is looked through once an event.
func (w *work) FirstTakenBack(ev *corastream.Event) int {
	if ev.User == w.back.user && ev.Item == w.back.item {
		return w.back.at
	}
	u, err := w.user(ev.User)
	if err != nil {
		return -1
	}
	return u.rec.firstTakenBack(ev)
}

// remember is UserState.Remember on a history whose older part other goroutines may be reading: it appends behind what
// they see, and drops the oldest by starting later. Times are kept as the disk keeps them.
func (u *userRec) remember(item string, ev corastream.Event, limit int) {
	if len(u.tags) == len(u.History) {
		u.tags = append(u.tags, tagOf(item))
	}
	u.History = append(u.History, corastream.Interaction{Item: item, Label: ev.Label, Time: timeOf(nanos(ev.Time)), Shown: ev.Shown()})
	u.total++
	if len(u.History) > limit {
		if len(u.tags) == len(u.History) {
			u.tags = u.tags[len(u.tags)-limit:]
		}
		u.History = u.History[len(u.History)-limit:]
	}
}

// saw says whether an id was learnt within the horizon of a time. The horizon makes the check a
// promise about time, and DedupeLimit bounds its memory.
func (u *userRec) saw(hash uint64, at, horizon int64) bool {
	for _, id := range u.ids {
		if id.hash == hash && distance(id.at, at) <= horizon {
			return true
		}
	}
	return false
}

// recall adds an id and drops those that are past the horizon, seen from the user's newest event, or too many.
func (u *userRec) recall(has bool, hash uint64, at int64, c Config) {
	if c.DedupeHorizon > 0 && has {
		u.ids = append(u.ids, seenID{hash, at})
	}
	n := 0
	for n < len(u.ids) && (len(u.ids)-n > c.DedupeLimit || distance(u.last, u.ids[n].at) > int64(c.DedupeHorizon)) {
		n++
	}
	u.ids = u.ids[n:]
	if len(u.ids) == 0 {
		u.ids = nil
	}
}

// distance of two times; noTime is far from all but itself.
func distance(a, b int64) int64 {
	if a == b {
		return 0
	}
	if a == noTime || b == noTime {
		return math.MaxInt64
	}
	if a < b {
		a, b = b, a
	}
	if d := a - b; d >= 0 {
		return d
	}
	return math.MaxInt64
}

func idHash(id string) uint64 {
	sum := sha256.Sum256([]byte(id))
	return binary.LittleEndian.Uint64(sum[:])
}

// cloneEmbedding copies both vectors into one allocation.
func cloneEmbedding(e *corastream.Embedding) corastream.Embedding {
	c, n := *e, len(e.Vec)
	if n+len(e.Acc) > 0 {
		both := append(append(make([]float32, 0, n+len(e.Acc)), e.Vec...), e.Acc...)
		c.Vec, c.Acc = both[:n:n], both[n:]
	}
	if n == 0 {
		c.Vec = nil
	}
	if len(e.Acc) == 0 {
		c.Acc = nil
	}
	return c
}

// same says whether two embeddings are equal; NaN equals nothing, so that a vector gone bad is always looked at.
func same(a, b *corastream.Embedding) bool {
	return a.Version == b.Version && a.Count == b.Count && a.Bias == b.Bias && slices.Equal(a.Vec, b.Vec) && slices.Equal(a.Acc, b.Acc)
}
