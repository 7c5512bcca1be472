package ingest

import (
	"fmt"

	"github.com/corastream/corastream"
)

// impression makes one event per item shown: label 1 for what was clicked, 0 for what was not, none of them implicit,
// since the negatives are known. A clicked item that is not among those shown counts as shown.
func (j *job) impression(base corastream.Event, f eventFields) ([]corastream.Event, *problem) {
	if f.items[0] != '[' {
		return nil, &problem{ReasonType, "items is not an array"}
	}
	clicked := map[string]bool{}
	names, bad := j.clicked(f.clicked)
	if bad != nil {
		return nil, bad
	}
	for _, s := range names {
		clicked[s] = true
	}
	var out []corastream.Event
	seen := map[string]bool{}
	show := func(item string, click bool) {
		if seen[item] {
			return
		}
		seen[item] = true
		out = append(out, j.shown(base, item, click || clicked[item]))
	}
	elements(f.items, func(e []byte) bool {
		var item string
		var click bool
		if item, click, bad = j.shownItem(e); bad != nil {
			return false
		}
		if len(out) == j.d.cfg.MaxArray {
			bad = &problem{ReasonTooMany, fmt.Sprintf("items holds over max_array=%d", j.d.cfg.MaxArray)}
			return false
		}
		show(item, click)
		return true
	})
	if bad != nil {
		return nil, bad
	}
	for _, s := range names {
		show(s, true)
	}
	if len(out) == 0 {
		return nil, &problem{ReasonNoItem, "items is empty"}
	}
	return out, nil
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

// shownItem is an id, or an object with item_id and clicked.
func (j *job) shownItem(raw []byte) (item string, click bool, bad *problem) {
	if raw[0] == '{' {
		var id, on []byte
		members(raw, func(k, x []byte) {
			var buf [32]byte
			switch string(word(&buf, k)) {
			case "itemid", "item", "id":
				id = x
			case "clicked", "click", "label":
				on = x
			}
		})
		switch string(on) {
		case "", "null", "false", "0":
		case "true", "1":
			click = true
		default:
			return "", false, &problem{ReasonType, "clicked of a shown item is neither true nor false: " + brief(on)}
		}
		raw = id
	}
	if item, bad = j.d.id("item_id", raw); bad == nil && item == "" {
		bad = &problem{ReasonNoItem, "a shown item has no item_id"}
	}
	return item, click, bad
}

func (j *job) shown(ev corastream.Event, item string, click bool) corastream.Event {
	name, label := kindImpression, float32(0)
	if click {
		name, label = kindClick, 1
	}
	ev.Item, ev.Kind, ev.Label = item, name, label
	if k, ok := j.d.cfg.Kinds[name]; ok {
		ev.Weight = k.Weight
	}
	if ev.ID != "" {
		ev.ID += "#" + item // one id for all would make every item but the first a duplicate
	}
	return ev
}
