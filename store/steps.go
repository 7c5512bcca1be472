package store

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/corastream/corastream"
)

// Bounds of step records. A record is closed at about stepChunk bytes, or before its steps would decode to more than
// maxRecents interactions. One step's interactions are cut where their ids would pass maxStepIDs, wherever the step
// lies, so that the batching changes nothing.
const (
	stepChunk  = 64 << 10
	maxRecents = 1 << 14
	maxStepIDs = 32 << 10
	// MaxWindow bounds Ranker.Window: a store gives a Step no more interactions than that.
	MaxWindow = 1024
)

// stepCoded is a flag of an item in a step record: its code follows.
const stepCoded = 1 << 7

// Flags of a step above the five that an interaction has.
const (
	stepMet     = 1 << 5
	stepFollows = 1 << 6 // Recent continues that of an earlier step of the same user in this record
	stepBits    = 7
	recentBits  = 5
)

// stepsWriter encodes what a transaction teaches the list model, event by event, into bodies of
// step records.
//
// A step holds the user's last interactions, up to the model's window, and most steps of a user
// differ from the one before by one interaction. Such a step only says so (stepFollows). Ids are
// written once a record and are numbers from then on. An event costs some 250 bytes that way.
type stepsWriter struct {
	window int
	index  map[string]uint64 // ids of the record being filled
	last   map[*userWork]lastStep
	ids    []byte
	items  []byte
	steps  []byte
	labels []byte // of steps whose users have any
	nItems int
	nSteps int
	nLabel int   // steps in labels
	held   int   // interactions that the record's steps decode to
	clock  int64 // time of the last step or interaction written
	bodies [][]byte
	learnt int // steps in all bodies
}

// lastStep is a user's last step in the record being filled.
type lastStep struct{ number, recents int }

func newStepsWriter(window int) *stepsWriter {
	return &stepsWriter{window: min(max(window, 0), MaxWindow), index: map[string]uint64{}, last: map[*userWork]lastStep{}}
}

// reset forgets everything, finished bodies too.
func (e *stepsWriter) reset() {
	e.clear()
	e.bodies, e.learnt = nil, 0
}

func (e *stepsWriter) clear() {
	clear(e.index)
	clear(e.last)
	e.ids, e.items, e.steps, e.labels = e.ids[:0], e.items[:0], e.steps[:0], e.labels[:0]
	e.nItems, e.nSteps, e.nLabel, e.held, e.clock = 0, 0, 0, 0, 0
}

func (e *stepsWriter) size() int { return len(e.ids) + len(e.items) + len(e.steps) + len(e.labels) }

// finish closes the record being filled.
func (e *stepsWriter) finish() {
	if e.nItems+e.nSteps == 0 {
		return
	}
	b := make([]byte, 0, e.size()+32)
	b = appendUvarint(append(b, recordVersion), uint64(len(e.index)))
	b = append(b, e.ids...)
	b = append(appendUvarint(b, uint64(e.nItems)), e.items...)
	b = append(appendUvarint(b, uint64(e.nSteps)), e.steps...)
	if e.nLabel > 0 { // the last part, and absent where there are none
		b = append(appendUvarint(b, uint64(e.nLabel)), e.labels...)
	}
	e.bodies = append(e.bodies, b)
	e.clear()
}

// item adds a catalogue record and returns by how many bytes the transaction grew at most.
func (e *stepsWriter) item(it *corastream.Item) int {
	if e.nSteps > 0 || e.size() >= stepChunk {
		e.finish()
	}
	before := e.size()
	e.items = append(e.items, flag(it.Withdrawn, fWithdrawn)|flag(it.Removed, fRemoved)|flag(it.Code != nil, stepCoded))
	e.items = appendString(appendString(e.items, it.ID), it.Title)
	e.items = appendFields(e.items, it.Fields)
	if it.Code != nil {
		e.items, _ = appendContent(e.items, it.Code) // Code has looked at the numbers
	}
	e.nItems++
	return e.size() - before
}

// step adds an event of a user before the event joins the user's history, and returns by how many bytes it grew.
func (e *stepsWriter) step(u *userWork, item string, label float32, at int64, met bool) int {
	return e.add(u, item, label, at, flag(met, stepMet))
}

// retract adds that a user's interactions with an item are taken back, the likes alone or all, before they leave the history. The
// user's next step does not continue this one.
func (e *stepsWriter) retract(u *userWork, item string, likes bool, at int64) int {
	grew := e.add(u, item, 0, at, labelNone|flag(likes, stepMet))
	delete(e.last, u)
	return grew
}

// add writes a step with further flags.
func (e *stepsWriter) add(u *userWork, item string, label float32, at int64, more byte) int {
	h := u.rec.History
	n, room := 0, maxStepIDs
	for n < min(e.window, len(h)) {
		if room -= len(h[len(h)-1-n].Item); room < 0 {
			break
		}
		n++
	}
	if e.size() >= stepChunk || e.held+n > maxRecents {
		e.finish()
	}
	before := e.size()
	flags, delta := e.code(label, at)
	flags |= more
	last, follows := e.last[u]
	if follows = follows && n <= last.recents+1; follows {
		flags |= stepFollows
	}
	e.steps = e.entry(e.steps, item, flags, stepBits, label, delta)
	if follows {
		e.steps = appendUvarints(e.steps, uint64(e.nSteps-last.number), uint64(n))
	} else {
		e.steps = appendUvarint(e.steps, uint64(n))
		for i := range n {
			x := &h[len(h)-1-i]
			flags, delta := e.code(x.Label, nanos(x.Time))
			e.steps = e.entry(e.steps, x.Item, flags, recentBits, x.Label, delta)
		}
	}
	if len(u.rec.Labels) > 0 {
		e.labels = appendUvarints(e.labels, uint64(e.nSteps), uint64(len(u.rec.Labels)))
		for _, label := range u.rec.Labels {
			e.labels = appendUvarint(e.labels, e.id(label))
		}
		e.nLabel++
	}
	e.last[u] = lastStep{e.nSteps, n}
	e.nSteps++
	e.held += n
	e.learnt++
	return e.size() - before
}

// code is codeInteraction against the record's clock.
func (e *stepsWriter) code(label float32, at int64) (flags byte, delta int64) {
	flags, delta = codeInteraction(label, at, e.clock)
	if at != noTime {
		e.clock = at
	}
	return flags, delta
}

// id is the number of an id or a label in the record.
func (e *stepsWriter) id(name string) uint64 {
	k, known := e.index[name]
	if !known {
		k = uint64(len(e.index))
		e.index[name] = k
		e.ids = appendString(e.ids, name)
	}
	return k
}

// entry appends an id's number with the flags below it, the label when it is neither 0 nor 1, and the time.
func (e *stepsWriter) entry(b []byte, id string, flags byte, bits uint, label float32, delta int64) []byte {
	b = appendUvarint(b, e.id(id)<<bits|uint64(flags))
	if flags&3 == labelF32 {
		b = appendF32(b, label)
	}
	if flags&noTimeFlag == 0 {
		b = appendVarint(b, delta)
	}
	return b
}

// decodeSteps reads a step record: what a part of one transaction teaches the list model. Every string has memory of its
// own, since the model keeps ids for good.
func decodeSteps(key, value []byte) (out corastream.StepBatch, err error) {
	if len(key) != 13 {
		return out, errKey
	}
	r, err := open(key, value)
	if err != nil {
		return out, err
	}
	s := stepsReader{reader: r}
	if n := s.atMost(1, stepChunk+1); n > 0 {
		s.ids = make([]string, n)
		for i := range s.ids {
			s.ids[i] = s.string()
		}
	}
	if n := s.atMost(4, stepChunk/4+1); n > 0 {
		out.Items = make([]corastream.Item, n)
		for i := range out.Items {
			flags := s.byte()
			s.bad = s.bad || flags&^(fWithdrawn|fRemoved|stepCoded) != 0
			out.Items[i] = corastream.Item{
				Withdrawn: flags&fWithdrawn != 0, Removed: flags&fRemoved != 0, ID: s.string(), Title: s.string(), Fields: s.fields(),
			}
			if flags&stepCoded != 0 {
				out.Items[i].Code = s.content()
			}
		}
	}
	if n := s.atMost(2, stepChunk/2+1); n > 0 {
		out.Steps = make([]corastream.Step, 0, n)
		for range n {
			st, ok := s.step(out.Steps)
			if !ok {
				break
			}
			out.Steps = append(out.Steps, st)
		}
	}
	s.labelled(out.Steps)
	return out, s.done(key)
}

// labelled reads the labels of steps, which follow where any has some.
func (s *stepsReader) labelled(steps []corastream.Step) {
	if s.bad || len(s.b) == 0 {
		return
	}
	for range s.atMost(3, len(steps)) {
		n, of := s.uvarint(), s.count(1)
		if s.bad || n >= uint64(len(steps)) || of == 0 || of > corastream.MaxLabels {
			s.bad = true
			return
		}
		for range of {
			k := s.uvarint()
			if k >= uint64(len(s.ids)) {
				s.bad = true
				return
			}
			steps[n].Labels = append(steps[n].Labels, s.ids[k])
		}
	}
}

// stepsReader reads the steps of one record.
type stepsReader struct {
	reader
	ids    []string
	labels []float32 // of the steps so far
	clock  int64
	held   int
}

// atMost is count with the bound that closing a record at stepChunk bytes puts on it.
func (s *stepsReader) atMost(size, most int) int {
	n := s.count(size)
	if n > most {
		s.bad, n = true, 0
	}
	return n
}

func (s *stepsReader) step(before []corastream.Step) (st corastream.Step, ok bool) {
	this, flags := s.entry(stepBits)
	st = corastream.Step{Item: this.Item, Positive: corastream.Event{Label: this.Label}.Positive(), Met: flags&stepMet != 0, Time: this.Time}
	if flags&3 == labelNone {
		st.Retract, st.Likes, st.Met = true, st.Met, false
	}
	s.labels = append(s.labels, this.Label)
	if flags&stepFollows == 0 {
		n := s.count(1)
		if s.held += n; s.bad || s.held > maxRecents {
			s.bad = true
			return st, false
		}
		st.Recent = make([]corastream.Interaction, n)
		for i := range st.Recent {
			st.Recent[i], _ = s.entry(recentBits)
		}
		return st, !s.bad
	}
	back, n := s.uvarint(), s.uvarint()
	if s.bad || back == 0 || back > uint64(len(before)) {
		s.bad = true
		return st, false
	}
	k := len(before) - int(back)
	last := &before[k]
	if s.bad = last.Retract; s.bad {
		return st, false
	}
	if n > uint64(len(last.Recent))+1 || s.held+int(n) > maxRecents {
		s.bad = true
		return st, false
	}
	s.held += int(n)
	st.Recent = make([]corastream.Interaction, n)
	if n > 0 {
		st.Recent[0] = corastream.Interaction{Item: last.Item, Label: s.labels[k], Time: last.Time}
		copy(st.Recent[1:], last.Recent)
	}
	return st, true
}

func (s *stepsReader) entry(bits uint) (x corastream.Interaction, flags byte) {
	head := s.uvarint()
	flags = byte(head & (1<<bits - 1))
	if k := head >> bits; k < uint64(len(s.ids)) {
		x.Item = s.ids[k]
	} else {
		s.bad = true
	}
	if bits != stepBits || flags&3 != labelNone {
		x.Label = s.label(flags)
	}
	if flags&noTimeFlag == 0 {
		s.clock += s.varint() * units[flags>>2&3]
		x.Time = timeOf(s.clock)
	}
	return x, flags
}

// stepKey is the key of the n-th step record of a transaction.
func stepKey(seq uint64, n uint32) []byte {
	b := binary.BigEndian.AppendUint64(append(make([]byte, 0, 13), pSteps), seq)
	return binary.BigEndian.AppendUint32(b, n)
}

// listMark says which step records are gone, and when a user was last erased.
type listMark struct {
	known   bool   // the store has kept a list model from its first event on
	trimmed uint64 // those of later transactions are all there
	erased  uint64 // journal line of the last erasure
}

var listMarkKey = []byte{pSteps}

func (m listMark) encode(b []byte) ([]byte, error) {
	return appendUvarints(append(b, recordVersion), m.trimmed, m.erased), nil
}

func decodeListMark(value []byte) (m listMark, err error) {
	r, err := open(listMarkKey, value)
	if err != nil {
		return m, err
	}
	m = listMark{known: true, trimmed: r.uvarint(), erased: r.uvarint()}
	return m, r.done(listMarkKey)
}

// A history of up to metShort interactions is searched one by one for an item. That of a user with more is searched so
// metScans times, and from then on a set of the user's items answers: making it costs as much as some 50 searches
// (BenchmarkMet), so a user who comes rarely pays for none.
const (
	metShort = 512
	metScans = 32
)

// metSets are the items met by the users with long histories that learnt last, for the writer
// alone. A set that does not agree with the user's record is made anew, so one left over from a
// write that failed does no harm. Taking interactions back is the exception (forgetMet).
type metSets struct {
	users       map[string]*metSet
	size, limit int // entries
}

type metSet struct {
	total uint64            // interactions ever, when it was last right
	scans int               // searches so far
	at    map[string]uint64 // the number of the newest interaction with an item; it may have left the history
}

// met says whether the item is in the user's kept history.
func (m *metSets) met(u *userRec, item string) bool {
	h := u.History
	if len(h) <= metShort {
		return u.find(item, 0) >= 0
	}
	first := u.total - uint64(len(h))
	set := m.users[u.ID]
	if set == nil || set.at != nil && (set.total != u.total || len(set.at) > len(h)+len(h)/4) {
		m.drop(u.ID)
		if m.size+len(h) > m.limit {
			m.users, m.size = nil, 0
		}
		if m.users == nil {
			m.users = map[string]*metSet{}
		}
		set = &metSet{}
		m.users[u.ID] = set
		m.size += set.size()
	}
	if set.at == nil {
		if set.scans++; set.scans < metScans {
			return u.find(item, 0) >= 0
		}
		m.size -= set.size()
		set.total, set.at = u.total, make(map[string]uint64, len(h)+len(h)/8)
		for i := range h {
			set.at[h[i].Item] = first + uint64(i)
		}
		m.size += set.size()
	}
	n, yes := set.at[item]
	return yes && n >= first
}

// size counts an entry for the set itself.
func (s *metSet) size() int { return len(s.at) + 1 }

// note adds the interaction that the user's record now ends with.
func (m *metSets) note(u *userRec) {
	if set := m.users[u.ID]; set != nil && set.at != nil {
		m.size -= set.size()
		set.at[u.History[len(u.History)-1].Item] = u.total - 1
		set.total++
		m.size += set.size()
	}
}

// forgetMet drops all sets after a write that failed and had taken interactions back: a set made since then may have the total
// of the user's record and lack what the record has.
func (w *work) forgetMet() {
	if w.tookBack {
		m := &w.s.derived.met
		m.users, m.size = nil, 0
	}
}

func (m *metSets) drop(user string) {
	if set := m.users[user]; set != nil {
		m.size -= set.size()
		delete(m.users, user)
	}
}

// stepName names a step record for people.
func stepName(rest []byte) string {
	switch len(rest) {
	case 0:
		return "mark of the list model"
	case 12:
		return fmt.Sprintf("steps %d of transaction %d", binary.BigEndian.Uint32(rest[8:]), binary.BigEndian.Uint64(rest))
	}
	return fmt.Sprintf("steps %x", rest)
}

// codeInteraction gives the flags of an interaction and its time as a difference to prev, in the unit that the flags name.
func codeInteraction(label float32, at, prev int64) (flags byte, delta int64) {
	switch math.Float32bits(label) {
	case 0:
		flags = labelZero
	case math.Float32bits(1):
		flags = labelOne
	default:
		flags = labelF32
	}
	if at == noTime {
		return flags | noTimeFlag, 0
	}
	delta = at - prev // may wrap round, and wraps back when read
	unit := 0
	for delta%units[unit] != 0 {
		unit++
	}
	return flags | byte(unit)<<2, delta / units[unit]
}

// label reads what the flags say of it.
func (r *reader) label(flags byte) float32 {
	switch flags & 3 {
	case labelOne:
		return 1
	case labelF32:
		return r.f32()
	case 3:
		r.bad = true
	}
	return 0
}
