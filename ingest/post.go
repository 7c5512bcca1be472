package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	kafka "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	wireproduce "github.com/segmentio/kafka-go/protocol/produce"

	"github.com/corastream/corastream"
)

const (
	newestProduce = 8                // 9 is flexible; neither it nor the later ones give more of what is used here
	produceWait   = 10 * time.Second // how long a broker may wait for the replicas; below callTimeout
)

// posting is one record batch for one partition, and what became of it.
type posting struct {
	part    corastream.Partition
	records []Record

	base  int64 // the offset of its first record; -1 while it is not known to be stored
	err   error
	maybe bool // err came after the batch was sent: it may be there, or come there yet
}

// poster sends record batches to given partitions, at most one request at a time on a connection, and returns the offsets at
// which they lie: kafka-go's Writer does not tell them, and sends what failed again behind what came later. For one goroutine.
type poster struct {
	access *access
	codec  protocol.Attributes // none: vectors hardly shrink (BenchmarkChangelog)
	now    *brokersView        // nil: to be asked for
	conns  map[string]*conn
}

func newPoster(a *access) *poster {
	return &poster{access: a, conns: map[string]*conn{}}
}

// post tries once to store the batches; each says what became of it. No two may be of one partition.
func (p *poster) post(ctx context.Context, batches ...*posting) {
	for _, b := range batches {
		b.base, b.err, b.maybe = -1, nil, false
	}
	byLeader, err := p.leaders(ctx, batches)
	for _, b := range batches {
		if err != nil && b.err == nil {
			b.err = err
		}
	}
	for addr, group := range byLeader {
		if err := p.send(ctx, addr, group); err != nil {
			p.drop(addr)
			for _, b := range group {
				if b.base < 0 && b.err == nil {
					b.err = err
				}
			}
		}
	}
	if slices.ContainsFunc(batches, func(b *posting) bool { return b.err != nil }) {
		p.now = nil // a leader may have moved
	}
}

// leaders groups the batches by the address of their partition's leader.
func (p *poster) leaders(ctx context.Context, batches []*posting) (map[string][]*posting, error) {
	if p.now == nil {
		var topics []string
		for _, b := range batches {
			if !slices.Contains(topics, b.part.Topic) {
				topics = append(topics, b.part.Topic)
			}
		}
		cl, err := p.access.describe(ctx, topics...)
		if err != nil {
			return nil, err
		}
		p.now = &cl
	}
	out := map[string][]*posting{}
	for _, b := range batches {
		addr, err := p.now.leader(b.part)
		if err != nil {
			b.err = err
			continue
		}
		out[addr] = append(out[addr], b)
	}
	return out, nil
}

// send makes one request to one broker.
func (p *poster) send(ctx context.Context, addr string, batches []*posting) error {
	c := p.conns[addr]
	if c == nil {
		var err error
		if c, err = p.access.dial(ctx, addr); err != nil {
			return err
		}
		p.conns[addr] = c
	}
	version := min(newestProduce, c.versions[protocol.Produce])
	if version < 3 {
		return fmt.Errorf("the broker is older than Kafka 0.11 and has no record batches: %w", kafka.UnsupportedVersion)
	}
	for _, b := range batches {
		b.maybe = true
	}
	answer, err := c.raw(ctx, version, p.request(batches), produceWait)
	if err != nil {
		return fmt.Errorf("write to %s/%d: %w", batches[0].part.Topic, batches[0].part.ID, err)
	}
	return parseProduce(answer, version, batches)
}

func (p *poster) request(batches []*posting) *wireproduce.Request {
	req := &wireproduce.Request{Acks: int16(kafka.RequireAll), Timeout: int32(produceWait.Milliseconds())}
	for _, b := range batches {
		records := make([]protocol.Record, len(b.records))
		for i, r := range b.records {
			records[i].Key, records[i].Value = protocol.NewBytes(r.Key), protocol.NewBytes(r.Value)
			if i > 0 && len(r.Headers) > 0 && len(b.records[i-1].Headers) == len(r.Headers) && &r.Headers[0] == &b.records[i-1].Headers[0] {
				records[i].Headers = records[i-1].Headers // a transaction's records share theirs
				continue
			}
			for _, h := range r.Headers {
				records[i].Headers = append(records[i].Headers, protocol.Header{Key: h.Key, Value: h.Value})
			}
		}
		one := wireproduce.RequestPartition{
			Partition: b.part.ID,
			RecordSet: protocol.RecordSet{Version: 2, Attributes: p.codec, Records: protocol.NewRecordReader(records...)},
		}
		i := slices.IndexFunc(req.Topics, func(t wireproduce.RequestTopic) bool { return t.Topic == b.part.Topic })
		if i < 0 {
			i = len(req.Topics)
			req.Topics = append(req.Topics, wireproduce.RequestTopic{Topic: b.part.Topic})
		}
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, one)
	}
	return req
}

// parseProduce reads a Produce answer of version 3 to 8, from after the correlation id, into what was asked for.
func parseProduce(b []byte, version int16, batches []*posting) error {
	w := &wire{b: b}
	w.list(func() {
		topic := w.str()
		w.list(func() {
			id, code, base := w.int32(), kafka.Error(w.int16()), w.int64()
			w.int64() // append time
			if version >= 5 {
				w.int64() // log start
			}
			if version >= 8 {
				w.list(func() { w.int32(); w.str() }) // the records at fault
				w.str()                               // what is wrong, in words
			}
			for _, p := range batches {
				if w.err != nil || p.part.Topic != topic || p.part.ID != id || p.base >= 0 || p.err != nil {
					continue
				}
				switch {
				case code != 0:
					p.err, p.maybe = fmt.Errorf("write to %s/%d: %w", topic, id, code), perhapsStored(code)
				case base < 0:
					p.err = errWire
				default:
					p.base, p.maybe = base, false
				}
			}
		})
	})
	if w.err != nil {
		return w.err
	}
	for _, p := range batches {
		if p.base < 0 && p.err == nil {
			p.err = errWire
		}
	}
	return nil
}

// perhapsStored says of a broker's answer that the batch may lie in the leader's log all the same.
func perhapsStored(e kafka.Error) bool {
	switch e {
	case kafka.RequestTimedOut, kafka.NotEnoughReplicasAfterAppend, kafka.Unknown, kafka.KafkaStorageError, kafka.NetworkException:
		return true
	case kafka.NotLeaderForPartition:
		return true // the leader may have stored it and stepped down before the replicas had it
	}
	return false
}

func (p *poster) drop(addr string) {
	if c := p.conns[addr]; c != nil {
		c.Close()
		delete(p.conns, addr)
	}
}

// close closes the connections.
func (p *poster) close() error {
	var errs []error
	for addr, c := range p.conns {
		errs = append(errs, c.Close())
		delete(p.conns, addr)
	}
	return errors.Join(errs...)
}
