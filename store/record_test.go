package store

import (
	"bytes"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/bounded"
)

// samples are records of every kind with odd contents.
func samples() map[string]struct{ key, value []byte } {
	out := map[string]struct{ key, value []byte }{}
	add := func(name string, key, body []byte) {
		out[name] = struct{ key, value []byte }{key, seal(key, body)}
	}
	vec := corastream.Embedding{
		Vec: []float32{1, -0, math.MaxFloat32, math.SmallestNonzeroFloat32}, Acc: []float32{0, 1, 2, 3}, Bias: -0.25,
		Count: math.MaxUint32, Version: math.MaxUint64,
	}
	u := userRec{UserState: corastream.UserState{ID: "ü\x00ser", Embedding: vec}, last: nanos(epoch)}
	for i := range 70 {
		u.remember("item", corastream.Event{Label: float32(i) / 3, Time: epoch.Add(time.Duration(i*i) * time.Microsecond)}, 66)
	}
	u.ids = []seenID{{1, nanos(epoch)}, {math.MaxUint64, noTime}}
	u.debt = debt{cause: corastream.Position{Topic: "t", Partition: math.MaxInt32, Offset: math.MaxInt64}, pend: []pending{{1, 5}, {9, noTime}}}
	add("user", userKey(u.ID), u.encode(nil))
	add("empty user", userKey("u"), (&userRec{}).encode(nil))
	add("block", historyKey(u.ID, 0), encodeBlock(nil, 4, u.block(0)))
	it := itemRec{listed: true}
	it.Item = corastream.Item{ID: "i", Title: "Amélie — \u202e", Fields: map[string]string{"b": "", "": "x", "a": "y"}, Withdrawn: true, Content: []float32{-8, 0, 0.5}}
	it.Embedding, it.Seq = vec, math.MaxUint32
	body, err := it.encode(nil)
	if err != nil {
		panic(err)
	}
	add("item", itemKey("i"), body)
	add("shared", sharedKey, (&sharedRec{Embedding: vec, clock: noTime, items: 7, users: 9, first: 3}).encode(nil))
	line := Line{
		Kind: KindContent, At: epoch, Spans: []corastream.Span{{Partition: corastream.Partition{Topic: "t", ID: -1}, From: 0, To: math.MaxInt64}},
		Items: []corastream.Item{{ID: "i", Content: []float32{1}}, {ID: "j", Content: []float32{}}}, Erasures: []Erasure{ErasureOf("u", epoch)},
	}
	if body, err = line.encode(nil); err != nil {
		panic(err)
	}
	add("line", journalKey(3), body)
	enc := newStepsWriter(3)
	enc.item(&corastream.Item{ID: "i", Title: "t", Fields: map[string]string{"b": "", "a": "y"}, Removed: true})
	for i, at := range []int64{nanos(epoch), nanos(epoch) + 5, noTime, nanos(epoch.Add(time.Hour))} {
		taught := &userWork{rec: &u}
		enc.step(taught, "item", float32(i)/2, at, i%2 == 0)
		enc.step(taught, "other", 1, at, false)
	}
	enc.finish()
	add("steps", stepKey(7, 1), enc.bodies[0])
	mark, _ := listMark{trimmed: 5, erased: 6}.encode(nil)
	add("list mark", listMarkKey, mark)
	add("index", seqKey(pSeq, 3), appendString([]byte{recordVersion}, "i"))
	return out
}

// decode reads any record; it is nil for what has no body.
func decode(key, value []byte) (any, error) {
	switch key[0] {
	case pUser:
		u, _, err := decodeUser(key, value)
		return u, err
	case pHistory:
		_, list, err := decodeBlock(key, value)
		return list, err
	case pItem:
		return decodeItem(key, value)
	case pShared:
		return decodeShared(value)
	case pJournal:
		return decodeLine(key, value)
	case pRequest:
		r, _, err := decodeRequest(key, value)
		return r, err
	case pOffset:
		_, next, err := decodeOffset(key, value)
		return next, err
	case pErased:
		return decodeErasure(key, value)
	case pSteps:
		if len(key) == 1 {
			return decodeListMark(value)
		}
		return decodeSteps(key, value)
	}
	return decodeString(key, value)
}

// TestRecordsKeepEveryValue, odd ones included, and every byte of them is covered by the checksum.
func TestRecordsKeepEveryValue(t *testing.T) {
	for name, rec := range samples() {
		got, err := decode(rec.key, rec.value)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var again []byte
		switch v := got.(type) {
		case *userRec:
			again = v.encode(nil)
		case []corastream.Interaction:
			again = encodeBlock(nil, 4, v)
		case *itemRec:
			again, _ = v.encode(nil)
		case *sharedRec:
			again = v.encode(nil)
		case Line:
			again, _ = v.encode(nil)
		case string:
			again = appendString([]byte{recordVersion}, v)
		}
		if name == "user" { // the finished block's interactions are in a record of their own: 66 kept, 6 here
			if u := got.(*userRec); len(u.History) != 6 || u.total != 70 {
				t.Errorf("%d of %d interactions in the record", len(u.History), u.total)
			}
			again = nil
		}
		if again != nil && !bytes.Equal(seal(rec.key, again), rec.value) {
			t.Errorf("%s: comes back as other bytes", name)
		}
		for i := range rec.value {
			bad := bytes.Clone(rec.value)
			bad[i] ^= 0x10
			if _, err := decode(rec.key, bad); err == nil {
				t.Errorf("%s: byte %d is not covered", name, i)
			}
		}
		for i := range rec.key[1:] {
			bad := bytes.Clone(rec.key)
			bad[i+1] ^= 1
			if _, err := decode(bad, rec.value); err == nil {
				t.Errorf("%s: found under another key, it passes", name)
			}
		}
	}
}

// TestInteractionsKeepLabelsAndTimes of every size, and take few bytes for common ones.
func TestInteractionsKeepLabelsAndTimes(t *testing.T) {
	times := []time.Time{
		{},
		epoch, epoch.Add(1), epoch.Add(time.Second), epoch.Add(-time.Hour), time.Unix(0, 0).UTC(),
		time.Date(1700, 1, 1, 0, 0, 0, 5, time.UTC), time.Date(2261, 1, 1, 0, 0, 0, 0, time.UTC),
		{},
		epoch,
	}
	labels := []float32{0, 1, 0.5, float32(math.Copysign(0, -1)), 1e-30}
	var list []corastream.Interaction
	r := rand.New(rand.NewPCG(1, 1))
	for range 500 {
		list = append(list, corastream.Interaction{Item: "i", Label: labels[r.IntN(len(labels))], Time: times[r.IntN(len(times))], Shown: r.IntN(5) == 0})
	}
	in := reader{b: appendInteractions(nil, list)}
	got := in.interactions(len(list))
	if in.bad || len(in.b) > 0 || !reflect.DeepEqual(got, list) {
		t.Error("interactions came back changed")
	}
	for i := range got {
		if math.Float32bits(got[i].Label) != math.Float32bits(list[i].Label) {
			t.Errorf("label %v came back as %v", list[i].Label, got[i].Label)
		}
	}
	plain := []corastream.Interaction{{Item: "1234", Label: 1, Time: epoch}, {Item: "1234", Label: 1, Time: epoch.Add(90 * time.Second)}}
	if n := len(appendInteractions(nil, plain)) - len(appendInteractions(nil, plain[:1])); n > 8 {
		t.Errorf("a common interaction takes %d bytes", n)
	}
	for _, year := range []int{-5, 1, 1600, 2500, 9999} { // beyond int64 nanoseconds: clamped, and stable then
		x := timeOf(nanos(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)))
		if nanos(timeOf(nanos(x))) != nanos(x) || (year > 2000) != (x.Year() > 2000) {
			t.Errorf("year %d became %v", year, x)
		}
	}
}

// FuzzRecord: whatever a record's key and body are, decoding does not panic and takes no more memory than the bytes call for.
func FuzzRecord(f *testing.F) {
	for _, rec := range samples() {
		f.Add(rec.key, rec.value[:len(rec.value)-4])
	}
	f.Add([]byte("u"), []byte("\x01\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Add([]byte("hx\x00\x00\x00\x00"), []byte("\x01\x00\x40"))
	f.Add(requestKey(&corastream.Request{}), []byte("\x01\x01"))
	f.Fuzz(func(t *testing.T, key, body []byte) {
		if len(key) == 0 || len(key)+len(body) > MaxRecord {
			return
		}
		_ = keyName(key)
		value := seal(key, bytes.Clone(body))
		var got any
		var err error
		bounded.Parse(t, len(value), func() { got, err = decode(key, value) })
		if err != nil {
			return
		}
		switch v := got.(type) { // what decodes can be written again
		case *userRec:
			if n, end := v.blocks(); end < n || len(v.History) > len(body) || len(v.ids) > len(body) {
				t.Errorf("%d blocks from %d, %d interactions of %d bytes", end, n, len(v.History), len(body))
			}
			v.canonical(nil)
		case *itemRec:
			if _, err := v.encode(nil); err != nil {
				t.Error(err)
			}
		case Line:
			if _, err := v.encode(nil); err != nil {
				t.Error(err)
			}
		}
	})
}
