package store

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"time"

	"github.com/corastream/corastream"
	"github.com/dgraph-io/badger/v4"
)

// Kind says what a journal line records.
type Kind byte

// The kinds of journal lines.
const (
	KindEvents  Kind = 1 // a batch: the spans it covered
	KindContent Kind = 2 // a Join: the items and their content
	KindErasure Kind = 3 // users were erased: their hashes
	KindCodes   Kind = 5 // Code: the items and their codes
	kindNote    Kind = 4 // debts were settled, metadata set, silent users swept: nothing that a re-run repeats
)

func (k Kind) String() string {
	switch k {
	case KindEvents:
		return "events"
	case KindContent:
		return "content"
	case KindErasure:
		return "erasure"
	case KindCodes:
		return "codes"
	case kindNote:
		return "note"
	}
	return fmt.Sprintf("kind %d", byte(k))
}

// Line is one transaction of the journal. Applying the lines in the order of Seq to an empty store, each line's spans
// as one batch (its catalogue records first, then its events), Rejoin and EraseAll for the others, gives an equal Digest.
type Line struct {
	Seq   uint64
	Kind  Kind
	At    time.Time         // wall clock of the commit; no state depends on it
	Spans []corastream.Span // of KindEvents
	Items []corastream.Item // of KindContent: ID and Content alone; of KindCodes: ID and Code, in Content
	// Erasures of KindErasure.
	Erasures []Erasure
}

func (l *Line) encode(b []byte) ([]byte, error) {
	b = append(b, recordVersion, byte(l.Kind))
	b = appendVarint(b, nanos(l.At))
	b = appendUvarint(b, uint64(len(l.Spans)))
	for _, s := range l.Spans {
		b = appendUvarint(appendString(b, s.Topic), uint64(uint32(s.ID)))
		b = appendVarint(appendVarint(b, s.From), s.To-s.From)
	}
	b = appendUvarint(b, uint64(len(l.Items)))
	for _, it := range l.Items {
		var err error
		if b, err = appendContent(appendString(b, it.ID), it.Content); err != nil {
			return nil, fmt.Errorf("item %q: %w", it.ID, err)
		}
	}
	b = appendUvarint(b, uint64(len(l.Erasures)))
	for _, e := range l.Erasures {
		b = appendVarint(append(b, e.User[:]...), nanos(e.At))
	}
	return b, nil
}

func decodeLine(key, value []byte) (l Line, err error) {
	if len(key) != 9 {
		return l, fmt.Errorf("%w: %s", corastream.ErrCorrupt, keyName(key))
	}
	r, err := open(key, value)
	if err != nil {
		return l, err
	}
	l.Seq, l.Kind = binary.BigEndian.Uint64(key[1:]), Kind(r.byte())
	l.At = timeOf(r.varint())
	r.intern()
	if n := r.count(4); n > 0 {
		l.Spans = make([]corastream.Span, n)
		for i := range l.Spans {
			s := &l.Spans[i]
			s.Topic = r.string()
			id := r.uvarint()
			r.bad = r.bad || id > math.MaxUint32
			s.ID = int32(uint32(id))
			s.From = r.varint()
			s.To = s.From + r.varint()
		}
	}
	if n := r.count(2); n > 0 {
		l.Items = make([]corastream.Item, n)
		for i := range l.Items {
			l.Items[i].ID = r.string()
			l.Items[i].Content = r.content()
		}
	}
	if n := r.count(33); n > 0 {
		l.Erasures = make([]Erasure, n)
		for i := range l.Erasures {
			copy(l.Erasures[i].User[:], r.take(32))
			l.Erasures[i].At = timeOf(r.varint())
		}
	}
	return l, r.done(key)
}

// Journal yields the lines after seq `after` (0: all) in order, as they stand when the iteration begins. Numbers are left
// out where a transaction wrote nothing that a re-run repeats.
func (s *Store) Journal(after uint64) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		err := s.scan([]byte{pJournal}, journalKey(after+1), func(key []byte, it *badger.Item) (bool, error) {
			var line Line
			err := it.Value(func(v []byte) (err error) { line, err = decodeLine(key, v); return err })
			return err == nil && (line.Kind == kindNote || yield(line, nil)), err
		})
		if err != nil {
			yield(Line{}, err)
		}
	}
}

// lastSeq is the newest journal line's number, 0 when there is none.
func lastSeq(txn *badger.Txn) (seq uint64, err error) {
	o := badger.DefaultIteratorOptions
	o.Reverse, o.PrefetchValues, o.Prefix = true, false, []byte{pJournal}
	it := txn.NewIterator(o)
	defer it.Close()
	if it.Seek([]byte{pJournal, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}); it.Valid() {
		if key := it.Item().Key(); len(key) == 9 {
			seq = binary.BigEndian.Uint64(key[1:])
		}
	}
	return seq, nil
}

// scan runs over the current snapshot.
func (s *Store) scan(prefix, from []byte, f func(key []byte, it *badger.Item) (bool, error)) error {
	sn, err := s.acquire()
	if err != nil {
		return err
	}
	defer sn.release()
	return scan(sn.txn, prefix, from, f)
}
