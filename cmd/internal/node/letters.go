package node

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/datafile"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/serve"
)

const (
	metaSentAgain = "letters.sent_again" // which dead letters were sent again, and when
	maxSentAgain  = 2000                 // of which that is kept; beyond that the oldest is forgotten
)

// letters implements serve.DeadLetters. What was sent again is kept in the store.
type letters struct {
	*ingest.Letters
	meta interface {
		Meta(key string) (string, error)
		SetMeta(ctx context.Context, key, value string) error
	}
	sending sync.Mutex // of two requests for one letter, one sends it
}

// Newest implements serve.DeadLetters.
func (l *letters) Newest(ctx context.Context, n int) ([]serve.FoundLetter, error) {
	sent, err := l.sent()
	if err != nil {
		return nil, err
	}
	found, err := l.Letters.Newest(ctx, n)
	if err != nil {
		return nil, err
	}
	out := make([]serve.FoundLetter, len(found))
	for i, f := range found {
		out[i] = serve.FoundLetter{DeadLetter: f.DeadLetter, At: f.At, Time: f.Time, Size: f.Size, Again: sent[serve.LetterID(f.At.Partition, f.At.Offset)]}
	}
	return out, nil
}

// Resend implements serve.DeadLetters. It marks the letter once the broker has the record. A crash between the two leaves it unmarked.
func (l *letters) Resend(ctx context.Context, partition int32, offset int64) (corastream.Position, error) {
	l.sending.Lock()
	defer l.sending.Unlock()
	sent, err := l.sent()
	if err != nil {
		return corastream.Position{}, err
	}
	id := serve.LetterID(partition, offset)
	if _, ok := sent[id]; ok {
		return corastream.Position{}, serve.ErrSentAgain
	}
	letter, err := l.Find(ctx, partition, offset)
	if err != nil {
		return corastream.Position{}, err
	}
	pos, err := l.Letters.Resend(ctx, letter)
	if err != nil {
		return corastream.Position{}, err
	}
	sent[id] = time.Now()
	for len(sent) > maxSentAgain {
		oldest := id
		for other, at := range sent {
			if at.Before(sent[oldest]) {
				oldest = other
			}
		}
		delete(sent, oldest)
	}
	marks, err := json.Marshal(sent)
	if err == nil {
		err = l.meta.SetMeta(ctx, metaSentAgain, string(marks))
	}
	if err != nil {
		return corastream.Position{}, fmt.Errorf("mark dead letter %s, which was sent again: %w", id, err)
	}
	return pos, nil
}

func (l *letters) sent() (map[string]time.Time, error) {
	text, err := l.meta.Meta(metaSentAgain)
	out := map[string]time.Time{}
	if err == nil && text != "" {
		err = json.Unmarshal([]byte(text), &out)
	}
	if err != nil {
		return nil, fmt.Errorf("read which dead letters were sent again: %w", err)
	}
	return out, nil
}

// validator looks through uploads with this configuration.
func validator(cfg ingest.Config) serve.Validator {
	return func(ctx context.Context, name string, data []byte) (serve.Survey, error) {
		s, err := datafile.SurveyData(ctx, cfg, name, data)
		if err != nil {
			return serve.Survey{}, err
		}
		s.Conclude()
		out := serve.Survey{
			OK: s.Errors() == 0, Errors: s.Errors(), Warnings: s.Warnings(), Source: s.Source, Format: s.Format, Holds: s.Holds,
			Events: s.Events, Records: s.Records, Bad: s.Bad, Users: s.Users, Items: s.Items, Positive: s.Positive, Negative: s.Negative, Implicit: s.Implicit,
			Kinds: s.Kinds, First: s.First, Last: s.Last, Repeats: s.Repeats, RepeatIDs: s.RepeatIDs, Unordered: s.Unordered, Untitled: s.Untitled,
			Findings: []serve.SurveyFinding{},
		}
		for _, f := range s.Findings {
			out.Findings = append(out.Findings, serve.SurveyFinding(f))
		}
		return out, nil
	}
}
