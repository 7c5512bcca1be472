package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

// maxUpload bounds a file that is looked through.
const maxUpload = 16 << 20

// Survey says what a file of events or a catalogue holds, what would go wrong with it here and what to set, as `corastream validate`
// does.
type Survey struct {
	OK       bool `json:"ok"` // no finding is an error
	Errors   int  `json:"errors"`
	Warnings int  `json:"warnings"`

	Source    string          `json:"source"`           // the file's name
	Format    string          `json:"format,omitempty"` // how it was read
	Holds     string          `json:"holds" api:"enum=events|catalogue|both|nothing"`
	Events    int             `json:"events"`
	Records   int             `json:"catalogue_records"`
	Bad       int             `json:"bad"` // records that can not be used
	Users     int             `json:"users"`
	Items     int             `json:"items"` // that events name
	Positive  int             `json:"positive"`
	Negative  int             `json:"negative"`
	Implicit  int             `json:"implicit"` // of the positive ones: their kind says so
	Kinds     map[string]int  `json:"kinds,omitempty"`
	First     *time.Time      `json:"first,omitempty"` // time of the oldest event
	Last      *time.Time      `json:"last,omitempty"`  // and of the newest
	Repeats   int             `json:"repeats"`         // rows that say what an earlier one said, at the same second
	RepeatIDs int             `json:"repeated_ids"`    // event ids, or catalogue items, that came before
	Unordered int             `json:"out_of_order"`    // events earlier than the one before them
	Untitled  int             `json:"untitled"`        // items without a title
	Findings  []SurveyFinding `json:"findings"`
}

// SurveyFinding is something that a survey noticed.
type SurveyFinding struct {
	Level string `json:"level" api:"enum=error|warning|note"` // an error keeps the data from being of use
	What  string `json:"what"`
	Where string `json:"where,omitempty"` // the first place, as FILE:LINE:COLUMN
	Fix   string `json:"fix,omitempty"`
	Count int    `json:"count,omitempty"` // how often, where it is more than once
}

// dataFile is a file's bytes.
type dataFile string

// fileTypes are the media types of a file, and the name that it has where the request gives none.
var fileTypes = map[string]string{
	"text/csv": "upload.csv", "text/tab-separated-values": "upload.tsv", "application/octet-stream": "upload.csv",
	"application/json": "upload.json", "application/x-ndjson": "upload.jsonl", "application/jsonl": "upload.jsonl",
}

// validate is POST /v1/validate. The file is read in memory, and nothing of it is kept or learnt. One is looked through at a time.
func (s *Server) validate(w http.ResponseWriter, r *http.Request) error {
	name := ""
	for key, values := range r.URL.Query() {
		if key != "name" {
			return unknownParameter(key)
		}
		if err := s.checkID("name", values[0]); err != nil {
			return err
		}
		name = values[0]
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	usual, ok := fileTypes[kind]
	if encoding := r.Header.Get("Content-Encoding"); !ok || encoding != "" {
		return &Failure{
			Status: http.StatusUnsupportedMediaType, Code: "unsupported_media_type", Field: "Content-Type", Message: "this is not taken for a data file",
			Fix: "send the file as it is, with the header Content-Type: text/csv, application/x-ndjson or application/octet-stream",
		}
	}
	if s.deps.Validate == nil {
		return missing("the configuration of a stream", "use corastream validate FILE")
	}
	if name = path.Base(strings.ReplaceAll(name, `\`, "/")); name == "." || name == "/" || name == "-" {
		name = usual
	}
	if err := s.uploads.enter(r.Context()); err != nil {
		return err
	}
	defer s.uploads.leave()
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxUpload))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return &Failure{
			Status: http.StatusRequestEntityTooLarge, Code: "too_large", Message: fmt.Sprintf("the file is over %d MiB", maxUpload>>20),
			Fix: "send its first part, or use corastream validate FILE",
		}
	case err != nil:
		return &Failure{Status: http.StatusBadRequest, Code: "bad_body", Message: "the body did not arrive whole", cause: err}
	case len(data) > 1 && data[0] == 0x1f && data[1] == 0x8b:
		return badField("body", "unpack it first", "the file is packed by gzip")
	}
	survey, err := s.deps.Validate(r.Context(), name, data)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, survey)
	return nil
}

// Validator looks through a file's bytes; name tells tables and JSON apart. A file that can not be read at all is a
// *corastream.UsageError.
type Validator func(ctx context.Context, name string, data []byte) (Survey, error)
