package ingest

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"

	kafka "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/listoffsets"
	"github.com/segmentio/kafka-go/protocol/metadata"

	"github.com/corastream/corastream"
)

// brokersView is what the brokers say of themselves at one moment.
type brokersView struct {
	id      string
	brokers map[int32]string // node -> host:port
	topics  map[string]topicInfo
}

type topicInfo struct {
	id      string // 32 hex digits; "" from a broker too old to know
	err     error
	leaders map[int32]int32 // partition -> node
}

// leader returns the address of a partition's leader.
func (c brokersView) leader(p corastream.Partition) (string, error) {
	t := c.topics[p.Topic]
	if t.err != nil {
		return "", fmt.Errorf("topic %s: %w", p.Topic, t.err)
	}
	node, ok := t.leaders[p.ID]
	if !ok {
		return "", fmt.Errorf("topic %s has no partition %d: %w", p.Topic, p.ID, kafka.UnknownTopicOrPartition)
	}
	addr, ok := c.brokers[node]
	if !ok {
		return "", fmt.Errorf("topic %s partition %d: %w", p.Topic, p.ID, kafka.LeaderNotAvailable)
	}
	return addr, nil
}

// describe asks the first broker that answers. kafka-go caches metadata, which is what must not happen right after a
// restart, and knows no topic ids.
func (a *access) describe(ctx context.Context, topics ...string) (brokersView, error) {
	var errs []error
	for _, addr := range a.brokers {
		c, err := a.dial(ctx, addr)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out, err := c.describe(ctx, topics)
		c.Close()
		if err == nil {
			return out, nil
		}
		if a.sasl == nil && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
			err = fmt.Errorf("%w: %w", errLogin, err)
		}
		errs = append(errs, fmt.Errorf("metadata from %s: %w", addr, err))
	}
	return brokersView{}, errors.Join(errs...)
}

// errLogin: a broker told its versions and hung up at the first question proper, as one does that wants a login.
var errLogin = errors.New("the broker hung up: it seems to ask for a login")

const metadataWithIDs = 12

func (c *conn) describe(ctx context.Context, topics []string) (brokersView, error) {
	if c.versions[protocol.Metadata] < metadataWithIDs {
		return c.describeOld(ctx, topics)
	}
	body := binary.AppendUvarint(nil, uint64(len(topics)+1))
	for _, t := range topics {
		body = append(body, make([]byte, 16)...) // no id: ask by name
		body = binary.AppendUvarint(body, uint64(len(t)+1))
		body = append(body, t...)
		body = append(body, 0)
	}
	body = append(body, 0, 0, 0) // create nothing, list no rights, no tagged fields
	b, err := c.send(ctx, protocol.Metadata, metadataWithIDs, body)
	if err != nil {
		return brokersView{}, err
	}
	return parseMetadata(b)
}

// parseMetadata reads a Metadata answer, version 12, from after the correlation id.
func parseMetadata(b []byte) (brokersView, error) {
	w := &wire{b: b}
	out := brokersView{brokers: map[int32]string{}, topics: map[string]topicInfo{}}
	w.tags()
	w.int32() // throttle
	w.compactList(func() {
		node, host, port := w.int32(), w.compactStr(), w.int32()
		w.compactStr() // rack
		w.tags()
		out.brokers[node] = net.JoinHostPort(host, strconv.Itoa(int(port)))
	})
	out.id = w.compactStr()
	w.int32() // controller
	w.compactList(func() {
		t := topicInfo{leaders: map[int32]int32{}}
		if code := w.int16(); code != 0 {
			t.err = kafka.Error(code)
		}
		name := w.compactStr()
		if id := w.take(16); id != nil && string(id) != string(make([]byte, 16)) {
			t.id = hex.EncodeToString(id)
		}
		w.int8() // internal
		w.compactList(func() {
			w.int16() // the leader's absence shows as node -1
			p, node := w.int32(), w.int32()
			w.int32() // leader epoch
			for range 3 {
				w.compactList(func() { w.int32() }) // replicas, in-sync, offline
			}
			w.tags()
			t.leaders[p] = node
		})
		w.int32() // rights
		w.tags()
		out.topics[name] = t
	})
	w.tags()
	if w.err != nil {
		return brokersView{}, fmt.Errorf("metadata: %w", w.err)
	}
	return out, nil
}

func (c *conn) describeOld(ctx context.Context, topics []string) (brokersView, error) {
	msg, err := c.call(ctx, min(8, c.versions[protocol.Metadata]), &metadata.Request{TopicNames: topics})
	if err != nil {
		return brokersView{}, err
	}
	res := msg.(*metadata.Response)
	out := brokersView{id: res.ClusterID, brokers: map[int32]string{}, topics: map[string]topicInfo{}}
	for _, b := range res.Brokers {
		out.brokers[b.NodeID] = net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
	}
	for _, rt := range res.Topics {
		t := topicInfo{leaders: map[int32]int32{}}
		if rt.ErrorCode != 0 {
			t.err = kafka.Error(rt.ErrorCode)
		}
		for _, p := range rt.Partitions {
			t.leaders[p.PartitionIndex] = p.LeaderID
		}
		out.topics[rt.Name] = t
	}
	return out, nil
}

// Times that ListOffsets knows by name.
const (
	firstOffset = -2
	lastOffset  = -1
)

// offset asks the leader for the first offset at or after a time (unix ms), or for the first or last one. A time after
// the newest record gives -1.
func (c *conn) offset(ctx context.Context, p corastream.Partition, at int64) (int64, error) {
	req := &listoffsets.Request{ReplicaID: -1, Topics: []listoffsets.RequestTopic{{
		Topic:      p.Topic,
		Partitions: []listoffsets.RequestPartition{{Partition: p.ID, CurrentLeaderEpoch: -1, Timestamp: at}},
	}}}
	msg, err := c.call(ctx, min(5, c.versions[protocol.ListOffsets]), req)
	if err != nil {
		return 0, fmt.Errorf("list offsets of %s/%d: %w", p.Topic, p.ID, err)
	}
	for _, t := range msg.(*listoffsets.Response).Topics {
		for _, q := range t.Partitions {
			if t.Topic == p.Topic && q.Partition == p.ID {
				if q.ErrorCode != 0 {
					return 0, fmt.Errorf("list offsets of %s/%d: %w", p.Topic, p.ID, kafka.Error(q.ErrorCode))
				}
				return q.Offset, nil
			}
		}
	}
	return 0, fmt.Errorf("list offsets of %s/%d: %w", p.Topic, p.ID, errWire)
}
