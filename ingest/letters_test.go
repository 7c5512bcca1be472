package ingest

import (
	"errors"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	kafka "github.com/segmentio/kafka-go"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/ingest/decode"
)

// TestADeadLetterIsSentAgainAsItWas: with its key and headers from the log, from the letter where the log has something else at its
// place, and not at all where only its beginning is left or its topic is not ours.
func TestADeadLetterIsSentAgainAsItWas(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg Config) {
		cfg.Topics.Interactions = makeTopic(t, cfg, cfg.Topics.Interactions, 1, map[string]string{"max.message.bytes": "4194304"})
		from := cfg.Topics.Interactions
		w := rawWriter(t, cfg)
		big := []byte(strings.Repeat("x", 2<<20))
		must(t, w.WriteMessages(t.Context(),
			kafka.Message{Topic: from, Key: []byte("u"), Value: []byte(`{"item_id":"a"}`), Headers: []kafka.Header{{Key: "ce_id", Value: []byte("7")}}},
			kafka.Message{Topic: from, Key: []byte("v"), Value: big}))
		at := func(topic string, offset int64) corastream.Position {
			return corastream.Position{Topic: topic, Offset: offset}
		}
		must(t, sink(t, cfg).Bury(t.Context(), []corastream.DeadLetter{
			{Pos: at(from, 0), Key: []byte("u"), Value: []byte(`{"item_id":"a"}`), Reason: decode.ReasonNoUser},
			{Pos: at(from, 0), Key: []byte("w"), Value: []byte(`{"another":"record"}`), Reason: decode.ReasonNoUser},
			{Pos: at(from, 1), Key: []byte("v"), Value: big[:keepLarge], Reason: decode.ReasonTooLarge},
			{Pos: at(from, 99), Key: []byte("v"), Value: big[:keepLarge], Reason: decode.ReasonTooLarge},
			{Pos: at("elsewhere", 0), Value: []byte("?"), Reason: decode.ReasonJSON},
		}))
		letters := NewLetters(cfg, producer(t, cfg), zerolog.Nop())
		got, err := letters.Newest(t.Context(), 4)
		must(t, err)
		if len(got) != 4 || got[0].At.Offset != 4 || got[3].At.Offset != 1 || got[0].Pos.Topic != "elsewhere" || !got[1].Cut || got[3].Cut {
			t.Fatalf("%+v", got)
		}
		send := func(offset int64) (corastream.Position, error) {
			l, err := letters.Find(t.Context(), 0, offset)
			must(t, err)
			return letters.Resend(t.Context(), l)
		}
		for offset, said := range map[int64]string{2: "max_record_bytes", 3: "no longer at", 4: "does not read"} {
			var usage *corastream.UsageError
			if _, err := send(offset); !errors.As(err, &usage) || !strings.Contains(err.Error(), said) {
				t.Errorf("letter %d: %v", offset, err)
			}
		}
		for offset, key := range []string{"u", "w"} {
			pos, err := send(int64(offset))
			must(t, err)
			r, err := letters.record(t.Context(), pos)
			must(t, err)
			want := []string{`{"item_id":"a"}`, `{"another":"record"}`}[offset]
			if pos.Topic != from || string(r.Key) != key || string(r.Value) != want || (len(r.Headers) == 1) != (offset == 0) {
				t.Errorf("%v: %s %s %v", pos, r.Key, r.Value, r.Headers)
			}
		}
		for _, c := range []struct {
			partition int32
			offset    int64
		}{{0, 99}, {7, 0}, {0, -1}} {
			if _, err := letters.Find(t.Context(), c.partition, c.offset); !errors.Is(err, corastream.ErrUnknown) {
				t.Errorf("%v: %v", c, err)
			}
		}
	})
}
