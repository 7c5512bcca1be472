package store

import (
	"encoding/binary"
	"time"

	"github.com/corastream/corastream"
)

// An interaction is: item id, flags, label when it is neither 0 nor 1, time as a difference to the one before. The
// flags' bits 0-1 say what the label is, 2-3 the unit of the difference, 4 that there is no time, 5 that the item was only shown.
const (
	labelZero = iota
	labelOne
	labelF32
	labelNone  = 3 // in a step alone: it takes back
	noTimeFlag = 1 << 4
	shownFlag  = 1 << 5
)

// units of a time difference, the coarsest first: Kafka's times are in ms and many logs' in s.
var units = [4]int64{int64(time.Second), int64(time.Millisecond), int64(time.Microsecond), 1}

func appendInteractions(b []byte, list []corastream.Interaction) []byte {
	var prev int64
	for _, h := range list {
		b = appendString(b, h.Item)
		at := nanos(h.Time)
		flags, delta := codeInteraction(h.Label, at, prev)
		if at != noTime {
			prev = at
		}
		b = append(b, flags|flag(h.Shown, shownFlag))
		if flags&3 == labelF32 {
			b = appendF32(b, h.Label)
		}
		if at != noTime {
			b = appendVarint(b, delta)
		}
	}
	return b
}

// interactions reads n of them.
func (r *reader) interactions(n int) []corastream.Interaction {
	if n > len(r.b)/2 {
		r.bad, r.b = true, nil
		return nil
	}
	if n == 0 {
		return nil
	}
	out := make([]corastream.Interaction, 0, n)
	var prev int64
	for range n {
		h := corastream.Interaction{Item: r.string()}
		flags := r.byte()
		h.Label = r.label(flags)
		if flags&noTimeFlag == 0 {
			prev += r.varint() * units[flags>>2&3]
			h.Time = timeOf(prev)
		}
		h.Shown = flags&shownFlag != 0
		out = append(out, h)
	}
	return out
}

// A history block's body: the number of the first interaction, how many, the interactions.
func encodeBlock(b []byte, first uint64, list []corastream.Interaction) []byte {
	b = append(b, recordVersion)
	b = appendUvarints(b, first, uint64(len(list)))
	return appendInteractions(b, list)
}

func decodeBlock(key, value []byte) (first uint64, list []corastream.Interaction, err error) {
	r, err := open(key, value)
	if err != nil {
		return 0, nil, err
	}
	first = r.uvarint()
	n := r.count(2)
	if n > blockLen {
		r.bad, n = true, 0
	}
	r.intern()
	list = r.interactions(n)
	return first, list, r.done(key)
}

func appendUvarints(b []byte, xs ...uint64) []byte {
	for _, x := range xs {
		b = binary.AppendUvarint(b, x)
	}
	return b
}

func appendUvarint(b []byte, x uint64) []byte { return binary.AppendUvarint(b, x) }
func appendVarint(b []byte, x int64) []byte   { return binary.AppendVarint(b, x) }
func appendU64(b []byte, x uint64) []byte     { return binary.LittleEndian.AppendUint64(b, x) }
