package decode

import (
	"maps"
	"slices"
	"strings"
)

// mapping is one field's path, ready to be looked up.
type mapping struct {
	our  string
	path []string
}

func mappings(m map[string]string) (out []mapping) {
	for _, our := range slices.Sorted(maps.Keys(m)) {
		out = append(out, mapping{our, strings.Split(m[our], ".")})
	}
	return out
}

// lookup finds the value at a path of an object; nil when there is none.
func lookup(v []byte, path []string) (found []byte) {
	for i, name := range path {
		found = nil
		members(v, func(k, x []byte) {
			if string(k) == name {
				found = x
			}
		})
		if last := i == len(path)-1; found == nil || !last && found[0] != '{' {
			return nil
		}
		v = found
	}
	return found
}

// mapped puts the mapped fields over those read under our names.
func (f *interaction) mapped(v []byte, ms []mapping) {
	for _, m := range ms {
		if x := lookup(v, m.path); x != nil {
			f.over(ours(m.our), x)
		}
	}
}

// over sets a mapped field.
func (f *interaction) over(to field, x []byte) {
	f.raw[to] = x
	if f.twice == to {
		f.twice = fContext
	}
}
