package mix

import "github.com/corastream/corastream"

// RankExact is Rank over the whole catalogue: no item is left out because no source found it. It costs as much as the catalogue
// is large, and is there to measure what Rank misses.
func (m *Model) RankExact(query corastream.Query) []corastream.Candidate {
	return m.rank(query, true)
}
