package ingest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/bounded"
)

var (
	changePos = corastream.Position{Topic: "corastream.embeddings", Partition: 3, Offset: 41}
	parcelPos = corastream.Position{Topic: "corastream.gradients", Partition: 3, Offset: 41}
)

func TestAChangeAndAParcelAreReadAsWritten(t *testing.T) {
	for _, want := range []corastream.Change{
		{Pos: changePos, Epoch: 1, Key: []byte("u:"), Value: []byte{}},
		{Pos: changePos, Epoch: 1 << 63, Seq: 1<<64 - 1, Key: []byte("x:\x00\xff"), Value: []byte("v")},
		{Pos: changePos, Epoch: 300, Seq: 7, Key: []byte("i:7")},
	} {
		r := encodeChange(want)
		r.Pos = changePos
		if got, err := decodeChange(r); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v became %+v, %v", want, got, err)
		}
	}
	for _, want := range []corastream.Parcel{{Pos: parcelPos, From: 9, To: 3, Seq: 1<<64 - 1, Body: []byte("b")}, {Pos: parcelPos, To: 3, Body: []byte{}}} {
		r := encodeParcel(want)
		r.Pos = parcelPos
		if got, err := decodeParcel(r); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v became %+v, %v", want, got, err)
		}
	}
}

func TestWhatIsNotAChangeOrAParcelIsRefusedByPlace(t *testing.T) {
	version := func(b ...byte) []Header { return []Header{{Key: headerVersion, Value: b}} }
	for _, c := range []struct {
		r    Record
		word string
	}{
		{Record{Key: []byte("u:1")}, "missing"},
		{Record{Key: []byte("u:1"), Headers: []Header{{Key: "w", Value: []byte{1, 1}}}}, "missing"},
		{Record{Headers: version(1, 1)}, "key"},
		{Record{Key: []byte("user"), Headers: version(1, 1)}, "key"},
		{Record{Key: []byte("u:1"), Headers: version()}, "header"},
		{Record{Key: []byte("u:1"), Headers: version(1)}, "header"},
		{Record{Key: []byte("u:1"), Headers: version(0, 1)}, "header"},
		{Record{Key: []byte("u:1"), Headers: version(1, 1, 1)}, "header"},
		{Record{Key: []byte("u:1"), Headers: version(0x80, 0x80)}, "header"},
		{Record{Key: []byte("u:1"), Headers: version(bytes.Repeat([]byte{0xff}, 11)...)}, "header"},
		{Record{Key: []byte("u:1"), Headers: append(version(1, 1), version(1, 2)...)}, "header"},
		{Record{Key: []byte("u:1"), Headers: version(1, 1), TooLarge: 1 << 25}, "33554432"},
	} {
		c.r.Pos = changePos
		_, err := decodeChange(c.r)
		refusedByPlace(t, err, "topic corastream.embeddings partition 3 offset 41", c.word)
	}
	key := make([]byte, 12)
	for _, r := range []Record{
		{},
		{Key: key},
		{Key: key, Value: []byte{1}},
		{Key: key, Value: []byte{2, 3}},
		{Key: key, Value: []byte{1, 4}},
		{Key: key, Value: []byte{1, 0x80}},
		{Key: key[:11], Value: []byte{1, 3}},
		{Key: append([]byte{0x80}, key[1:]...), Value: []byte{1, 3}},
		{Key: key, Value: []byte{1, 3}, TooLarge: 1 << 25},
	} {
		r.Pos = parcelPos
		_, err := decodeParcel(r)
		refusedByPlace(t, err, "topic corastream.gradients partition 3 offset 41", "")
	}
}

func refusedByPlace(t *testing.T, err error, words ...string) {
	t.Helper()
	if !errors.Is(err, corastream.ErrCorrupt) {
		t.Errorf("%v", err)
		return
	}
	for _, w := range append(words, "fix:") {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

// FuzzCluster: whatever lies on a cluster's own topics, or a member of its group says, is read as what it was written from, or refused.
func FuzzCluster(f *testing.F) {
	f.Add([]byte("u:1"), []byte("value"), []byte{1, 1}, false)
	f.Add([]byte("c:0011"), []byte("member"), []byte{0xff, 1, 0}, true)
	f.Add(binary.BigEndian.AppendUint64([]byte{0, 0, 0, 2}, 7), []byte{1, 3, 'b'}, []byte{1, 3, 0xac, 2}, false)
	f.Add(binary.BigEndian.AppendUint64([]byte{0xff, 0, 0, 2}, 7), []byte{1, 0x83, 0x00}, []byte{}, true)
	d := NewDecoder(Default())
	f.Fuzz(func(t *testing.T, key, value, header []byte, gone bool) {
		r := Record{Key: key, Value: value, Headers: []Header{{Key: headerVersion, Value: header}}, Covers: 1}
		if gone {
			r.Value = nil
		}
		for _, at := range []corastream.Position{changePos, parcelPos} {
			r.Pos = at
			var b corastream.Batch
			var err error
			bounded.Parse(t, len(key)+len(value)+len(header), func() { err = d.take(&b, &wants{}, r) })
			if err != nil {
				if !errors.Is(err, corastream.ErrCorrupt) || len(b.Changes)+len(b.Parcels)+len(b.Bad) > 0 {
					t.Fatalf("%v, %+v", err, b)
				}
				continue
			}
			for _, c := range b.Changes {
				again := encodeChange(c)
				again.Pos = at
				if back, err := decodeChange(again); err != nil || !reflect.DeepEqual(back, c) {
					t.Fatalf("%+v became %+v, %v", c, back, err)
				}
			}
			for _, p := range b.Parcels {
				if again := encodeParcel(p); p.To != at.Partition || !bytes.Equal(again.Key, key) || !bytes.HasSuffix(again.Value, p.Body) {
					t.Fatalf("%+v became %+v", p, again)
				}
			}
		}
		var said []int
		bounded.Parse(t, len(header), func() { said = parseOwned(header) })
		if len(said) > len(header) || slices.ContainsFunc(said, func(p int) bool { return p < 0 || p >= maxOwned }) {
			t.Fatalf("%x means %v", header, said)
		}
	})
}

// FuzzProduced: an answer to Produce gives an offset or an error to each batch, and never both.
func FuzzProduced(f *testing.F) {
	answer := func(code byte, base int64) []byte {
		b := []byte{0, 0, 0, 1, 0, 1, 't', 0, 0, 0, 1, 0, 0, 0, 1, 0, code}
		b = binary.BigEndian.AppendUint64(b, uint64(base))
		return append(b, make([]byte, 8+8+4+2+4)...)
	}
	f.Add(answer(0, 5))
	f.Add(answer(7, -1))
	f.Add(answer(0, -1))
	f.Fuzz(func(t *testing.T, b []byte) {
		for v := int16(3); v <= newestProduce; v++ {
			p := &posting{part: testPart, base: -1, maybe: true}
			var err error
			bounded.Parse(t, len(b), func() { err = parseProduce(b, v, []*posting{p}) })
			if stored := p.base >= 0; stored && (p.err != nil || p.maybe) || !stored && p.err == nil && err == nil {
				t.Fatalf("version %d: %+v, %v", v, p, err)
			}
		}
	})
}
