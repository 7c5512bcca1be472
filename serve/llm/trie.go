package llm

// span is a run of consecutive rows [lo, hi).
type span struct{ lo, hi int32 }

// run is consecutive query rows of one token sequence. Row lo+i attends to the item's cached K/V, then to the rows of ctx,
// then to rows lo..lo+i; its output goes to row out+i.
type run struct {
	lo, hi, out int32
	ext         *entry
	ctx         []span
}

// trie merges token sequences by their prefixes: a row for each different prefix, so that what prompts share is computed
// once. Rows of one insertion are consecutive.
type trie struct {
	tokens []int32
	pos    []int32
	runs   []run
	next   map[uint64]int32 // (parent+1)<<32 | token -> row
	paths  [][]int32        // the rows of each sequence
	owners []int            // the sequence that added each run
}

// newTrie inserts ts in the given order, which is the order of paths.
func newTrie(ts []tokens, order []int) *trie {
	t := &trie{next: map[uint64]int32{}}
	for _, i := range order {
		t.add(ts[i].ids)
	}
	return t
}

// answers returns the last row of each sequence.
func (t *trie) answers() []int32 {
	rows := make([]int32, len(t.paths))
	for i, path := range t.paths {
		rows[i] = path[len(path)-1]
	}
	return rows
}

// add inserts a sequence.
func (t *trie) add(tokens []int32) {
	path := make([]int32, len(tokens))
	parent, first := int32(-1), len(tokens)
	for i, tok := range tokens {
		key := uint64(parent+1)<<32 | uint64(uint32(tok))
		row, ok := t.next[key]
		if !ok {
			row = int32(len(t.tokens))
			t.next[key] = row
			t.tokens, t.pos = append(t.tokens, tok), append(t.pos, int32(i))
			first = min(first, i)
		}
		path[i], parent = row, row
	}
	if first < len(tokens) {
		t.runs = append(t.runs, run{lo: path[first], hi: path[len(path)-1] + 1, out: path[first], ctx: spans(path[:first])})
		t.owners = append(t.owners, len(t.paths))
	}
	t.paths = append(t.paths, path)
}

// spans joins consecutive rows.
func spans(rows []int32) []span {
	var s []span
	for _, r := range rows {
		if n := len(s); n > 0 && s[n-1].hi == r {
			s[n-1].hi++
		} else {
			s = append(s, span{r, r + 1})
		}
	}
	return s
}

// fork makes the rows of the layers that a delta reaches: of each sequence the first frozen[i] rows stay shared, the rest
// becomes its own. Sequences take their place in the given order. from tells for each new row which row of t it continues.
func (t *trie) fork(frozen []int, order []int) (s *rowSet, from []int32, answers []int32) {
	keep := make([]bool, len(t.tokens))
	for i, n := range frozen {
		for _, r := range t.paths[i][:n] {
			keep[r] = true
		}
	}
	s = &rowSet{}
	moved := make([]int32, len(t.tokens))
	for r, k := range keep {
		if k {
			moved[r] = int32(len(from))
			from = append(from, int32(r))
			s.pos = append(s.pos, t.pos[r])
		}
	}
	mapped := func(rows []int32) []span {
		m := make([]int32, len(rows))
		for i, r := range rows {
			m[i] = moved[r]
		}
		return spans(m)
	}
	for i, r := range t.runs {
		// Marks are closed towards the root, so what is kept of a run is its beginning.
		hi := r.lo
		for hi < r.hi && keep[hi] {
			hi++
		}
		if hi > r.lo {
			before := t.paths[t.owners[i]][:t.pos[r.lo]]
			s.runs = append(s.runs, run{lo: moved[r.lo], hi: moved[r.lo] + hi - r.lo, out: moved[r.lo], ctx: mapped(before)})
		}
	}
	s.priv = len(from)
	answers = make([]int32, len(t.paths))
	for _, i := range order {
		path := t.paths[i]
		lo := int32(len(from))
		for _, r := range path[frozen[i]:] {
			from = append(from, r)
			s.pos = append(s.pos, t.pos[r])
		}
		s.runs = append(s.runs, run{lo: lo, hi: int32(len(from)), out: lo, ctx: mapped(path[:frozen[i]])})
		answers[i] = int32(len(from)) - 1
	}
	s.rows = len(from)
	return s, from, answers
}
