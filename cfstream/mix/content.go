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
//
// Where texts have fields, the titles' own words are a feature of their own besides: a genre that hundreds of items share drowns
// what a title says, and the mixture weighs both.
type content struct {
	m      *Model
	number map[string]int32
	words  [][]int32 // by item, those of the title first
	own    []int32   // by item: how many of them are the title's; 0 where there are no others
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
func (*content) features() []string { return []string{"words", "cold", "title"} }

func (c *content) grow(n int) {
	for len(c.words) < n {
		c.words, c.own = append(c.words, nil), append(c.own, 0)
	}
}

func (c *content) learn(*event) {}

// fields is what an item's words are taken from besides its title.
func (c *content) fields(it corastream.Item) string {
	if c.m.spec.Text == TextTitle || len(it.Fields) == 0 {
		return ""
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(it.Fields)) {
		for _, v := range corastream.FieldValues(name, it.Fields[name]) {
			b.WriteByte(' ')
			b.WriteString(v)
		}
	}
	return b.String()
}

// describe takes in a text; of a changed one only the new words are kept.
func (c *content) describe(item int32, title, fields string) {
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
	c.read(item, title)
	c.own[item] = int32(len(c.words[item]))
	c.read(item, fields)
	if int(c.own[item]) == len(c.words[item]) {
		c.own[item] = 0
	}
	if len(c.words[item]) > 0 {
		c.titles++
	}
	c.all = num.Ln32(float32(1 + c.titles))
}

// read adds the words of a text that the item has not yet.
func (c *content) read(item int32, text string) {
	for _, word := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '_' }) {
		w, ok := c.number[word]
		if !ok {
			w = int32(len(c.df))
			c.number[strings.Clone(word)] = w
			c.df, c.where, c.ln = append(c.df, 0), append(c.where, nil), append(c.ln, 0)
		}
		if slices.Contains(c.words[item], w) || len(c.words[item]) == wordsOfItem {
			continue
		}
		c.words[item] = append(c.words[item], w)
		c.df[w]++
		c.ln[w] = num.Ln32(float32(1 + c.df[w]))
		if len(c.where[w]) <= wordItems {
			c.where[w] = append(c.where[w], item)
		}
	}
}

// rare is a word's weight, 0 for one that no other title has: it can not relate two items.
func (c *content) rare(w int32) float32 {
	if c.df[w] < 2 {
		return 0
	}
	return 1 + c.all - c.ln[w]
}

func (c *content) norm(words []int32) float32 {
	var n float32
	for _, w := range words {
		r := c.rare(w)
		n += float32(r * r)
	}
	if n == 0 {
		return 0
	}
	return 1 / num.Sqrt32(n)
}

// profile is the words of a history, each with its weight.
type profile struct {
	weight []float32 // by word; 0 between queries
	words  []int32
}

// add weighs the words of an item in.
func (p *profile) add(c *content, words []int32, lag float32) {
	norm := lag * c.norm(words)
	for _, w := range words {
		if p.weight[w] == 0 {
			p.words = append(p.words, w)
		}
		p.weight[w] += float32(norm * c.rare(w))
	}
}

// scale is what a cosine with the profile is to be multiplied by, 0 where there is none.
func (p *profile) scale() float32 {
	var n float32
	for _, w := range p.words {
		n += float32(p.weight[w] * p.weight[w])
	}
	if n == 0 {
		return 0
	}
	return contentScale / num.Sqrt32(n)
}

// cosine of the profile and an item's words, times scale.
func (p *profile) cosine(c *content, words []int32, scale float32) float32 {
	var s float32
	if scale == 0 {
		return 0
	}
	for _, w := range words {
		if x := p.weight[w]; x != 0 {
			s += float32(x * c.rare(w))
		}
	}
	if s == 0 {
		return 0
	}
	return float32(s*c.norm(words)) * scale
}

func (p *profile) forget() {
	for _, w := range p.words {
		p.weight[w] = 0
	}
	p.words = p.words[:0]
}

func (c *content) find(q *ask) {
	all, own := &q.texts[0], &q.texts[1]
	for k := range q.texts {
		p := &q.texts[k]
		p.words = p.words[:0]
		if n := len(c.df) - len(p.weight); n > 0 {
			p.weight = append(p.weight, make([]float32, n+len(c.df)/4)...)
		}
	}
	for l, p := range q.past[:min(len(q.past), contentLags)] {
		words := c.words[p.item]
		all.add(c, words, c.lag[l])
		if n := c.own[p.item]; n > 0 {
			own.add(c, words[:n], c.lag[l])
		}
	}
	for _, w := range all.words {
		if c.df[w] < 2 || c.df[w] > wordItems {
			continue
		}
		for _, j := range c.where[w] {
			q.put(j)
		}
	}
}

func (c *content) fill(q *ask, f [][]float32) {
	all, own := &q.texts[0], &q.texts[1]
	scale, ownScale := all.scale(), own.scale()
	likes := c.m.popular.count[0]
	for i, at := range q.pick {
		j := q.cands[at]
		words := c.words[j]
		s := all.cosine(c, words, scale)
		f[0][i], f[1][i] = s, 0
		if s != 0 {
			f[1][i] = s * num.Exp32(-float32(likes[j])/3)
		}
		f[2][i] = own.cosine(c, words[:c.own[j]], ownScale)
	}
	all.forget()
	own.forget()
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
		if s *= c.lag[l] * c.norm(c.words[p.item]); s > top && p.liked {
			best, top = p.item, s
		}
	}
	return best
}
