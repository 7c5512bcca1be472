package store

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"math"
	"slices"

	"github.com/corastream/corastream"
)

// blockLen is how many interactions a history block holds. Only the newest, unfinished block is rewritten with each
// event of a user; finished ones have keys of their own and never change.
const blockLen = 64

// userRec is all that is kept of a user. Once published in the cache it is never changed.
type userRec struct {
	corastream.UserState
	total uint64   // interactions ever: History holds numbers [total-len(History), total)
	ids   []seenID // ids of events within the horizon, oldest first
	last  int64    // time of the newest event [ns]
	debt  debt
	since uint64 // the epoch in which it became current
	size  int    // about its encoded bytes
	tags  []byte // of History, see find; for the writer alone
}

// find is the first interaction with an item, from a place of the history on; -1: none. Each interaction has a tag of one byte of its
// item's hash, and bytes.IndexByte passes over some dozens of them in the time that comparing one id takes. The tags are made when
// they are first wanted; they have another length than the history until then.
func (u *userRec) find(item string, from int) int {
	if len(u.tags) != len(u.History) {
		u.tags = make([]byte, len(u.History), len(u.History)+8)
		for i := range u.History {
			u.tags[i] = tagOf(u.History[i].Item)
		}
	}
	tag := tagOf(item)
	for at := from; at < len(u.tags); at++ {
		i := bytes.IndexByte(u.tags[at:], tag)
		if i < 0 {
			return -1
		}
		if at += i; u.History[at].Item == item {
			return at
		}
	}
	return -1
}

var tagSeed = maphash.MakeSeed()

func tagOf(item string) byte { return byte(maphash.String(tagSeed, item)) }

// firstTakenBack is Event.FirstTakenBack of the history.
func (u *userRec) firstTakenBack(ev *corastream.Event) int {
	at := u.find(ev.Item, 0)
	for at >= 0 && !ev.TakesBack(u.History[at]) {
		at = u.find(ev.Item, at+1)
	}
	return at
}

// seenID is an event id already learnt.
type seenID struct {
	hash uint64 // the first 8 bytes of its SHA-256, little-endian
	at   int64  // append time, or event time where there was none [ns]
}

// debt is what a user is still owed: nothing when pend is empty.
type debt struct {
	cause corastream.Position // the newest interaction
	pend  []pending           // by seq
}

// pending are interactions not yet covered by a recommendation: the newest one's journal line, the oldest one's time.
type pending struct {
	seq uint64
	at  int64 // append time [ns]
}

// oldest is the append time of the oldest interaction not covered.
func (d debt) oldest() int64 {
	at := int64(math.MaxInt64)
	for _, p := range d.pend {
		at = min(at, p.at)
	}
	return at
}

func (d debt) seq() uint64 { return d.pend[len(d.pend)-1].seq }

// itemRec is all that is kept of an item.
type itemRec struct {
	corastream.ItemState
	listed bool // a catalogue record has come
	since  uint64
	size   int
}

// unread says whether the frozen LLM has yet to read the item.
func (r *itemRec) unread() bool { return r.listed && !r.Removed && r.Content == nil }

// sharedRec holds mu and w, and what the store counts.
type sharedRec struct {
	corastream.Embedding
	clock int64  // the newest append time seen [ns]; noTime at first
	items uint32 // how many items are known: the next one's Seq
	users uint64 // for statistics alone
	first uint64 // the oldest journal line that is kept
}

func appendEmbedding(b []byte, e *corastream.Embedding) []byte {
	b = appendUvarints(b, e.Version, uint64(e.Count))
	b = appendF32(b, e.Bias)
	return appendFloats(appendFloats(b, e.Vec), e.Acc)
}

func (r *reader) embedding() (e corastream.Embedding) {
	e.Version = r.uvarint()
	count := r.uvarint()
	r.bad = r.bad || count > math.MaxUint32
	e.Count, e.Bias = uint32(count), r.f32()
	e.Vec, e.Acc = r.floats(), r.floats()
	return e
}

func (e *sharedRec) encode(b []byte) []byte {
	b = append(b, recordVersion)
	b = appendEmbedding(b, &e.Embedding)
	b = appendVarint(b, e.clock)
	return appendUvarints(b, uint64(e.items), e.users, e.first)
}

func decodeShared(value []byte) (*sharedRec, error) {
	r, err := open(sharedKey, value)
	if err != nil {
		return nil, err
	}
	e := &sharedRec{Embedding: r.embedding(), clock: r.varint()}
	items := r.uvarint()
	r.bad = r.bad || items > math.MaxUint32
	e.items, e.users, e.first = uint32(items), r.uvarint(), r.uvarint()
	return e, r.done(sharedKey)
}

// encode writes all but the finished history blocks.
func (u *userRec) encode(b []byte) []byte {
	b = append(b, recordVersion)
	b = appendEmbedding(b, &u.Embedding)
	b = appendUvarints(b, u.total, uint64(len(u.History)))
	b = appendInteractions(b, u.tail())
	b = appendVarint(b, u.last)
	b = appendUvarint(b, uint64(len(u.ids)))
	prev := u.last
	for _, id := range u.ids {
		b = appendU64(b, id.hash)
		b = appendVarint(b, id.at-prev)
		prev = id.at
	}
	return appendLabels(appendDebt(b, u.debt), u.Labels)
}

// appendLabels writes the last part of a user's record, which is absent where there are none.
func appendLabels(b []byte, labels []string) []byte {
	if len(labels) == 0 {
		return b
	}
	b = appendUvarint(b, uint64(len(labels)))
	for _, label := range labels {
		b = appendString(b, label)
	}
	return b
}

// tail is the part of the history that is not in finished blocks.
func (u *userRec) tail() []corastream.Interaction {
	return u.History[len(u.History)-min(len(u.History), int(u.total%blockLen)):]
}

// block is the kept part of a block: what History holds of numbers [64 n, 64 n + 64).
func (u *userRec) block(n uint32) []corastream.Interaction {
	first := u.total - uint64(len(u.History))
	from, to := max(first, uint64(n)*blockLen), min(u.total, uint64(n+1)*blockLen)
	if from >= to {
		return nil
	}
	return u.History[from-first : to-first]
}

// blocks is the range [from, to) of finished blocks that hold kept interactions.
func (u *userRec) blocks() (from, to uint32) {
	first := u.total - uint64(len(u.History))
	return uint32(first / blockLen), uint32(u.total / blockLen)
}

// decodeUser reads the record; History still lacks its finished blocks: `kept` is how many interactions it must have.
func decodeUser(key, value []byte) (u *userRec, kept int, err error) {
	r, err := open(key, value)
	if err != nil {
		return nil, 0, err
	}
	u = &userRec{UserState: corastream.UserState{ID: string(key[1:]), Embedding: r.embedding()}, size: len(value)}
	u.total = r.uvarint()
	length := r.uvarint()
	if length > min(u.total, maxHistory) || u.total > math.MaxUint32*blockLen {
		r.bad, length = true, 0
	}
	r.intern()
	if !r.bad {
		u.History = r.interactions(int(min(length, u.total%blockLen)))
	}
	u.last = r.varint()
	if n := r.count(9); n > 0 {
		u.ids = make([]seenID, n)
		prev := u.last
		for i := range u.ids {
			u.ids[i].hash = r.u64()
			prev += r.varint()
			u.ids[i].at = prev
		}
	}
	u.debt = r.debt()
	u.Labels = r.labels()
	return u, int(length), r.done(key)
}

// labels are the strings of the rest of a record; nil where nothing is left.
func (r *reader) labels() (out []string) {
	if r.bad || len(r.b) == 0 {
		return nil
	}
	n := r.count(1)
	r.bad = r.bad || n == 0 || n > corastream.MaxLabels
	for range min(n, corastream.MaxLabels) {
		out = append(out, r.string())
	}
	return out
}

const maxHistory = 1 << 20

func appendDebt(b []byte, d debt) []byte {
	b = appendUvarint(b, uint64(len(d.pend)))
	if len(d.pend) == 0 {
		return b
	}
	b = appendPosition(b, d.cause)
	for _, p := range d.pend {
		b = appendVarint(appendUvarint(b, p.seq), p.at)
	}
	return b
}

func (r *reader) debt() (d debt) {
	n := r.count(2)
	if n == 0 {
		return d
	}
	d.cause = r.position()
	d.pend = make([]pending, n)
	for i := range d.pend {
		d.pend[i] = pending{seq: r.uvarint(), at: r.varint()}
	}
	return d
}

func appendPosition(b []byte, p corastream.Position) []byte {
	b = appendUvarint(appendString(b, p.Topic), uint64(uint32(p.Partition)))
	return appendVarint(b, p.Offset)
}

func (r *reader) position() corastream.Position {
	p := corastream.Position{Topic: r.string()}
	part := r.uvarint()
	r.bad = r.bad || part > math.MaxUint32
	p.Partition, p.Offset = int32(uint32(part)), r.varint()
	return p
}

// Item flags.
const (
	fWithdrawn = 1 << iota
	fRemoved
	fListed
	fRead // Content is known
)

func flag(on bool, bit byte) byte {
	if on {
		return bit
	}
	return 0
}

func (it *itemRec) encode(b []byte) ([]byte, error) {
	b = append(b, recordVersion)
	b = append(b, flag(it.Withdrawn, fWithdrawn)|flag(it.Removed, fRemoved)|flag(it.listed, fListed)|flag(it.Content != nil, fRead))
	b = appendUvarint(b, uint64(it.Seq))
	b = appendString(b, it.Title)
	b = appendFields(b, it.Fields)
	b = appendEmbedding(b, &it.Embedding)
	return appendContent(b, it.Content)
}

// appendFields writes plain fields in the order of their names.
func appendFields(b []byte, fields map[string]string) []byte {
	b = appendUvarint(b, uint64(len(fields)))
	for _, k := range sortedKeys(fields) {
		b = appendString(appendString(b, k), fields[k])
	}
	return b
}

func (r *reader) fields() map[string]string {
	n := r.count(2)
	if n == 0 {
		return nil
	}
	out := make(map[string]string, n)
	for range n {
		k := r.string()
		out[k] = r.string()
	}
	r.bad = r.bad || len(out) != n
	return out
}

// appendContent writes int16 multiples of ContentStep and refuses what is none: it would come back as other bytes.
func appendContent(b []byte, c []float32) ([]byte, error) {
	b = appendUvarint(b, uint64(len(c)))
	for i, x := range c {
		q := float64(x) / corastream.ContentStep
		if q != math.Trunc(q) || q < math.MinInt16 || q > math.MaxInt16 {
			return nil, fmt.Errorf("content[%d] = %v is no multiple of ContentStep within int16 (fix: QuantizeContent)", i, x)
		}
		b = append(b, byte(int16(q)), byte(uint16(int16(q))>>8))
	}
	return b, nil
}

// content is never nil.
func (r *reader) content() []float32 {
	n := r.count(2)
	out := make([]float32, n)
	src := r.take(uint64(2 * n))
	for i := range src[:len(src)/2] {
		out[i] = float32(int16(uint16(src[2*i])|uint16(src[2*i+1])<<8)) * corastream.ContentStep
	}
	return out
}

func decodeItem(key, value []byte) (*itemRec, error) {
	r, err := open(key, value)
	if err != nil {
		return nil, err
	}
	flags := r.byte()
	seq := r.uvarint()
	r.bad = r.bad || seq > math.MaxUint32
	it := &itemRec{size: len(value), listed: flags&fListed != 0}
	it.Seq = uint32(seq)
	it.Item = corastream.Item{
		ID: string(key[1:]), Withdrawn: flags&fWithdrawn != 0, Removed: flags&fRemoved != 0,
		Title: r.string(), Fields: r.fields(),
	}
	it.Embedding = r.embedding()
	if content := r.content(); flags&fRead != 0 {
		it.Content = content
	} else if len(content) > 0 {
		r.bad = true
	}
	return it, r.done(key)
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
