package llm

// rowSet is a set of rows on their way through layers: what attends to what, and which rows carry a delta.
type rowSet struct {
	rows int
	pos  []int32
	runs []run
	// Rows from priv on carry a delta; each belongs to one pair and lies in one run of its own.
	priv   int
	groups []group   // rows [priv, rows) by user matrix
	shared []group   // the same rows by item column
	scale  []float32 // of the item column, one for each row from priv on
	pairs  []span    // the rows of each pair, in stage order
}

// group is consecutive rows [lo, hi) that share a matrix [hidden*rank].
type group struct {
	lo, hi int
	a      []float32
}

// plain makes the row set of rows that no delta reaches.
func (t *trie) plain() *rowSet {
	return &rowSet{rows: len(t.tokens), pos: t.pos, runs: t.runs, priv: len(t.tokens)}
}

// tail is the last layer seen from the answers alone: their queries, over all keys. Row i of its output is answer i in
// the given order.
func (s *rowSet) tail(answers []int32, order []int) *rowSet {
	t := &rowSet{rows: len(order), priv: len(order)}
	at := make(map[int32]*run, len(answers))
	for i := range s.runs {
		at[s.runs[i].hi-1] = &s.runs[i]
	}
	owner := func(row int32) *run {
		if r := at[row]; r != nil {
			return r
		}
		for i := range s.runs { // an answer inside a run: another prompt goes on where this one ends
			if r := &s.runs[i]; r.lo <= row && row < r.hi {
				return r
			}
		}
		panic("llm: an answer row lies in no run")
	}
	for i, p := range order {
		row := answers[p]
		r := owner(row)
		q := run{lo: row, hi: row + 1, out: int32(i), ext: r.ext, ctx: r.ctx}
		if r.lo < row {
			q.ctx = append(append([]span(nil), r.ctx...), span{r.lo, row})
		}
		t.runs = append(t.runs, q)
	}
	return t
}
