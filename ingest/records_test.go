package ingest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/compress"

	"github.com/corastream/corastream"
)

var testPart = corastream.Partition{Topic: "t", ID: 1}

// rec is a record to be put into a test batch, at offset base+delta.
type rec struct {
	delta, after int64
	key, value   []byte
	headers      []Header
}

// encodeBatch writes a record batch as a broker does (format version 2).
func encodeBatch(base int64, lastDelta int32, attrs int16, producer int64, records []rec) []byte {
	var body []byte
	bytesOf := func(dst, b []byte) []byte {
		if b == nil {
			return binary.AppendVarint(dst, -1)
		}
		return append(binary.AppendVarint(dst, int64(len(b))), b...)
	}
	for _, r := range records {
		one := []byte{0}
		one = binary.AppendVarint(one, r.after)
		one = binary.AppendVarint(one, r.delta)
		one = bytesOf(bytesOf(one, r.key), r.value)
		one = binary.AppendVarint(one, int64(len(r.headers)))
		for _, h := range r.headers {
			one = bytesOf(bytesOf(one, []byte(h.Key)), h.Value)
		}
		body = append(binary.AppendVarint(body, int64(len(one))), one...)
	}
	if code := attrs & attrCodec; code != 0 {
		var packed bytes.Buffer
		w := compress.Compression(code).Codec().NewWriter(&packed)
		w.Write(body)
		w.Close()
		body = packed.Bytes()
	}
	b := binary.BigEndian.AppendUint64(nil, uint64(base))
	b = binary.BigEndian.AppendUint32(b, uint32(batchHead-beforeLen+len(body)))
	b = append(binary.BigEndian.AppendUint32(b, 0), 2, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(attrs))
	b = binary.BigEndian.AppendUint32(b, uint32(lastDelta))
	b = binary.BigEndian.AppendUint64(b, 1000)
	b = binary.BigEndian.AppendUint64(b, 9000)
	b = binary.BigEndian.AppendUint64(b, uint64(producer))
	b = append(b, 0, 0, 0, 0, 0, 0)
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(records))), body...)
	return seal(b)
}

// seal writes the checksum.
func seal(b []byte) []byte {
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], castagnoli))
	return b
}

func plainRecords(n int) (out []rec) {
	for i := range n {
		out = append(out, rec{delta: int64(i), after: int64(i), value: fmt.Append(nil, "v", i)})
	}
	return out
}

func unpackTail(f fetched, next int64, compacted bool, lim limits) (chunk, error) {
	t := &tail{part: testPart, next: next, compacted: compacted, limits: lim, now: time.Now}
	return t.unpack(f)
}

var wide = limits{record: 1 << 20, batch: 1 << 20}

func offsets(c chunk) (out []int64) {
	for _, r := range c.records {
		out = append(out, r.Pos.Offset)
	}
	return out
}

func TestEveryCompressionIsRead(t *testing.T) {
	in := []rec{{value: []byte("a"), key: []byte("k"), headers: []Header{{Key: "h", Value: []byte("x")}, {Key: "none"}}}, {delta: 1, after: 5}, {delta: 2, value: []byte{}}}
	for code := int16(0); code <= 4; code++ {
		c, err := unpackTail(fetched{high: 13, stable: 13, batches: encodeBatch(10, 2, code, -1, in)}, 10, false, wide)
		if err != nil {
			t.Fatalf("codec %d: %v", code, err)
		}
		want := []Record{
			{Pos: corastream.Position{Topic: "t", Partition: 1, Offset: 10}, Key: []byte("k"), Value: []byte("a"), Headers: []Header{{Key: "h", Value: []byte("x")}, {Key: "none"}}, Time: time.UnixMilli(1000).UTC(), Covers: 1},
			{Pos: corastream.Position{Topic: "t", Partition: 1, Offset: 11}, Time: time.UnixMilli(1005).UTC(), Covers: 1},
			{Pos: corastream.Position{Topic: "t", Partition: 1, Offset: 12}, Value: []byte{}, Time: time.UnixMilli(1000).UTC(), Covers: 1},
		}
		if !reflect.DeepEqual(c.records, want) || c.from != 10 || c.to != 13 || c.end != 13 {
			t.Errorf("codec %d: %+v", code, c)
		}
	}
}

func TestTheBrokersTimeIsTakenWhereItStamped(t *testing.T) {
	c, err := unpackTail(fetched{batches: encodeBatch(0, 1, attrLogAppendTime, -1, plainRecords(2))}, 0, false, wide)
	must(t, err)
	for _, r := range c.records {
		if r.Time.UnixMilli() != 9000 {
			t.Errorf("offset %d: %v, but the broker's time is 9 s", r.Pos.Offset, r.Time)
		}
	}
}

func TestReadingBeginsWithinABatchAndStopsBeforeACutOne(t *testing.T) {
	b := slices.Concat(encodeBatch(0, 4, 0, -1, plainRecords(5)), encodeBatch(5, 4, 0, -1, plainRecords(5)), encodeBatch(10, 4, 0, -1, plainRecords(5))[:70])
	c, err := unpackTail(fetched{high: 15, stable: 15, batches: b}, 3, false, wide)
	must(t, err)
	if want := []int64{3, 4, 5, 6, 7, 8, 9}; !slices.Equal(offsets(c), want) || c.to != 10 || c.end != 15 {
		t.Errorf("offsets %v, to %d", offsets(c), c.to)
	}
	if _, err := unpackTail(fetched{batches: b[len(b)-70:]}, 10, false, wide); !errors.Is(err, errAnswerTooLarge) {
		t.Errorf("a batch that no answer can hold: %v", err)
	}
}

func TestHolesAreGapsUnlessTheTopicIsCompacted(t *testing.T) {
	for name, b := range map[string][]byte{
		"before":  encodeBatch(2, 1, 0, -1, plainRecords(2)),
		"between": slices.Concat(encodeBatch(0, 1, 0, -1, plainRecords(2)), encodeBatch(3, 1, 0, -1, plainRecords(2))),
		"within":  encodeBatch(0, 4, 0, -1, []rec{{delta: 0}, {delta: 2}, {delta: 4}}),
		"end":     encodeBatch(0, 4, 0, -1, plainRecords(3)),
		"whole":   encodeBatch(0, 4, 0, -1, nil),
	} {
		if _, err := unpackTail(fetched{batches: b}, 0, false, wide); !errors.Is(err, corastream.ErrGap) {
			t.Errorf("%s: %v", name, err)
		}
		c, err := unpackTail(fetched{batches: b}, 0, true, wide)
		if err != nil || c.to < 2 {
			t.Errorf("%s, compacted: %+v, %v", name, c, err)
		}
	}
}

func TestOnlyCommittedRecordsAreHandedOut(t *testing.T) {
	const txn = attrTransactional
	abortMarker := []rec{{key: []byte{0, 0, 0, 0}}}
	b := slices.Concat(
		encodeBatch(0, 1, txn, 7, plainRecords(2)),            // producer 7, aborted
		encodeBatch(2, 1, txn, 8, plainRecords(2)),            // producer 8, committed
		encodeBatch(4, 0, txn|attrControl, 7, abortMarker),    // ends 7
		encodeBatch(5, 1, txn, 7, plainRecords(2)),            // 7 again, committed
		encodeBatch(7, 0, txn|attrControl, 8, abortMarker[:]), // ends 8
		encodeBatch(8, 0, 0, -1, plainRecords(1)),             // no transaction
		encodeBatch(9, 0, txn|attrControl, 7, abortMarker),
	)
	c, err := unpackTail(fetched{high: 10, stable: 10, batches: b, aborted: []abortedTxn{{7, 0}}}, 0, false, wide)
	must(t, err)
	if want := []int64{2, 3, 5, 6, 8}; !slices.Equal(offsets(c), want) || c.to != 10 {
		t.Errorf("offsets %v to %d, want %v to 10", offsets(c), c.to, want)
	}
}

func TestRecordsOverTheLimitAreCutAndMarked(t *testing.T) {
	big := bytes.Repeat([]byte("x"), 100_000)
	b := encodeBatch(0, 2, 0, -1, []rec{{value: []byte("a")}, {delta: 1, value: big, key: big}, {delta: 2, value: []byte("b")}})
	c, err := unpackTail(fetched{batches: b}, 0, false, limits{record: 1000, batch: 1 << 20})
	must(t, err)
	if r := c.records[1]; r.TooLarge < 200_000 || len(r.Value) != keepLarge || len(r.Key) != keepLarge || c.records[2].TooLarge != 0 {
		t.Errorf("record %d bytes, value %d", r.TooLarge, len(r.Value))
	}
	// 100 kB of x in about 100 bytes: the batch is given up as a whole, and the offsets go on.
	c, err = unpackTail(fetched{batches: encodeBatch(0, 2, 4, -1, []rec{{value: big}, {delta: 1}, {delta: 2}})}, 1, false, limits{record: 1000, batch: 50_000})
	must(t, err)
	if len(c.records) != 1 || c.records[0].TooLarge != 50_001 || c.records[0].Pos.Offset != 1 || c.records[0].Covers != 2 || c.to != 3 {
		t.Errorf("%+v", c)
	}
}

func TestDamagedBatchesAreRefused(t *testing.T) {
	good := encodeBatch(0, 4, 0, -1, plainRecords(5))
	for i := range good {
		if i < 8 || i >= 12 && i < 16 {
			continue // base offset and leader epoch are outside the checksum
		}
		b := slices.Clone(good)
		b[i] ^= 0x10
		c, err := unpackTail(fetched{batches: b}, 0, false, wide)
		if err == nil && len(c.records) > 0 {
			t.Errorf("byte %d flipped: %d records", i, len(c.records))
		}
	}
	for name, change := range map[string]func([]byte) []byte{
		"old format":     func(b []byte) []byte { b[16] = 1; return b },
		"short length":   func(b []byte) []byte { binary.BigEndian.PutUint32(b[8:], 3); return b },
		"more records":   func(b []byte) []byte { binary.BigEndian.PutUint32(b[57:], 1<<30); return seal(b) },
		"fewer offsets":  func(b []byte) []byte { binary.BigEndian.PutUint32(b[23:], 1); return seal(b) },
		"negative delta": func(b []byte) []byte { binary.BigEndian.PutUint32(b[23:], 1<<31); return seal(b) },
		"no such codec":  func(b []byte) []byte { b[22] |= 7; return seal(b) },
		"not compressed": func(b []byte) []byte { b[22] |= 1; return seal(b) },
		"record length":  func(b []byte) []byte { b[batchHead] = 0xfe; return seal(b) },
	} {
		if _, err := unpackTail(fetched{batches: change(slices.Clone(good))}, 0, false, wide); !errors.Is(err, corastream.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzUnpack: whatever a broker sends, reading stays within bounds and offsets rise.
func FuzzUnpack(f *testing.F) {
	f.Add(encodeBatch(0, 4, 0, -1, plainRecords(5)), true, int64(7), int64(0))
	f.Add(encodeBatch(3, 2, 4, 7, plainRecords(3)), false, int64(7), int64(3))
	f.Add(slices.Concat(encodeBatch(0, 0, attrTransactional, 7, plainRecords(1)), encodeBatch(1, 0, attrControl, 7, plainRecords(1))), false, int64(7), int64(0))
	f.Fuzz(func(t *testing.T, b []byte, compacted bool, producer, first int64) {
		if len(b) >= batchHead { // most inputs would end at the checksum
			if n := int(int32(binary.BigEndian.Uint32(b[8:]))); n >= batchHead-beforeLen && n <= len(b)-beforeLen {
				seal(b[:beforeLen+n])
			}
		}
		c, err := unpackTail(fetched{batches: b, aborted: []abortedTxn{{producer, first}}}, 0, compacted, limits{record: 100, batch: 1 << 16})
		if err != nil {
			return
		}
		last := int64(-1)
		for _, r := range c.records {
			if r.Pos.Offset <= last || r.Pos.Offset >= c.to || len(r.Value) > keepLarge && r.TooLarge == 0 {
				t.Fatalf("record %+v after %d, to %d", r.Pos, last, c.to)
			}
			last = r.Pos.Offset
		}
	})
}

// FuzzAnswers: the same for the two other answers that are read here.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 10, '1', '2', '7', '.', '0', '.', '0', '.', '1', 0, 0, 35, 132, 0, 0, 2, 'c', 0, 0, 0, 0, 1, 0})
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 't', 0, 0, 0, 1, 0, 0, 0, 1, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := parseMetadata(b); err == nil && len(c.topics)+len(c.brokers) > len(b) {
			t.Fatalf("%d topics and %d brokers from %d bytes", len(c.topics), len(c.brokers), len(b))
		}
		for v := int16(4); v <= newestFetch; v++ {
			if got, err := parseFetch(b, v, testPart); err == nil && (len(got.batches) > len(b) || 16*len(got.aborted) > len(b)) {
				t.Fatalf("version %d: more than was sent", v)
			}
		}
	})
}

func BenchmarkUnpack(b *testing.B) {
	value := []byte(`{"user_id":"u196","item_id":"i242","type":"rating","rating":3,"timestamp":881250949,"id":"e-0000012345"}`)
	var records []rec
	for i := range 1000 {
		records = append(records, rec{delta: int64(i), key: []byte("u196"), value: value})
	}
	for code, name := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		f := fetched{batches: encodeBatch(0, 999, int16(code), -1, records)}
		b.Run(name, func(b *testing.B) {
			n := 0
			for b.Loop() {
				c, err := unpackTail(f, 0, false, limits{1 << 20, 64 << 20})
				if err != nil {
					b.Fatal(err)
				}
				n += len(c.records)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// A stuck connection must not be read as zeros.
func TestShortAnswersAreErrors(t *testing.T) {
	w := &wire{b: []byte{0, 0, 0}}
	if w.int32() != 0 || w.err == nil || w.int64() != 0 || w.str() != "" || w.varBytes() != nil {
		t.Error("reading past the end went well")
	}
	if !retryable(io.ErrUnexpectedEOF) || !retryable(w.err) {
		t.Error("a new connection may help")
	}
}
