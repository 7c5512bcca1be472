package corastream

import (
	"errors"
	"fmt"
)

// Sentinels for what callers decide on. Wrap them with %w; test with errors.Is.
var (
	// ErrGap: the log no longer holds the next offset (retention passed us, the topic was recreated, or it is another
	// cluster). Learning must stop: going on would lose events silently.
	ErrGap = errors.New("gap in the log")
	// ErrCorrupt: stored bytes fail their checksum or do not decode.
	ErrCorrupt = errors.New("corrupt record")
	// ErrOverloaded: a bounded queue is full; the caller may try again later.
	ErrOverloaded = errors.New("overloaded")
	// ErrUnknown: the user or item is not known.
	ErrUnknown = errors.New("unknown id")
	// ErrDegraded: no checkpoint serves this LLM; ranking goes on by CF alone.
	ErrDegraded = errors.New("no usable checkpoint")
	// ErrMismatch: a checkpoint, cache or store was made for another LLM, basis, prompt or CF spec.
	ErrMismatch = errors.New("mismatch")
	// ErrFormat: another build wrote it in a format that this one does not read. State that derives from other state is made anew.
	ErrFormat = errors.New("another format")
	// ErrEnd: a bounded source has nothing more to give.
	ErrEnd = errors.New("end of stream")
)

// UsageError is bad usage or configuration: the command ends with exit code 2. Where names the file, line or key; Fix
// says what to change.
type UsageError struct {
	Where string
	What  string
	Fix   string
}

func (e *UsageError) Error() string {
	s := e.What
	if e.Where != "" {
		s = e.Where + ": " + s
	}
	if e.Fix != "" {
		s += " (fix: " + e.Fix + ")"
	}
	return s
}

// Usagef makes a UsageError.
func Usagef(where, fix, format string, args ...any) error {
	return &UsageError{Where: where, What: fmt.Sprintf(format, args...), Fix: fix}
}
