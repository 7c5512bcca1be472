package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/datafile"
	"github.com/corastream/corastream/cmd/internal/tracing"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/ingest/decode"
)

// EventSink puts events of POST /v1/events on the interactions topic, after the checks that ingest would make.
type EventSink struct {
	producer *ingest.Producer
	decoder  *decode.Decoder // strict: a sender who waits is told what is not read
	topic    string
}

// NewEventSink makes one. producer may be nil where only Records is called.
func NewEventSink(producer *ingest.Producer, c ingest.Config) EventSink {
	return EventSink{producer, ingest.NewDecoder(c).Strict(), c.Topics.Interactions}
}

// newItemSink makes one for POST /v1/items.
func newItemSink(producer *ingest.Producer, c ingest.Config) EventSink {
	return EventSink{producer, ingest.NewDecoder(c).Decoder, c.Topics.Items}
}

// Produce implements serve.EventSink.
func (s EventSink) Produce(ctx context.Context, events [][]byte, headers map[string]string) ([]corastream.Position, error) {
	records, err := s.Records(events, headers, tracing.Traceparent(ctx), time.Now())
	if err != nil {
		return nil, err
	}
	return s.producer.Append(ctx, s.topic, records)
}

// Records are what goes onto the topic: the bodies as they are, after the checks that the stream would make.
func (s EventSink) Records(events [][]byte, headers map[string]string, trace string, now time.Time) ([]ingest.Record, error) {
	records := make([]ingest.Record, len(events))
	for i, body := range events {
		r := ingest.Record{Pos: corastream.Position{Topic: s.topic}, Value: body, Time: now}
		for k, v := range headers {
			if attribute, ok := strings.CutPrefix(k, "ce-"); ok { // HTTP's binding of CloudEvents writes it so, Kafka's otherwise
				k = "ce_" + attribute
			}
			r.Headers = append(r.Headers, ingest.Header{Key: k, Value: []byte(v)})
		}
		if trace != "" {
			r.Headers = append(r.Headers, ingest.Header{Key: "traceparent", Value: []byte(trace)})
		}
		var b corastream.Batch
		s.decoder.Decode(&b, r, now)
		if len(b.Bad) > 0 {
			_, fix := datafile.Remedy(b.Bad[0])
			if fix == "" {
				fix = "send user_id, item_id and what happened"
			}
			return nil, corastream.Usagef(fmt.Sprintf("[%d]", i), fix, "%s: %s", b.Bad[0].Reason, b.Bad[0].Detail)
		}
		switch {
		case len(b.Events) > 0:
			r.Key = []byte(b.Events[0].User)
		case len(b.Items) > 0:
			r.Key = []byte(b.Items[0].ID)
		}
		records[i] = r
	}
	return records, nil
}
