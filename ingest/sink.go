package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/rs/zerolog"
	kafka "github.com/segmentio/kafka-go"

	"github.com/corastream/corastream"
)

// Sink writes recommendations and dead letters; it implements corastream.Sink and corastream.DeadLetters. Both calls
// return when the brokers have everything. A repeat after a failure writes the same bytes, ids included.
type Sink struct {
	topics  Topics
	w       *writer
	large   *writer // for dead letters that one batch can not hold beside others
	maxByte int
}

// NewSink makes a sink; it connects when first used.
func NewSink(cfg Config, log zerolog.Logger) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	w, err := newWriter(cfg, writeBytes, log)
	if err != nil {
		return nil, err
	}
	large, err := newWriter(cfg, letterBytes(cfg), log)
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	large.w.BatchSize = 1
	return &Sink{topics: cfg.Topics, w: w, large: large, maxByte: cfg.MaxRecordBytes}, nil
}

// letterBytes is the size of the largest dead letter: a record of the allowed size and its headers.
func letterBytes(c Config) int64 { return int64(c.MaxRecordBytes) + 64<<10 }

// Close flushes and disconnects.
func (s *Sink) Close() error { return errors.Join(s.w.close(), s.large.close()) }

// Writing says that no call is being tried again because a write failed.
func (s *Sink) Writing() bool { return s.w.failing.Load()+s.large.failing.Load() == 0 }

// recommendation is the JSON of a record on the recommendations topic.
type recommendation struct {
	ID         string              `json:"id"`
	User       string              `json:"user_id"`
	RequestID  string              `json:"request_id,omitempty"`
	Items      []corastream.Scored `json:"items"`
	Candidates int                 `json:"candidates"`
	Cause      *position           `json:"cause,omitempty"`
	Versions   corastream.Versions `json:"versions"`
	// FreshnessMS is from the append of the oldest interaction newly covered until the answer was made; the broker's own
	// figure is the record's append time less OldestAt.
	FreshnessMS *int64     `json:"freshness_ms,omitempty"`
	OldestAt    *time.Time `json:"oldest_interaction_at,omitempty"`
	Degraded    string     `json:"degraded,omitempty"`
	Cold        bool       `json:"cold,omitempty"`
	Arm         string     `json:"arm,omitempty"`      // which checkpoint's share the user fell in
	Policy      string     `json:"policy,omitempty"`   // the stochastic policy that drew the items; their propensities are true then
	Rest        []string   `json:"rest,omitempty"`     // beside a policy: the candidates that were not drawn
	Fallback    string     `json:"fallback,omitempty"` // "popular": nothing was known to rank by

	Behind      *corastream.Behind `json:"behind,omitempty"` // of a replica: how old its state was
	GeneratedAt time.Time          `json:"generated_at"`
}

type position struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

// EncodeRecommendation gives the record's value.
func EncodeRecommendation(r corastream.Recommendation) ([]byte, error) {
	out := recommendation{
		ID: r.ID, User: r.User, RequestID: r.RequestID, Items: r.Items, Candidates: r.Candidates,
		Versions: r.Versions, Degraded: r.Degraded, Cold: r.Cold, Arm: r.Arm, Policy: r.Policy, Rest: r.Rest, Fallback: r.Fallback, Behind: r.Behind, GeneratedAt: r.Made.UTC(),
	}
	if out.Items == nil {
		out.Items = []corastream.Scored{}
	}
	if r.Cause != (corastream.Position{}) {
		p := position(r.Cause)
		out.Cause = &p
	}
	if !r.Oldest.IsZero() {
		ms, at := r.Freshness().Milliseconds(), r.Oldest.UTC()
		out.FreshnessMS, out.OldestAt = &ms, &at
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("encode recommendation %s of user %q: %w", r.ID, r.User, err)
	}
	return b, nil
}

// DecodeRecommendation reads a record of the recommendations topic.
func DecodeRecommendation(r Record) (corastream.Recommendation, error) {
	var in recommendation
	if err := json.Unmarshal(r.Value, &in); err != nil {
		return corastream.Recommendation{}, fmt.Errorf("recommendation at %s/%d offset %d: %w", r.Pos.Topic, r.Pos.Partition, r.Pos.Offset, err)
	}
	out := corastream.Recommendation{
		ID: in.ID, User: in.User, RequestID: in.RequestID, Items: in.Items, Candidates: in.Candidates,
		Versions: in.Versions, Degraded: in.Degraded, Cold: in.Cold, Arm: in.Arm, Policy: in.Policy, Rest: in.Rest, Fallback: in.Fallback, Behind: in.Behind, Made: in.GeneratedAt,
	}
	if in.Cause != nil {
		out.Cause = corastream.Position(*in.Cause)
	}
	if in.OldestAt != nil {
		out.Oldest = *in.OldestAt
	}
	return out, nil
}

// recommendationType is the CloudEvents type; its number rises when a consumer of the old form would misread the new.
const recommendationType = "corastream.recommendation.v1"

// Publish writes recommendations, keyed by user, with CloudEvents headers (binary mode).
func (s *Sink) Publish(ctx context.Context, recs []corastream.Recommendation) error {
	msgs := make([]kafka.Message, len(recs))
	for i, r := range recs {
		v, err := EncodeRecommendation(r)
		if err != nil {
			return err
		}
		h := []kafka.Header{
			header("content-type", "application/json"), header("ce_specversion", "1.0"), header("ce_id", r.ID),
			header("ce_source", "corastream"), header("ce_type", recommendationType), header("ce_subject", r.User),
			header("ce_time", r.Made.UTC().Format(time.RFC3339Nano)),
		}
		if r.Versions.Generator != "" {
			h = append(h, header("ce_generator", r.Versions.Generator))
		}
		if r.Trace != "" {
			h = append(h, header("traceparent", r.Trace))
		}
		msgs[i] = kafka.Message{Topic: s.topics.Recommendations, Key: []byte(r.User), Value: v, Headers: h}
	}
	if err := corastream.Failpoint("sink.publish"); err != nil {
		return err
	}
	if err := s.w.write(ctx, msgs); err != nil {
		return err
	}
	return corastream.Failpoint("sink.published")
}

func header(k, v string) kafka.Header { return kafka.Header{Key: k, Value: []byte(v)} }

// Headers of a dead letter.
const (
	headerReason    = "reason"
	headerDetail    = "detail"
	headerTopic     = "topic"
	headerPartition = "partition"
	headerOffset    = "offset"
	headerCut       = "cut" // the value's full size, where the topic did not take it whole
)

const maxDetail = 1024

// Bury writes dead letters: the original key and bytes, and in headers why and where from.
func (s *Sink) Bury(ctx context.Context, letters []corastream.DeadLetter) error {
	if err := corastream.Failpoint("sink.bury"); err != nil {
		return err
	}
	var small []kafka.Message
	for _, l := range letters {
		m := s.letter(l)
		if len(m.Key)+len(m.Value)+maxDetail+len(l.Pos.Topic) < writeBytes-4096 {
			small = append(small, m)
			continue
		}
		if err := s.buryLarge(ctx, m); err != nil {
			return err
		}
	}
	if err := s.w.write(ctx, small); err != nil {
		return err
	}
	return corastream.Failpoint("sink.buried")
}

func (s *Sink) letter(l corastream.DeadLetter) kafka.Message {
	detail := l.Detail
	if len(detail) > maxDetail {
		detail = detail[:maxDetail]
	}
	return kafka.Message{Topic: s.topics.DeadLetters, Key: l.Key, Value: l.Value, Headers: []kafka.Header{
		header(headerReason, l.Reason), header(headerDetail, detail), header(headerTopic, l.Pos.Topic),
		header(headerPartition, strconv.Itoa(int(l.Pos.Partition))), header(headerOffset, strconv.FormatInt(l.Pos.Offset, 10)),
	}}
}

// buryLarge writes one letter whole, or cut where the topic was made with a smaller limit: a letter that can never be
// written would stop the stream for good.
func (s *Sink) buryLarge(ctx context.Context, m kafka.Message) error {
	err := s.large.write(ctx, []kafka.Message{m})
	if !tooLargeToWrite(err) {
		return err
	}
	m.Headers = append(m.Headers, header(headerCut, strconv.Itoa(len(m.Value))))
	m.Value, m.Key = m.Value[:min(len(m.Value), keepLarge)], m.Key[:min(len(m.Key), keepLarge)]
	return s.w.write(ctx, []kafka.Message{m})
}

func tooLargeToWrite(err error) bool {
	var m kafka.MessageTooLargeError
	return errors.Is(err, kafka.MessageSizeTooLarge) || errors.As(err, &m)
}

// DecodeLetter reads a record of the dead-letters topic.
func DecodeLetter(r Record) corastream.DeadLetter {
	l := corastream.DeadLetter{Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		v := string(h.Value)
		switch h.Key {
		case headerReason:
			l.Reason = v
		case headerDetail:
			l.Detail = v
		case headerTopic:
			l.Pos.Topic = v
		case headerPartition:
			n, _ := strconv.ParseInt(v, 10, 32)
			l.Pos.Partition = int32(n)
		case headerOffset:
			l.Pos.Offset, _ = strconv.ParseInt(v, 10, 64)
		}
	}
	return l
}
