package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/corastream/corastream"
)

// Failure is an error as clients read it. It says what happened, which field it is about, and what
// to do.
type Failure struct {
	Status  int    `json:"-"`
	Code    string `json:"code"`            // a short stable word
	Message string `json:"message"`         // what happened
	Field   string `json:"field,omitempty"` // which field, header or path part
	Fix     string `json:"fix,omitempty"`   // what to do

	retryAfter time.Duration
	cause      error // logged, never sent
}

func (f *Failure) Error() string {
	if f.cause != nil {
		return f.Code + ": " + f.Message + ": " + f.cause.Error()
	}
	return f.Code + ": " + f.Message
}

// badField is the most common failure: 400, naming the field.
func badField(field, fix, format string, args ...any) *Failure {
	return &Failure{Status: http.StatusBadRequest, Code: "bad_field", Field: field, Fix: fix, Message: fmt.Sprintf(format, args...)}
}

// notHere refuses a form of a request that this process can not answer, on a route that answers
// other forms.
func notHere(field, fix, what string) *Failure {
	return &Failure{Status: http.StatusBadRequest, Code: "not_available", Field: field, Message: what, Fix: fix}
}

func missing(dependency, fix string) *Failure {
	return &Failure{Status: http.StatusNotImplemented, Code: "not_available", Message: "this process runs without " + dependency, Fix: fix}
}

// failureOf turns an error of the stages into an answer. Only errors about the request itself are
// sent as they are. The others may name files or peers, so they are logged, and the caller gets a
// general text.
func failureOf(err error) *Failure {
	var f *Failure
	var usage *corastream.UsageError
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, context.DeadlineExceeded):
		return &Failure{Status: http.StatusGatewayTimeout, Code: "timeout", Message: "the answer took longer than request_timeout_ms", Fix: "ask for fewer items, or raise request_timeout_ms", retryAfter: time.Second, cause: err}
	case errors.Is(err, context.Canceled):
		return &Failure{Status: statusGone, Code: "cancelled", Message: "the client went away", cause: err}
	case errors.Is(err, corastream.ErrOverloaded):
		return overloaded("a queue behind this server is full", err)
	case errors.As(err, &usage):
		return &Failure{Status: http.StatusBadRequest, Code: "bad_field", Field: usage.Where, Message: usage.What, Fix: usage.Fix}
	case errors.Is(err, ErrSentAgain):
		return &Failure{Status: http.StatusConflict, Code: "sent_again", Field: "id", Message: "this letter was sent again before", Fix: "if the record failed once more, send its new letter"}
	case errors.Is(err, corastream.ErrUnknown):
		return &Failure{Status: http.StatusNotFound, Code: "unknown", Message: "the id is not known", cause: err}
	case errors.Is(err, corastream.ErrDegraded):
		return &Failure{Status: http.StatusServiceUnavailable, Code: "degraded", Message: "no usable checkpoint is loaded", Fix: "train one for this LLM, or ask /v1/recommend, which goes on by CF", retryAfter: 10 * time.Second, cause: err}
	}
	return &Failure{Status: http.StatusInternalServerError, Code: "internal", Message: "the server failed; its log says why", cause: err}
}

func overloaded(why string, cause error) *Failure {
	return &Failure{
		Status: http.StatusServiceUnavailable, Code: "overloaded", Message: why, retryAfter: time.Second, cause: cause,
		Fix: "try again after Retry-After; lower the load, or raise max_in_flight and max_queue",
	}
}

// statusGone is the status in the log and the metrics of a request whose client has gone away.
const statusGone = 499

// failureBody is the body of an error.
type failureBody struct {
	Error *Failure `json:"error" api:"notnull"`
}

// openAIFailure is the body of an error on the routes with OpenAI's form of errors.
type openAIFailure struct {
	Error OpenAIError `json:"error"`
}

// OpenAIError is an error as OpenAI's clients expect it.
type OpenAIError struct {
	Message string `json:"message"` // what happened, and the fix
	// invalid_request_error, authentication_error, permission_error, rate_limit_error or
	// server_error
	Type  string  `json:"type"`
	Param *string `json:"param"` // which field
	Code  string  `json:"code"`  // a short stable word
}

func openAIError(f *Failure) OpenAIError {
	e := OpenAIError{Message: f.Message, Code: f.Code, Type: "invalid_request_error"}
	if f.Field != "" {
		e.Param, e.Message = &f.Field, f.Field+": "+f.Message
	}
	if f.Fix != "" {
		e.Message += " (fix: " + f.Fix + ")"
	}
	switch {
	case f.Status == http.StatusUnauthorized:
		e.Type = "authentication_error"
	case f.Status == http.StatusForbidden:
		e.Type = "permission_error"
	case f.Status == http.StatusTooManyRequests:
		e.Type = "rate_limit_error"
	case f.Status >= 500:
		e.Type = "server_error"
	}
	return e
}

// likeOpenAI reports whether a route has OpenAI's form of errors.
func likeOpenAI(path string) bool {
	return path == "/v1/chat/completions" || strings.HasPrefix(path, "/v1/models")
}

// fail answers with an error in the shape that the route's clients expect.
func fail(w http.ResponseWriter, path string, f *Failure) {
	if !likeOpenAI(path) {
		writeFailure(w, f)
		return
	}
	retryHeader(w, f)
	writeJSON(w, f.Status, openAIFailure{openAIError(f)})
}

func retryHeader(w http.ResponseWriter, f *Failure) {
	if f.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(f.retryAfter.Seconds()))))
	}
}

func writeFailure(w http.ResponseWriter, f *Failure) {
	retryHeader(w, f)
	writeJSON(w, f.Status, failureBody{f})
}

// writeJSON marshals before it writes the status, so a value that can not be sent is a clean error.
func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":{"code":"internal","message":"the answer could not be encoded"}}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	w.Write(append(body, '\n')) //nolint:errcheck // the client is gone; there is nobody left to tell
}
