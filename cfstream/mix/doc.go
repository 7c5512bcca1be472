// Package mix ranks what a user takes next.
//
// A Model is a handful of retrieval sources and one set of weights. Each source is one file behind the interface source: it
// finds candidates for a query, writes one or more features of each, and learns from every event.
//
//	co-visit    items taken near the user's last items: five decayed sums for each pair (covisit.go)
//	popularity  likes, decayed with five half-lives (popularity.go)
//	quality     the share of likes among an item's events, and its age (quality.go)
//	own         the user's own items, where repeats are listed (own.go)
//	sequence    factors that are learnt on lists, with each event (sequence.go)
//	ease        a linear autoencoder over the likes, for catalogues of some thousand items (ease.go)
//	content     words of titles and fields (content.go)
//	vectors     the items' own vectors, where the catalogue has them (vectors.go)
//	labels      what users with the user's labels take (labels.go)
//	llm         what the frozen LLM reads of the items, turned by a small matrix that trains beside the stream (llm.go, tune.go)
//
// The score of a candidate is the sum of its features times weights, which depend on how long the user's history is and how
// old its last event (weights.go). Weights are learnt online by softmax regression: the item that was taken against the
// best others and some drawn uniformly. Items that nobody has taken become candidates through fresh.go.
//
// It promises: the same calls in the same order give the same bytes of Save, on every CPU and under every build tag; a Rank
// reads only candidates, never the whole catalogue; memory is bounded by the spec. It refuses: a saved state of another spec.
//
//	m, err := mix.New(mix.Default())
//	m.Describe(item)
//	list := m.Rank(corastream.Query{Recent: recent, Now: now, N: 10})
//	m.Learn(corastream.Step{Item: "taken", Positive: true, Time: now, Recent: recent})
package mix
