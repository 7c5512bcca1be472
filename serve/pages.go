package serve

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/corastream/corastream"
)

// pages keeps the lists that clients read page by page, so that no item is shown twice whatever is
// learnt meanwhile. Beyond max lists the oldest is dropped. A list is dropped pageLife after it
// was begun.
type pages struct {
	mu    sync.Mutex
	max   int
	by    map[string]*begun
	order []string // oldest first
}

// begun is a list that is read page by page. It holds no position: a cursor names the position, so
// a page can be asked for again.
type begun struct {
	owner string // whose list it is, and of which route
	items []corastream.Listed
	began time.Time
}

const (
	pageLife  = 30 * time.Minute
	pageItems = 500 // of one list, at most
	cursorNew = "new"
	maxCursor = 64 // bytes
)

func newPages(max int) *pages { return &pages{max: max, by: map[string]*begun{}} }

// keep stores a list and returns the cursor of position from. It returns "" when nothing follows
// that position.
func (p *pages) keep(owner string, items []corastream.Listed, from int, now time.Time) string {
	if from >= len(items) {
		return ""
	}
	name := rand.Text()
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.order) > 0 && (len(p.order) >= p.max || now.Sub(p.by[p.order[0]].began) > pageLife) {
		delete(p.by, p.order[0])
		p.order = p.order[1:]
	}
	p.by[name] = &begun{owner: owner, items: items, began: now}
	p.order = append(p.order, name)
	return cursorAt(name, from)
}

func cursorAt(name string, from int) string { return fmt.Sprintf("%s.%d", name, from) }

// next returns the n items at a cursor, their position in the list (from 0), and the cursor of the
// items that follow.
func (p *pages) next(owner, cursor string, n int, now time.Time) (items []corastream.Listed, from int, after string, err error) {
	name, place, _ := strings.Cut(cursor, ".")
	from, bad := strconv.Atoi(place)
	if bad != nil || from < 0 || len(cursor) > maxCursor {
		return nil, 0, "", badField("cursor", "send the cursor of the page before", "it is no cursor")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.by[name]
	switch {
	case list == nil || now.Sub(list.began) > pageLife:
		return nil, 0, "", &Failure{Status: http.StatusGone, Code: "cursor_gone", Field: "cursor", Message: "the list that it belongs to is not kept any more", Fix: "begin again without a cursor"}
	case list.owner != owner:
		return nil, 0, "", badField("cursor", "send it where it came from, for the same user", "it belongs to another list")
	}
	from = min(from, len(list.items))
	to := min(from+n, len(list.items))
	if to < len(list.items) {
		after = cursorAt(name, to)
	}
	return list.items[from:to], from, after, nil
}

// forget removes the lists of one owner, for erasure.
func (p *pages) forget(owner string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := p.order[:0]
	for _, name := range p.order {
		if p.by[name].owner == owner {
			delete(p.by, name)
			continue
		}
		kept = append(kept, name)
	}
	p.order = kept
}
