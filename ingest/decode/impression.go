package decode

import (
	"fmt"

	"github.com/corastream/corastream"
)

// several decodes an event about a list of items. With clicked, or the kind impression, it is an impression: label 1 for what was
// clicked, 0 for what was not, none of them implicit, since the negatives are known. With another kind it is a basket: each item
// gets what the kind means. A list about which nothing says what happened is refused.
func (j *job) several(base corastream.Event, f *interaction) ([]corastream.Event, *problem) {
	if f.raw[fItems][0] != '[' {
		return nil, &problem{ReasonType, "items is not an array", fItems}
	}
	if f.has(fItem) {
		return nil, &problem{ReasonAmbiguous, "item_id and items come together", fItem}
	}
	if f.raw[fLabel] != nil || f.has(fRating) {
		return nil, &problem{ReasonAmbiguous, "label and rating belong to one item, and items lists several", fLabel}
	}
	if bad := j.named(&base, f); bad != nil {
		return nil, bad
	}
	named := base.Kind
	if named == "" {
		named = j.ce.kind
	}
	kind, known := j.d.cfg.Kinds[base.Kind]
	if named != "" && !known {
		return nil, &problem{ReasonKind, fmt.Sprintf("type %q is not in kinds", named), fKind}
	}
	list, bad := j.list(f)
	if bad != nil {
		return nil, bad
	}
	switch {
	case f.raw[fClicked] != nil || list.flagged || base.Kind == kindImpression:
		if f.against != "" {
			return nil, &problem{ReasonKind, fmt.Sprintf("%.60q is not read, and may speak against the clicks", f.against), fContext}
		}
		return j.impression(base, list), nil
	case base.Kind == "":
		return nil, &problem{ReasonKind, "items has neither type nor clicked: type impression says that they were shown, purchase that they were bought", fItems}
	case base.Kind == kindRating:
		return nil, &problem{ReasonLabel, "a rating without a value", fRating}
	}
	kind.means(&base)
	if bad := f.contradicts(&base); bad != nil {
		return nil, bad
	}
	if list.nothing != nil && base.Positive() {
		return nil, list.nothing
	}
	var out []corastream.Event
	for _, item := range list.items {
		ev := base
		ev.Item = item
		ev.ID = partOf(ev.ID, item)
		out = append(out, ev)
	}
	return out, nil
}

// listed is what items and clicked say.
type listed struct {
	items   []string // each once
	clicked map[string]bool
	flagged bool     // an item says itself whether it was clicked
	nothing *problem // an item's quantity is 0 or less
}

func (j *job) list(f *interaction) (l listed, bad *problem) {
	l.clicked = map[string]bool{}
	names, bad := j.clicked(f.raw[fClicked])
	if bad != nil {
		return l, bad.at(fClicked)
	}
	for _, s := range names {
		l.clicked[s] = true
	}
	seen := map[string]bool{}
	elements(f.raw[fItems], func(e []byte) bool {
		var item string
		if item, bad = j.listedItem(e, &l); bad != nil {
			return false
		}
		if seen[item] {
			return true
		}
		if len(l.items) == j.d.cfg.MaxArray {
			bad = &problem{ReasonTooMany, fmt.Sprintf("items holds over max_array=%d", j.d.cfg.MaxArray), fItems}
			return false
		}
		seen[item] = true
		l.items = append(l.items, item)
		return true
	})
	if bad != nil {
		return l, bad.at(fItems)
	}
	for _, s := range names { // a clicked item that is not among those shown counts as shown
		if !seen[s] {
			seen[s] = true
			l.items = append(l.items, s)
		}
	}
	if len(l.items) == 0 {
		return l, &problem{ReasonNoItem, "items is empty", fItems}
	}
	return l, nil
}

// clicked is an array of ids, or one.
func (j *job) clicked(raw []byte) ([]string, *problem) {
	if len(raw) == 0 || isNull(raw) {
		return nil, nil
	}
	if raw[0] == '[' {
		return j.d.ids("clicked", raw)
	}
	s, bad := j.d.id("clicked", raw)
	if bad != nil || s == "" {
		return nil, bad
	}
	return []string{s}, nil
}

// listedItem is an id, or an object with item_id and perhaps clicked or quantity.
func (j *job) listedItem(raw []byte, l *listed) (item string, bad *problem) {
	if raw[0] == '{' {
		var id, on, quantity []byte
		members(raw, func(k, x []byte) {
			var buf [32]byte
			switch string(word(&buf, k)) {
			case "itemid", "item", "id", "productid":
				id = x
			case "clicked", "click", "label":
				on = x
			case "quantity", "qty":
				quantity = x
			}
		})
		if on != nil && !isNull(on) {
			click, ok := flag(on)
			if !ok {
				return "", &problem{ReasonType, "clicked of a shown item is neither true nor false: " + brief(on), fItems}
			}
			l.flagged = true
			if click {
				defer func() { l.clicked[item] = true }()
			}
		}
		if p := none(quantity); p != nil {
			l.nothing = p
		}
		raw = id
	}
	if item, bad = j.d.id("item_id", raw); bad == nil && item == "" {
		bad = &problem{ReasonNoItem, "an item of items has no item_id", fItems}
	}
	return item, bad
}

func (j *job) impression(base corastream.Event, l listed) (out []corastream.Event) {
	for _, item := range l.items {
		ev := j.shown(base, item, l.clicked[item])
		ev.ID = partOf(ev.ID, item)
		out = append(out, ev)
	}
	return out
}

func (j *job) shown(ev corastream.Event, item string, click bool) corastream.Event {
	name, label := kindImpression, float32(0)
	if click {
		name, label = kindClick, 1
	}
	ev.Item, ev.Kind, ev.Label, ev.Weight, ev.Implicit = item, name, label, 1, false
	j.weigh(&ev)
	return ev
}

// partOf is the id of one item's event: one id for all would make every item but the first a duplicate.
func partOf(id, item string) string {
	if id == "" {
		return ""
	}
	return id + "#" + item
}
