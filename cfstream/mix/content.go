package mix

import (
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream/internal/num"
)

// content compares words of titles: the cosine between a candidate's words and those of the user's last items, each word weighed by
// how rare it is (TF-IDF). A catalogue of which most items have few events lives by it.
type content struct {
	m      *Model
	number map[string]int32
	words  [][]int32 // by item
	df     []int32   // by word: in how many texts
	ln     []float32 // ln(1+df)
	all    float32   // ln(1+titles)
	where  [][]int32 // by word: the items with it, up to wordItems
	titles int
	lag    [contentLags]float32
}

const (
	contentLags  = 20
	wordItems    = 500 // a word that more items have finds no candidates
	wordsOfItem  = 64
	contentScale = 3
)

func newContent(m *Model) *content {
	c := &content{m: m, number: map[string]int32{}}
	recency(c.lag[:])
	return c
}

func (*content) name() string       { return corastream.SourceSimilar }
func (*content) features() []string { return []string{"words", "cold"} }

func (c *content) grow(n int) {
	for len(c.words) < n {
		c.words = append(c.words, nil)
	}
}

func (c *content) learn(*event) {}

// text is what an item's words are taken from.
func (c *content) text(it corastream.Item) string {
	if c.m.spec.Text == TextTitle || len(it.Fields) == 0 {
		return it.Title
	}
	var b strings.Builder
	b.WriteString(it.Title)
	for _, name := range slices.Sorted(maps.Keys(it.Fields)) {
		for _, v := range corastream.FieldValues(name, it.Fields[name]) {
			b.WriteByte(' ')
			b.WriteString(v)
		}
	}
	return b.String()
}

// describe takes in a text; of a changed one only the new words are kept.
func (c *content) describe(item int32, text string) {
	for _, w := range c.words[item] {
		c.df[w]--
		c.ln[w] = num.Ln32(float32(1 + c.df[w]))
		list := c.where[w]
		for i, j := range list {
			if j == item {
				c.where[w] = append(list[:i], list[i+1:]...)
				break
			}
		}
	}
	if len(c.words[item]) > 0 {
		c.titles--
	}
	c.words[item] = nil
	for _, word := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '_' }) {
		w, ok := c.number[word]
		if !ok {
			w = int32(len(c.df))
			c.number[strings.Clone(word)] = w
			c.df, c.where, c.ln = append(c.df, 0), append(c.where, nil), append(c.ln, 0)
		}
		again := false
		for _, had := range c.words[item] {
			again = again || had == w
		}
		if again || len(c.words[item]) == wordsOfItem {
			continue
		}
		c.words[item] = append(c.words[item], w)
		c.df[w]++
		c.ln[w] = num.Ln32(float32(1 + c.df[w]))
		if len(c.where[w]) <= wordItems {
			c.where[w] = append(c.where[w], item)
		}
	}
	if len(c.words[item]) > 0 {
		c.titles++
	}
	c.all = num.Ln32(float32(1 + c.titles))
}

// rare is a word's weight, 0 for one that no other title has: it can not relate two items.
func (c *content) rare(w int32) float32 {
	if c.df[w] < 2 {
		return 0
	}
	return 1 + c.all - c.ln[w]
}

func (c *content) norm(item int32) float32 {
	var n float32
	for _, w := range c.words[item] {
		r := c.rare(w)
		n += float32(r * r)
	}
	if n == 0 {
		return 0
	}
	return 1 / num.Sqrt32(n)
}

func (c *content) find(q *ask) {
	q.profile = q.profile[:0]
	if len(c.df) == 0 {
		return
	}
	if len(q.words) < len(c.df) {
		q.words = append(q.words, make([]float32, len(c.df)-len(q.words)+len(c.df)/4)...)
	}
	for l, p := range q.past[:min(len(q.past), contentLags)] {
		norm := c.lag[l] * c.norm(p.item)
		for _, w := range c.words[p.item] {
			if q.words[w] == 0 {
				q.profile = append(q.profile, w)
			}
			q.words[w] += float32(norm * c.rare(w))
		}
	}
	for _, w := range q.profile {
		if c.df[w] < 2 || c.df[w] > wordItems {
			continue
		}
		for _, j := range c.where[w] {
			q.put(j)
		}
	}
}

func (c *content) fill(q *ask, f [][]float32) {
	var n float32
	for _, w := range q.profile {
		n += float32(q.words[w] * q.words[w])
	}
	scale := float32(0)
	if n > 0 {
		scale = contentScale / num.Sqrt32(n)
	}
	likes := c.m.popular.count[0]
	for i, at := range q.pick {
		j := q.cands[at]
		var s float32
		if scale > 0 {
			for _, w := range c.words[j] {
				if x := q.words[w]; x != 0 {
					s += float32(x * c.rare(w))
				}
			}
			if s != 0 {
				s = float32(float32(s*c.norm(j)) * scale)
			}
		}
		f[0][i], f[1][i] = s, 0
		if s != 0 {
			f[1][i] = s * num.Exp32(-float32(likes[j])/3)
		}
	}
	for _, w := range q.profile {
		q.words[w] = 0
	}
}

func (c *content) from(q *ask, i int) int32 {
	best, top := int32(-1), float32(0)
	for l, p := range q.past[:min(len(q.past), contentLags)] {
		var s float32
		for _, w := range c.words[q.cands[i]] {
			for _, v := range c.words[p.item] {
				if v == w {
					r := c.rare(w)
					s += r * r
				}
			}
		}
		if s *= c.lag[l] * c.norm(p.item); s > top && p.liked {
			best, top = p.item, s
		}
	}
	return best
}
