package store

import (
	"slices"

	"github.com/dgraph-io/badger/v4"
)

// latest holds the debts that were added last, in memory alone: after a start it is empty and fills as clicks come.
type latest struct {
	keys []string // in the order of adding; may hold keys that are gone, live tells
	live map[string]struct{}
}

// maxLatest bounds the debts that are known to be new.
const maxLatest = 4096

func (l *latest) change(c change) {
	if !c.add {
		delete(l.live, c.key)
		return
	}
	if l.live == nil {
		l.live = map[string]struct{}{}
	}
	l.live[c.key] = struct{}{}
	l.keys = append(l.keys, c.key)
	if len(l.keys) < 2*maxLatest {
		return
	}
	l.keys = slices.DeleteFunc(l.keys, func(k string) bool { _, ok := l.live[k]; return !ok })
	if n := len(l.keys) - maxLatest; n > 0 {
		for _, k := range l.keys[:n] {
			delete(l.live, k)
		}
		l.keys = slices.Clone(l.keys[n:])
	}
}

// last returns up to n keys, newest first.
func (l *latest) last(n int) (out []string) {
	for i := len(l.keys) - 1; i >= 0 && len(out) < n; i-- {
		if _, ok := l.live[l.keys[i]]; ok && !slices.Contains(out, l.keys[i]) {
			out = append(out, l.keys[i])
		}
	}
	for len(l.keys) > 0 { // the end is what is paid first, and is not looked at again
		if _, ok := l.live[l.keys[len(l.keys)-1]]; ok {
			break
		}
		l.keys = l.keys[:len(l.keys)-1]
	}
	return out
}

// moved gives the keys of up to n debts. With newest, three quarters are the newest: who clicked last is looking at the page. The
// oldest get the rest, so that nobody waits for ever.
func (q *queues) moved(txn *badger.Txn, n int, newest bool) ([]string, error) {
	if !newest || n <= 0 {
		return q.debts.first(txn, n)
	}
	out := q.latest.last(max(1, n*3/4))
	oldest, err := q.debts.first(txn, n)
	if err != nil {
		return nil, err
	}
	for _, key := range oldest {
		if len(out) == n {
			break
		}
		if !slices.Contains(out, key) {
			out = append(out, key)
		}
	}
	return out, nil
}
