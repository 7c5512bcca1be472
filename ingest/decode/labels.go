package decode

import (
	"fmt"
	"slices"
	"strings"

	"github.com/corastream/corastream"
)

// ofUser says that the record is about its user alone: it has labels, and neither an item nor anything that happened.
func (f *interaction) ofUser() bool {
	if !f.has(fLabels) || f.has(fItem) || f.has(fItems) || f.has(fLabel) || f.has(fRating) || f.has(fValue) || f.has(fClicked) {
		return false
	}
	kind := f.kind()
	return len(kind) == 0 || isNull(kind) || string(kind) == `"`+corastream.KindLabels+`"`
}

// labels reads a user's labels: a list of texts, numbers and booleans, an object of such lists and values, of which each becomes
// NAME=VALUE, or a text in which | parts them. They come out sorted, each once, and never nil.
func (d *Decoder) labels(raw []byte) (out []string, bad *problem) {
	out = []string{}
	add := func(s string) bool {
		if bad = d.checkID("a label", s).at(fLabels); bad == nil {
			out = append(out, s)
		}
		return bad == nil
	}
	put := func(prefix string, x []byte) bool {
		s, ok := plainText(x, d.cfg.MaxIDBytes)
		switch {
		case !ok || x[0] == '[' || x[0] == '{':
			bad = &problem{ReasonType, "labels: " + brief(x) + " is neither a text, a number nor a boolean", fLabels}
			return false
		case trim(s) == "":
			return true
		}
		return add(prefix + trim(s))
	}
	switch raw[0] {
	case '[':
		elements(raw, func(e []byte) bool { return put("", e) })
	case '{':
		members(raw, func(name, x []byte) {
			switch prefix := string(name) + "="; {
			case bad != nil || isNull(x):
			case x[0] == '[':
				elements(x, func(e []byte) bool { return put(prefix, e) })
			default:
				put(prefix, x)
			}
		})
	case '"':
		s, _ := text(raw)
		for _, part := range strings.Split(s, "|") {
			if part = trim(part); part != "" && bad == nil {
				add(part)
			}
		}
	default:
		bad = &problem{ReasonType, `labels is neither a list nor an object (fix: write ["student", "de"])`, fLabels}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	if bad == nil && len(out) > corastream.MaxLabels {
		bad = &problem{ReasonTooMany, fmt.Sprintf("%d labels of a user are more than %d", len(out), corastream.MaxLabels), fLabels}
	}
	return out, bad
}
