package node

import (
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/serve"
)

// Catalogue is the retriever, with the prompt of every titled item at hand for the monitor.
type Catalogue struct {
	*serve.Retriever
	prompts sync.Map        // item id -> corastream.Prompt
	read    func([]float32) // of a replica: told the content of each item once; others read it themselves
	known   sync.Map        // item ids of which it was told

	untitled bool        // items without a title are listed
	titled   atomic.Bool // some item has one

	describe func(corastream.Item) // the monitor's late list model: told each record once, and again when it changes; may be nil
}

// Moved implements corastream.Retriever.
func (c *Catalogue) Moved(s corastream.State, items []string) error {
	for _, id := range items {
		it, err := s.Item(id)
		if err != nil {
			return err
		}
		c.note(it)
	}
	return c.Retriever.Moved(s, items)
}

func (c *Catalogue) note(it *corastream.ItemState) {
	if c.read != nil && it.Content != nil {
		if _, told := c.known.LoadOrStore(it.Item.ID, true); !told {
			c.read(it.Content)
		}
	}
	if it.Title == "" {
		c.prompts.Delete(it.Item.ID)
		return
	}
	c.titled.Store(true)
	was, _ := c.prompts.Swap(it.Item.ID, corastream.Prompt{ItemID: it.Item.ID, Title: it.Title, Fields: it.Fields})
	if p, ok := was.(corastream.Prompt); c.describe != nil && !(ok && p.Title == it.Title && maps.Equal(p.Fields, it.Fields)) {
		c.describe(corastream.Item{ID: it.Item.ID, Title: it.Title, Fields: it.Fields, Withdrawn: it.Withdrawn})
	}
}

// offered says whether a list may hold the item: one of which nothing but clicks is known is listed only where no item has a
// title, as in a log that came without a catalogue.
func (c *Catalogue) offered(it *corastream.ItemState) bool {
	return c.untitled || it.Title != "" || it.Content != nil || !c.titled.Load()
}

// tell has every record described from now on, and those that are known at once.
func (c *Catalogue) tell(describe func(corastream.Item)) {
	c.describe = describe
	c.prompts.Range(func(_, v any) bool {
		p := v.(corastream.Prompt)
		describe(corastream.Item{ID: p.ItemID, Title: p.Title, Fields: p.Fields})
		return true
	})
}

// likesOf counts each item's likes as the state has them: the steps learnt of it times the probability of a like.
func likesOf(s corastream.State, p corastream.Predictor) (map[string]int, error) {
	shared, err := s.Shared()
	if err != nil {
		return nil, err
	}
	out := make(map[string]int, s.Items())
	for i := range s.Items() {
		it, err := s.ItemAt(uint32(i))
		if err != nil {
			return nil, err
		}
		e, err := p.ItemVector(s, it)
		if err != nil {
			return nil, err
		}
		if n := int(math.Round(float64(it.Count) / (1 + math.Exp(-float64(shared.Bias)-float64(e.Bias))))); n > 0 {
			out[it.Item.ID] = n
		}
	}
	return out, nil
}

func (c *Catalogue) fill(s corastream.State) error {
	for i := range s.Items() {
		it, err := s.ItemAt(uint32(i))
		if err != nil {
			return err
		}
		c.note(it)
	}
	return c.Rebuild(s)
}

func (c *Catalogue) prompt(item string) (corastream.Prompt, bool) {
	p, ok := c.prompts.Load(item)
	if !ok {
		return corastream.Prompt{}, false
	}
	return p.(corastream.Prompt), true
}

// texts are the titled items in the order of their ids, at most so many.
func (c *Catalogue) texts(most int) []corastream.Item {
	var items []corastream.Item
	c.prompts.Range(func(_, v any) bool {
		p := v.(corastream.Prompt)
		items = append(items, corastream.Item{ID: p.ItemID, Title: p.Title, Fields: p.Fields})
		return true
	})
	slices.SortFunc(items, func(a, b corastream.Item) int { return strings.Compare(a.ID, b.ID) })
	return items[:min(len(items), most)]
}
