package decode

import (
	"strings"
	"sync"
	"sync/atomic"
)

// field is one of the places for raw values that an interaction has.
type field uint8

const (
	fUser field = iota
	fItem
	fItems
	fClicked
	fKind
	fEvent // says the kind where fKind does not
	fRating
	fValue
	fLabel
	fTime
	fID
	fQuantity
	fLabels
	fContext // known, and nothing is learnt from it
	fields
)

// eventWord finds the field that a record's member or a table's column gives, by its name folded by word. A switch, since a map costs a
// fifth of decoding an event.
func eventWord(w []byte) (f field, known bool) {
	switch string(w) {
	case "userid", "user":
		return fUser, true
	case "itemid", "item", "movieid":
		return fItem, true
	case "items", "impressions", "products":
		return fItems, true
	case "clicked", "clicks":
		return fClicked, true
	case "type", "kind", "eventtype", "feedbacktype":
		return fKind, true
	case "event":
		return fEvent, true
	case "rating":
		return fRating, true
	case "value":
		return fValue, true
	case "label":
		return fLabel, true
	case "timestamp", "time", "ts", "eventtime":
		return fTime, true
	case "id", "eventid":
		return fID, true
	case "quantity", "qty":
		return fQuantity, true
	case "labels":
		return fLabels, true
	case "comment", "price", "currency", "session", "sessionid":
		return fContext, true
	}
	return fUser, false
}

// ourNames are what messages and fields.events call them.
var ourNames = [fields]string{"user_id", "item_id", "items", "clicked", "type", "event", "rating", "value", "label", "timestamp", "id", "quantity", "labels", ""}

func ours(name string) field {
	for f, n := range ourNames {
		if n == name {
			return field(f)
		}
	}
	return fContext
}

// Foreign names that say what happened. They are not read, since nobody told how; a record that has one and says nothing else is refused.
var (
	ratingWords = words("stars star score rate grade reviewstars starrating ratingvalue bookrating overall reviewscore userrating points thumbs sentiment reaction vote marks")
	kindWords   = words("action actiontype eventname behavior behaviortype behaviour behaviourtype interaction interactiontype verb activity activitytype feedback op operation status signal")
	yesWords    = words("click clicked like liked purchase purchased bought watched converted conversion target response outcome positive")
	noWords     = words("negative dislike disliked skipped returned refunded cancelled canceled deleted removed ignored dismissed unliked revoked undone reverted")
)

func words(s string) map[string]bool {
	out := map[string]bool{}
	for _, w := range strings.Fields(s) {
		out[w] = true
	}
	return out
}

// sense is what a name that nothing reads may have been meant for.
type sense struct {
	like field // fKind, fRating or fLabel: what happened; fTime: when; fContext: neither
	flag int8  // 1: a yes says that it happened, -1: that it did not, or was undone; 0: no flag
	n    atomic.Int64
}

// strangers are the names that came and that nothing reads, up to a bound. Safe for many goroutines.
type strangers struct {
	mu sync.RWMutex
	m  map[string]*sense
}

const maxStrangers = 1000

func (s *strangers) look(name []byte) *sense {
	s.mu.RLock()
	found := s.m[string(name)]
	s.mu.RUnlock()
	if found != nil {
		return found
	}
	found = senseOf(string(name))
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.m[string(name)]; known != nil {
		return known
	}
	if len(s.m) < maxStrangers && len(name) <= 256 {
		s.m[string(name)] = found
	}
	return found
}

func senseOf(name string) *sense {
	var buf [32]byte
	w := string(word(&buf, []byte(name)))
	stem := w
	for _, p := range []string{"is", "was", "has"} {
		if rest, ok := strings.CutPrefix(w, p); ok && len(rest) > 2 {
			stem = rest
			break
		}
	}
	switch {
	case noWords[w], noWords[stem]:
		return &sense{like: fLabel, flag: -1}
	case yesWords[w], yesWords[stem]:
		return &sense{like: fLabel, flag: 1}
	case ratingWords[w]:
		return &sense{like: fRating}
	case kindWords[w]:
		return &sense{like: fKind}
	}
	for _, known := range []string{"type", "eventtype", "feedbacktype", "label", "rating", "clicked", "timestamp", "eventtime"} {
		if near(w, known) {
			like, _ := eventWord([]byte(known))
			return &sense{like: like}
		}
	}
	return &sense{like: fContext}
}

// near says that a is b with one letter added, left out, changed, or two neighbours exchanged.
func near(a, b string) bool {
	if a == b || len(a) > len(b)+1 || len(b) > len(a)+1 {
		return false
	}
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	x, y := a[i:], b[i:]
	switch {
	case len(x) > len(y):
		return x[1:] == y
	case len(x) < len(y):
		return x == y[1:]
	case x[1:] == y[1:]:
		return true
	}
	return len(x) > 1 && x[0] == y[1] && x[1] == y[0] && x[2:] == y[2:]
}

// yes and no of a flag: true, 1, "yes" and the like. ok is false for anything else, null too.
func flag(raw []byte) (on, ok bool) {
	if len(raw) == 0 {
		return false, false
	}
	s := string(raw)
	if raw[0] == '"' {
		s, _ = text(raw)
	}
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "true", "1", "yes", "1.0":
		return true, true
	case "false", "0", "no", "0.0":
		return false, true
	}
	return false, false
}
