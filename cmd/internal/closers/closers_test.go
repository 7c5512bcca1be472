package closers_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/corastream/corastream/cmd/internal/closers"
)

func TestCloseEndsAllInReverseOrderOnce(t *testing.T) {
	var l closers.List
	var order []int
	first, third := errors.New("first"), errors.New("third")
	for i, err := range []error{first, nil, third} {
		l.Add(func() error { order = append(order, i); return err })
	}
	if err := l.Close(); !errors.Is(err, first) || !errors.Is(err, third) {
		t.Errorf("errors: %v", err)
	}
	if err := l.Close(); err != nil || !slices.Equal(order, []int{2, 1, 0}) {
		t.Errorf("order %v, second Close: %v", order, err)
	}
}
