package ingest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"time"

	"github.com/segmentio/kafka-go/compress"

	"github.com/corastream/corastream"
)

const (
	batchHead = 61    // bytes of a version 2 batch before its records
	beforeLen = 12    // base offset and length, which the length does not count
	keepLarge = 8192  // bytes kept of a record that is too large
	maxHeader = 10000 // headers on a record

	slabHeaders = 256
)

// Bits of a batch's attributes.
const (
	attrCodec         = 0x07
	attrLogAppendTime = 0x08
	attrTransactional = 0x10
	attrControl       = 0x20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// recordBatch is the head of a record batch, format version 2 (KIP-98).
type recordBatch struct {
	base, last int64 // offsets, both included
	attrs      int16
	first, max int64 // times, unix ms
	producer   int64
	count      int32
	body       []byte
}

// nextRecordBatch cuts the first batch off b. ok is false when b ends within it: brokers cut the last one off.
func nextRecordBatch(b []byte) (out recordBatch, rest []byte, ok bool, err error) {
	if len(b) < batchHead {
		return recordBatch{}, nil, false, nil
	}
	n := int64(int32(binary.BigEndian.Uint32(b[8:])))
	if magic := b[16]; magic != 2 {
		return recordBatch{}, nil, false, fmt.Errorf("record format %d, from before Kafka 0.11 (fix: rewrite the topic with a newer broker): %w",
			magic, corastream.ErrCorrupt)
	}
	if n < batchHead-beforeLen {
		return recordBatch{}, nil, false, fmt.Errorf("a record batch of %d bytes: %w", n, corastream.ErrCorrupt)
	}
	if n > int64(len(b)-beforeLen) {
		return recordBatch{}, nil, false, nil
	}
	whole := b[:beforeLen+n]
	base := int64(binary.BigEndian.Uint64(whole))
	if sum := crc32.Checksum(whole[21:], castagnoli); sum != binary.BigEndian.Uint32(whole[17:]) {
		return recordBatch{}, nil, false, fmt.Errorf("checksum of the record batch at offset %d: %w", base, corastream.ErrCorrupt)
	}
	w := &wire{b: whole[21:]}
	out = recordBatch{base: base, attrs: w.int16(), last: base + int64(w.int32()), first: w.int64(), max: w.int64(), producer: w.int64()}
	w.int16() // producer epoch
	w.int32() // sequence
	out.count = w.int32()
	out.body = w.b
	if out.last < base || out.count < 0 {
		return recordBatch{}, nil, false, fmt.Errorf("record batch at offset %d: %w", base, corastream.ErrCorrupt)
	}
	return out, b[len(whole):], true, nil
}

// limits of a reader.
type limits struct{ record, batch int }

// records appends the records at or after offset from to dst.
func (b recordBatch) records(dst []Record, p corastream.Partition, from int64, lim limits) ([]Record, error) {
	body := b.body
	if code := b.attrs & attrCodec; code != 0 {
		var err error
		if body, err = decompress(code, body, lim.batch); err != nil {
			return nil, fmt.Errorf("record batch at offset %d: %w", b.base, err)
		}
		if body == nil {
			base := max(b.base, from)
			return append(dst, Record{
				Pos:  corastream.Position{Topic: p.Topic, Partition: p.ID, Offset: base},
				Time: b.time(0), TooLarge: lim.batch + 1, Covers: b.last - base + 1,
			}), nil
		}
	}
	w := &wire{b: body}
	// A record takes at least 7 bytes, so a false count can not make this large.
	dst = slices.Grow(dst, min(int(b.count), len(body)/7))
	last := b.base - 1
	var slab []Header // one allocation for the headers of many records
	for range b.count {
		size := w.varint()
		if size < 0 || size > int64(len(w.b)) {
			return nil, fmt.Errorf("record batch at offset %d: %w", b.base, corastream.ErrCorrupt)
		}
		r := &wire{b: w.take(int(size))}
		rec, err := b.record(r, p, int(size), lim, &slab)
		if err != nil || rec.Pos.Offset <= last || rec.Pos.Offset > b.last {
			return nil, fmt.Errorf("record batch at offset %d: %w", b.base, corastream.ErrCorrupt)
		}
		if last = rec.Pos.Offset; last >= from {
			dst = append(dst, rec)
		}
	}
	return dst, w.err
}

func (b recordBatch) record(w *wire, p corastream.Partition, size int, lim limits, slab *[]Header) (Record, error) {
	w.int8() // attributes, unused
	after, delta := w.varint(), w.varint()
	rec := Record{
		Pos: corastream.Position{Topic: p.Topic, Partition: p.ID, Offset: b.base + delta}, Time: b.time(after), Covers: 1,
		Key: w.varBytes(), Value: w.varBytes(),
	}
	n := w.varint()
	if n < 0 || n > maxHeader {
		return rec, errWire
	}
	if need := min(int(n), len(w.b)/2); cap(*slab)-len(*slab) < need {
		*slab = make([]Header, 0, max(need, min(int(b.count), slabHeaders)))
	}
	first := len(*slab)
	for ; n > 0 && w.err == nil; n-- {
		*slab = append(*slab, Header{Key: string(w.varBytes()), Value: w.varBytes()})
	}
	if len(*slab) > first {
		rec.Headers = (*slab)[first:len(*slab):len(*slab)]
	}
	if size > lim.record {
		rec.TooLarge, rec.Headers = size, nil
		rec.Value, rec.Key = rec.Value[:min(len(rec.Value), keepLarge)], rec.Key[:min(len(rec.Key), keepLarge)]
	}
	return rec, w.err
}

// time of a record. kafka-go always takes the producer's; where the broker stamped the batch, its time is max.
func (b recordBatch) time(delta int64) time.Time {
	if b.attrs&attrLogAppendTime != 0 {
		return time.UnixMilli(b.max).UTC()
	}
	return time.UnixMilli(b.first + delta).UTC()
}

// decompress unpacks a batch's body; nil when it is larger than limit.
func decompress(code int16, b []byte, limit int) ([]byte, error) {
	codec := compress.Compression(code).Codec()
	if codec == nil {
		return nil, fmt.Errorf("compression %d is unknown: %w", code, corastream.ErrCorrupt)
	}
	r := codec.NewReader(bytes.NewReader(b))
	defer r.Close()
	var out bytes.Buffer
	out.Grow(min(4*len(b), limit))
	n, err := out.ReadFrom(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %v: %w", codec.Name(), err, corastream.ErrCorrupt)
	}
	if n > int64(limit) {
		return nil, nil
	}
	return out.Bytes(), nil
}
