// Package closers remembers how to end what a function has opened, so that a failure halfway ends exactly that.
//
//	var opened closers.List
//	defer func() {
//		if err != nil {
//			err = errors.Join(err, opened.Close())
//		}
//	}()
package closers

import (
	"errors"
	"slices"
)

// List holds functions that end something. The zero List is empty. One goroutine at a time may use it.
type List struct{ funcs []func() error }

// Add appends a function that ends what was opened last.
func (l *List) Add(f func() error) { l.funcs = append(l.funcs, f) }

// Close calls the functions in the reverse order of Add, since what was opened later may use what was opened before. It calls all of
// them, returns their errors joined, and empties the list, so that a second Close does nothing.
func (l *List) Close() error {
	var errs []error
	for _, f := range slices.Backward(l.funcs) {
		errs = append(errs, f())
	}
	l.funcs = nil
	return errors.Join(errs...)
}
