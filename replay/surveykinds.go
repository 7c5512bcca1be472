package replay

import (
	"fmt"
	"strings"
)

// The fix of an unknown kind is one entry of kafka.kinds.
const (
	kindsBegin = "kafka: {kinds: {"
	kindsEnd   = "}}"
)

// joinKinds makes one finding of those that are mended by an entry of kafka.kinds each, so that an operator copies one line into the
// configuration. A file of another shop may have dozens of kinds.
func joinKinds(findings []Finding) []Finding {
	var names, entries []string
	var joined *Finding
	out := make([]Finding, 0, len(findings)+1) // room for all, so that joined stays where it is
	for _, f := range findings {
		entry, ok := strings.CutPrefix(f.Fix, kindsBegin)
		entry, whole := strings.CutSuffix(entry, kindsEnd)
		if !ok || !whole {
			out = append(out, f)
			continue
		}
		name, _, _ := strings.Cut(entry, ":")
		names, entries = append(names, name), append(entries, entry)
		if joined == nil {
			out = append(out, f)
			joined = &out[len(out)-1]
			continue
		}
		joined.Count += f.Count
	}
	if len(names) > 1 {
		joined.What = fmt.Sprintf("%d kinds are not known, and their events have neither label nor rating: %s", len(names), strings.Join(names, ", "))
		joined.Fix = kindsBegin + strings.Join(entries, ", ") + kindsEnd
	}
	return out
}
