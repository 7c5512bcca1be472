package serve

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/corastream/corastream"
)

// DeadLetters reads the dead-letter topic and sends letters again.
type DeadLetters interface {
	// Newest returns the newest n letters at most, newest first.
	Newest(ctx context.Context, n int) ([]FoundLetter, error)
	// Resend sends the record of a letter again to the topic that it came from, once. A letter that is not there is
	// corastream.ErrUnknown. One that was sent again before is ErrSentAgain.
	Resend(ctx context.Context, partition int32, offset int64) (corastream.Position, error)
}

// ErrSentAgain is of a dead letter that was sent again before.
var ErrSentAgain = fmt.Errorf("it was sent again before")

// FoundLetter is a dead letter on its topic.
type FoundLetter struct {
	corastream.DeadLetter
	At    corastream.Position // on the dead-letter topic
	Time  time.Time           // of its record there
	Size  int                 // bytes of the record that could not be used, as far as they are kept
	Again time.Time           // when it was sent again; zero: never
}

// LetterID names a letter by its partition and offset on the dead-letter topic.
func LetterID(partition int32, offset int64) string { return fmt.Sprintf("%d-%d", partition, offset) }

// LettersResponse is GET /v1/dead-letters.
type LettersResponse struct {
	Letters []LetterLine `json:"letters"` // newest first
}

// LetterLine is a dead letter of it.
type LetterLine struct {
	ID string `json:"id"` // partition and offset on the dead-letter topic
	Letter
	Bytes int        `json:"bytes"`                // of the record
	Again *time.Time `json:"sent_again,omitempty"` // when it was sent again
}

// ResendRequest is the body of POST /v1/dead-letters/resend.
type ResendRequest struct {
	ID string `json:"id" api:"required;pattern=^[0-9]{1,9}-[0-9]{1,18}$"` // of the letter, as GET /v1/dead-letters has it
}

// ResendResponse says where the record lies now.
type ResendResponse struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

func noLetters() error {
	return missing("a broker to read dead letters from", "run the ingest stage too, or use corastream consume --dead-letters")
}

// letters is GET /v1/dead-letters.
func (s *Server) letters(w http.ResponseWriter, r *http.Request) error {
	n := browseDefault
	for name, values := range r.URL.Query() {
		var err error
		if name != "n" {
			err = unknownParameter(name)
		} else {
			n, err = s.wanted(values[0])
		}
		if err != nil {
			return err
		}
	}
	if s.deps.Letters == nil {
		return noLetters()
	}
	found, err := s.deps.Letters.Newest(r.Context(), n)
	if err != nil {
		return err
	}
	out := LettersResponse{Letters: []LetterLine{}}
	for _, l := range found {
		line := LetterLine{ID: LetterID(l.At.Partition, l.At.Offset), Letter: letterOf(l.DeadLetter, l.Time.UTC()), Bytes: l.Size}
		if !l.Again.IsZero() {
			at := l.Again.UTC()
			line.Again = &at
		}
		out.Letters = append(out.Letters, line)
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// letterOf is a letter as people see it.
func letterOf(l corastream.DeadLetter, seen time.Time) Letter {
	return Letter{
		Topic: l.Pos.Topic, Partition: l.Pos.Partition, Offset: l.Pos.Offset, Reason: l.Reason, Detail: l.Detail, Preview: preview(l.Value), Seen: seen,
	}
}

// resend is POST /v1/dead-letters/resend. A letter is sent again once: an event without an id of its own would be learnt twice.
func (s *Server) resend(w http.ResponseWriter, r *http.Request) error {
	if s.deps.Letters == nil {
		return noLetters()
	}
	var q ResendRequest
	if err := s.decode(w, r, &q); err != nil {
		return err
	}
	part, at, _ := strings.Cut(q.ID, "-")
	partition, err := strconv.ParseInt(part, 10, 32)
	offset, err2 := strconv.ParseInt(at, 10, 64)
	if err != nil || err2 != nil || partition < 0 || offset < 0 {
		return badField("id", "send the id of a letter of GET /v1/dead-letters, such as 0-17", "it is no letter's id")
	}
	pos, err := s.deps.Letters.Resend(r.Context(), int32(partition), offset)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, ResendResponse(pos))
	return nil
}
