package ingest

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	kafka "github.com/segmentio/kafka-go"

	"github.com/corastream/corastream"
)

// Producer puts events, items and requests in, in the form that the source reads: `corastream produce` and the demo.
type Producer struct {
	topics Topics
	w      *writer
}

// NewProducer makes a producer; it connects when first used.
func NewProducer(cfg Config, log zerolog.Logger) (*Producer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	w, err := newWriter(cfg, writeBytes, log)
	if err != nil {
		return nil, err
	}
	return &Producer{cfg.Topics, w}, nil
}

// Close flushes and disconnects.
func (p *Producer) Close() error { return p.w.close() }

// eventJSON is the flat form, in snake case. Label is absent from an implicit event: its kind says what it means.
type eventJSON struct {
	User  string     `json:"user_id"`
	Item  string     `json:"item_id,omitempty"`
	Kind  string     `json:"type,omitempty"`
	Label *float32   `json:"label,omitempty"`
	Time  *time.Time `json:"timestamp,omitempty"`
	ID    string     `json:"id,omitempty"`
	// Labels are of an event about its user alone.
	Labels []string `json:"labels,omitzero"`
}

// EncodeEvent gives the value of an event's record.
func EncodeEvent(e corastream.Event) ([]byte, error) {
	out := eventJSON{User: e.User, Item: e.Item, Kind: e.Kind, ID: e.ID}
	if e.OfUser() {
		out.Labels = append([]string{}, e.Labels...)
	} else if !e.Implicit && !e.Retract {
		out.Label = &e.Label
	}
	if !e.Time.IsZero() {
		t := e.Time.UTC()
		out.Time = &t
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("encode event of user %q: %w", e.User, err)
	}
	return b, nil
}

// Events writes interactions, keyed by user, so that one user's stay in order. The records' own time is now: the events'
// times are in their values.
func (p *Producer) Events(ctx context.Context, events []corastream.Event) error {
	return produce(ctx, p.w, p.topics.Interactions, events, func(e corastream.Event) (string, []byte, error) {
		v, err := EncodeEvent(e)
		return e.User, v, err
	})
}

// itemJSON is a catalogue record. What is absent from it stays as it is; null clears.
type itemJSON struct {
	ID        string             `json:"item_id"`
	Title     *nullable          `json:"title,omitempty"`
	Withdrawn *bool              `json:"withdrawn,omitempty"`
	Fields    map[string]*string `json:"fields,omitempty"`
}

// nullable is a text whose emptiness is written as null.
type nullable string

// MarshalJSON implements json.Marshaler.
func (s nullable) MarshalJSON() ([]byte, error) {
	if s == "" {
		return []byte("null"), nil
	}
	return json.Marshal(string(s))
}

// EncodeItem gives the value of an item's record, nil (a tombstone) when it is removed. A whole record's fields are written beside those
// that the item may have.
func EncodeItem(it corastream.Item) ([]byte, error) {
	if it.Removed {
		return nil, nil
	}
	out := itemJSON{ID: it.ID}
	if title := nullable(it.Title); !it.Keep.Title {
		out.Title = &title
	}
	if !it.Keep.Withdrawn {
		out.Withdrawn = &it.Withdrawn
	}
	if len(it.Fields)+len(it.Keep.Clear) > 0 {
		out.Fields = make(map[string]*string, len(it.Fields))
		for _, name := range it.Keep.Clear {
			out.Fields[name] = nil
		}
		for name, value := range it.Fields {
			out.Fields[name] = &value
		}
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("encode item %q: %w", it.ID, err)
	}
	return b, nil
}

// Items writes catalogue records, keyed by item.
func (p *Producer) Items(ctx context.Context, items []corastream.Item) error {
	return produce(ctx, p.w, p.topics.Items, items, func(it corastream.Item) (string, []byte, error) {
		v, err := EncodeItem(it)
		return it.ID, v, err
	})
}

type requestJSON struct {
	User       string   `json:"user_id"`
	N          int      `json:"n,omitempty"`
	ID         string   `json:"request_id,omitempty"`
	Exclude    []string `json:"exclude,omitempty"`
	Candidates []string `json:"candidates,omitempty"`

	History []pastJSON `json:"history,omitempty"`
	Seen    string     `json:"seen,omitempty"`
}

type pastJSON struct {
	Item  string    `json:"item_id"`
	Kind  string    `json:"type,omitempty"`
	Label float32   `json:"label"`
	Time  time.Time `json:"timestamp,omitzero"`
}

func pastOf(history []corastream.Interaction) (out []pastJSON) {
	for _, h := range history {
		kind := ""
		if h.Shown {
			kind = corastream.KindImpression
		}
		out = append(out, pastJSON{h.Item, kind, h.Label, h.Time})
	}
	return out
}

// EncodeRequest gives the value of a request's record.
func EncodeRequest(r corastream.Request) ([]byte, error) {
	b, err := json.Marshal(requestJSON{r.User, r.N, r.ID, r.Exclude, r.Candidates, pastOf(r.History), r.Seen})
	if err != nil {
		return nil, fmt.Errorf("encode request of user %q: %w", r.User, err)
	}
	return b, nil
}

// Requests asks for recommendations, keyed by user.
func (p *Producer) Requests(ctx context.Context, requests []corastream.Request) error {
	return produce(ctx, p.w, p.topics.Requests, requests, func(r corastream.Request) (string, []byte, error) {
		v, err := EncodeRequest(r)
		return r.User, v, err
	})
}

// Raw writes records as they are, for data that is in an accepted form already.
func (p *Producer) Raw(ctx context.Context, topic string, records []Record) error {
	return p.w.write(ctx, messages(topic, records))
}

func messages(topic string, records []Record) []kafka.Message {
	msgs := make([]kafka.Message, len(records))
	for i, r := range records {
		msgs[i] = kafka.Message{Topic: topic, Key: r.Key, Value: r.Value}
		for _, h := range r.Headers {
			msgs[i].Headers = append(msgs[i].Headers, kafka.Header{Key: h.Key, Value: h.Value})
		}
	}
	return msgs
}

// Append is Raw, and returns the position of each record.
func (p *Producer) Append(ctx context.Context, topic string, records []Record) ([]corastream.Position, error) {
	msgs := messages(topic, records)
	at := make([]corastream.Position, len(records))
	for i := range msgs {
		msgs[i].WriterData = &at[i]
	}
	return at, p.w.write(ctx, msgs)
}

// produce encodes and writes in portions, so that a large input is never in memory twice.
func produce[T any](ctx context.Context, w *writer, topic string, in []T, encode func(T) (key string, value []byte, err error)) error {
	msgs := make([]kafka.Message, 0, min(len(in), writeAtOnce))
	for len(in) > 0 {
		n := min(len(in), writeAtOnce)
		msgs = msgs[:0]
		for _, x := range in[:n] {
			k, v, err := encode(x)
			if err != nil {
				return err
			}
			msgs = append(msgs, kafka.Message{Topic: topic, Key: []byte(k), Value: v})
		}
		if err := w.write(ctx, msgs); err != nil {
			return err
		}
		in = in[n:]
	}
	return nil
}
