package ingest

import (
	"context"
	"fmt"
	"time"

	kafka "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"

	"github.com/corastream/corastream"
)

// fetched is one answer for one partition.
type fetched struct {
	code    kafka.Error
	high    int64 // the offset after the last replicated record
	stable  int64 // the offset after the last record whose transaction, if any, is decided
	aborted []abortedTxn
	batches []byte // record batches; the last may be cut off
}

// abortedTxn: the producer's transactional batches from first on, up to its next control record, were rolled back.
type abortedTxn struct{ producer, first int64 }

const newestFetch = 11 // 12 is flexible, 13 asks by topic id; neither gives more of what is used here

// fetch asks the leader for records from offset on, waiting up to wait for the first byte.
func (c *conn) fetch(ctx context.Context, p corastream.Partition, offset int64, size int, wait time.Duration) (fetched, error) {
	version := min(newestFetch, c.versions[protocol.Fetch])
	if version < 4 {
		return fetched{}, fmt.Errorf("the broker is older than Kafka 0.11 and has no record batches: %w", kafka.UnsupportedVersion)
	}
	b, err := c.raw(ctx, version, &fetch.Request{
		ReplicaID: -1, MaxWaitTime: int32(wait.Milliseconds()), MinBytes: 1, MaxBytes: int32(size),
		IsolationLevel: 1, // read committed: an undecided transaction is waited for
		SessionEpoch:   -1,
		Topics: []fetch.RequestTopic{{Topic: p.Topic, Partitions: []fetch.RequestPartition{{
			Partition: p.ID, CurrentLeaderEpoch: -1, FetchOffset: offset, LogStartOffset: -1, PartitionMaxBytes: int32(size),
		}}}},
	}, wait)
	if err != nil {
		return fetched{}, fmt.Errorf("fetch %s/%d at %d: %w", p.Topic, p.ID, offset, err)
	}
	out, err := parseFetch(b, version, p)
	if err != nil {
		return fetched{}, fmt.Errorf("fetch %s/%d at %d: %w", p.Topic, p.ID, offset, err)
	}
	return out, nil
}

// parseFetch reads a Fetch answer of version 4 to 11, from after the correlation id, that was asked for one partition.
func parseFetch(b []byte, version int16, p corastream.Partition) (out fetched, err error) {
	w := &wire{b: b}
	w.int32() // throttle
	if version >= 7 {
		if code := w.int16(); code != 0 {
			return fetched{}, kafka.Error(code)
		}
		w.int32() // session
	}
	found := false
	w.list(func() {
		topic := w.str()
		w.list(func() {
			id := w.int32()
			f := fetched{code: kafka.Error(w.int16()), high: w.int64(), stable: w.int64()}
			if version >= 5 {
				w.int64() // log start
			}
			w.list(func() { f.aborted = append(f.aborted, abortedTxn{w.int64(), w.int64()}) })
			if version >= 11 {
				w.int32() // preferred replica
			}
			if n := w.int32(); n > 0 {
				f.batches = w.take(int(n))
			}
			if topic == p.Topic && id == p.ID {
				out, found = f, true
			}
		})
	})
	if w.err != nil {
		return fetched{}, w.err
	}
	if !found {
		return fetched{}, errWire
	}
	return out, nil
}
