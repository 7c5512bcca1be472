package mix

import (
	"testing"

	"github.com/corastream/corastream"
)

// A genre that all items share says nothing of which of them is like the last one. Their titles do, and have a feature of their own.
func TestATitleSpeaksBesideItsFields(t *testing.T) {
	m := mustNew(t, small())
	item := func(id, title string, fields map[string]string) {
		m.Describe(corastream.Item{ID: id, Title: title, Fields: fields})
	}
	space := map[string]string{"genre": "space horror", "author": "scott"}
	item("last", "the eighth passenger", space)
	item("sequel", "the passenger returns", map[string]string{"genre": "action"})
	item("genre", "quiet planet", space)
	item("bare", "the passenger", nil)
	q := m.asking
	q.past = []past{{item: m.number["last"], liked: true, at: 1}}
	q.begin(m, 2, false)
	q.find()
	q.all()
	q.fill()
	defer q.end()
	get := func(id, feature string) float32 {
		for i, at := range q.pick {
			if q.cands[at] == m.number[id] {
				for k, name := range m.weights.names {
					if name == feature {
						return q.f[k][i]
					}
				}
			}
		}
		t.Fatalf("%s is no candidate, or there is no feature %s", id, feature)
		return 0
	}
	if get("genre", "words") <= get("sequel", "words") || get("genre", "title") != 0 || get("sequel", "title") <= 0 {
		t.Errorf("words: %v of the same fields, %v of a like title; title: %v and %v",
			get("genre", "words"), get("sequel", "words"), get("genre", "title"), get("sequel", "title"))
	}
	if get("bare", "title") != 0 || get("bare", "words") <= 0 { // its words are its title's: the two would be one
		t.Errorf("an item without fields: title %v, words %v", get("bare", "title"), get("bare", "words"))
	}
}
