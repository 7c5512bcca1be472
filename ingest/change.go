package ingest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/corastream/corastream"
)

const (
	ownBatchBytes  = 16 << 20 // max.message.bytes of the cluster's own topics
	ownAppendBytes = 15 << 20 // what one append may hold, before compression and the batch's own framing
	recordFrame    = 32       // more than a record takes beside key, value and headers
	headerVersion  = "v"      // a change's epoch and seq
)

// order is the newest (epoch, seq) of one changelog, as it is read from its first record on.
type order struct{ epoch, seq uint64 }

// void says that what comes now has been superseded: a former owner wrote it, or it came twice.
func (o *order) void(epoch, seq uint64) bool {
	if epoch < o.epoch || epoch == o.epoch && seq < o.seq {
		return true
	}
	o.epoch, o.seq = epoch, seq
	return false
}

// encodeChange gives the record of a change: its key and value as they are, epoch and seq as two uvarints in a header.
func encodeChange(c corastream.Change) Record {
	return Record{Key: c.Key, Value: c.Value, Headers: changeHeaders(c.Epoch, c.Seq)}
}

func changeHeaders(epoch, seq uint64) []Header {
	return []Header{{Key: headerVersion, Value: binary.AppendUvarint(binary.AppendUvarint(nil, epoch), seq)}}
}

// DecodeChange reads a record of the embeddings topic.
func DecodeChange(r Record) (corastream.Change, error) { return decodeChange(r) }

// decodeChange reads a record of the embeddings topic. Key and value share memory with it.
func decodeChange(r Record) (corastream.Change, error) {
	c := corastream.Change{Pos: r.Pos, Key: r.Key, Value: r.Value}
	if r.TooLarge > 0 {
		return c, notOurs(r, "%d bytes are more than a change has", r.TooLarge)
	}
	if len(r.Key) < 2 || r.Key[1] != ':' {
		return c, notOurs(r, "the key %.20q names no kind of change", r.Key)
	}
	found := false
	for _, h := range r.Headers {
		if h.Key != headerVersion {
			continue
		}
		epoch, n := binary.Uvarint(h.Value)
		seq, m := binary.Uvarint(h.Value[max(n, 0):])
		if found || n <= 0 || m <= 0 || n+m != len(h.Value) || epoch == 0 {
			return c, notOurs(r, "the header %q does not hold one epoch and seq", headerVersion)
		}
		c.Epoch, c.Seq, found = epoch, seq, true
	}
	if !found {
		return c, notOurs(r, "the header %q is missing", headerVersion)
	}
	return c, nil
}

func isClaim(key []byte) bool { return bytes.HasPrefix(key, []byte(corastream.ChangeClaim)) }

// notOurs: a record on a topic that only corastream writes is not what it writes. Going on would leave a hole in the state.
func notOurs(r Record, format string, args ...any) error {
	return fmt.Errorf("topic %s partition %d offset %d: %s: only the shards of one cluster may write there (fix: give each cluster topics of its own under kafka.topics; if the log is damaged, make it anew from the owner's store): %w",
		r.Pos.Topic, r.Pos.Partition, r.Pos.Offset, fmt.Sprintf(format, args...), corastream.ErrCorrupt)
}

// wants is what is read of one partition of a cluster's own topics.
type wants struct {
	order order
	keep  func(key []byte) bool // of the changes that count; nil: all
}

// take decodes a record of any topic. On a cluster's own, what has been superseded or is not wanted gives nothing, and what is not ours is
// an error: a dead letter would leave a hole in the state.
func (d *Decoder) take(b *corastream.Batch, w *wants, r Record) error {
	switch r.Pos.Topic {
	case d.topics.Embeddings:
		c, err := decodeChange(r)
		if err != nil {
			return err
		}
		// What is not wanted does not count for the order either: whoever starts here knows no more than what was kept before.
		if (w.keep == nil || w.keep(c.Key)) && !w.order.void(c.Epoch, c.Seq) {
			b.Changes = append(b.Changes, c)
		}
	case d.topics.Gradients:
		p, err := decodeParcel(r)
		if err != nil {
			return err
		}
		b.Parcels = append(b.Parcels, p)
	default:
		copied, appended := len(r.Headers) > 0, time.Time{}
		if copied {
			if copied, appended = moved(&r); copied && !d.copies {
				return nil // the first copy is in the log too
			}
		}
		n, items := len(b.Events), len(b.Items)
		d.Decode(b, r, r.Time)
		for i := items; i < len(b.Items); i++ {
			b.Items[i].Appended = r.Time
		}
		for i := n; copied && i < len(b.Events); i++ {
			if ev := &b.Events[i]; !appended.IsZero() && appended.Before(ev.Appended) {
				ev.Appended = appended
			}
		}
	}
	return nil
}

const parcelVersion = 1

// encodeParcel gives the record of a parcel. The key is its identity, From u32 and Seq u64, big-endian; the value a version
// byte, To as uvarint, and the body.
func encodeParcel(p corastream.Parcel) Record {
	key := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, uint32(p.From)), p.Seq)
	value := binary.AppendUvarint(append(make([]byte, 0, len(p.Body)+6), parcelVersion), uint64(uint32(p.To)))
	return Record{Key: key, Value: append(value, p.Body...)}
}

// decodeParcel reads a record of the gradients topic. The body shares memory with it.
func decodeParcel(r Record) (corastream.Parcel, error) {
	p := corastream.Parcel{Pos: r.Pos, To: r.Pos.Partition}
	switch {
	case r.TooLarge > 0:
		return p, notOurs(r, "%d bytes are more than a parcel has", r.TooLarge)
	case len(r.Key) != 12:
		return p, notOurs(r, "a parcel's key has 12 bytes, this one %d", len(r.Key))
	case len(r.Value) < 2 || r.Value[0] != parcelVersion:
		return p, notOurs(r, "not a parcel of version %d", parcelVersion)
	}
	from := int32(binary.BigEndian.Uint32(r.Key))
	to, n := binary.Uvarint(r.Value[1:])
	if from < 0 || n <= 0 || to != uint64(uint32(r.Pos.Partition)) {
		return p, notOurs(r, "a parcel from shard %d to shard %d", from, to)
	}
	p.From, p.Seq, p.Body = from, binary.BigEndian.Uint64(r.Key[4:]), r.Value[1+n:]
	return p, nil
}
