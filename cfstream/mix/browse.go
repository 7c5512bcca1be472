package mix

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream/internal/num"
)

// The methods of this file read what the model knows whoever asks. They write nothing, and run beside Rank.

// Popular gives the n items with the most likes, best first. Likes count with the half-life that lies nearest to window; a
// window of 0 counts all of them alike. A Candidate's Score is that count at the time now.
func (m *Model) Popular(now time.Time, window time.Duration, n int, skip func(item string) bool) []corastream.Candidate {
	m.mu.RLock()
	defer m.mu.RUnlock()
	p, h := m.popular, halfLifeOf(window)
	fade := p.fade(h, seconds(now))
	return m.top(n, corastream.SourcePopular, skip, func(j int) float64 { return p.count[h][j] * fade })
}

// Trending gives the n items whose likes grow most, best first. The likes of the window are compared with those that the item's
// share of the next longer half-life would bring. A Candidate's Score is the difference in standard deviations of a Poisson
// count, and only items above 0 are listed. A window of 0 is a day.
func (m *Model) Trending(now time.Time, window time.Duration, n int, skip func(item string) bool) []corastream.Candidate {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if window == 0 {
		window = 24 * time.Hour
	}
	p, h := m.popular, max(1, halfLifeOf(window))
	short, long := p.fade(h, seconds(now)), p.fade(h-1, seconds(now))
	usual := p.sum[h-1] * long
	if usual <= 0 {
		return nil
	}
	ratio := p.sum[h] * short / usual
	return m.top(n, corastream.SourceTrending, skip, func(j int) float64 {
		recent, expected := p.count[h][j]*short, p.count[h-1][j]*long*ratio
		if recent < 1 { // less than one like of this moment is no trend
			return 0
		}
		return (recent - expected) / math.Sqrt(expected+1)
	})
}

// Latest gives the n items that came last, newest first. An item comes with its first catalogue record or its first event. A
// window leaves out items that were first taken before it; a window of 0 leaves out none.
func (m *Model) Latest(now time.Time, window time.Duration, n int, skip func(item string) bool) []corastream.Candidate {
	m.mu.RLock()
	defer m.mu.RUnlock()
	from := 0.0
	if window > 0 {
		from = seconds(now) - window.Seconds()
	}
	first := m.judged().first
	var out []corastream.Candidate
	for j := len(m.items) - 1; j >= 0 && len(out) < n; j-- {
		it := &m.items[j]
		if it.gone || first[j] > 0 && first[j] < from || skip != nil && skip(it.id) {
			continue
		}
		out = append(out, corastream.Candidate{Item: it.id, Score: float32(j + 1), Source: corastream.SourceNew})
	}
	return out
}

// Related gives the n items that go with an item, best first: those that are taken near it, then, where these are fewer than n,
// those whose titles share words with its own. The Score of the first is 1 and more, that of the others a cosine. From is the
// item asked for. An unknown item has none.
func (m *Model) Related(item string, n int, skip func(item string) bool) []corastream.Candidate {
	m.mu.RLock()
	defer m.mu.RUnlock()
	j, ok := m.number[item]
	if !ok || n <= 0 {
		return nil
	}
	chosen := map[int32]bool{j: true}
	var out []corastream.Candidate
	list := func(found []scored, source string, base float64) {
		slices.SortFunc(found, byScore)
		for _, f := range found {
			id := m.items[f.item].id
			if len(out) == n {
				return
			}
			if chosen[f.item] || m.items[f.item].gone || skip != nil && skip(id) {
				continue
			}
			chosen[f.item] = true
			out = append(out, corastream.Candidate{Item: id, Score: float32(base + f.score), Source: source, From: item})
		}
	}
	list(m.covisit.near(j, m.judged().events), corastream.SourceCoVisit, 1)
	if len(out) < n {
		list(m.content.near(j), corastream.SourceSimilar, 0)
	}
	return out
}

// pairTrust is how many events of an item halve what one more pair with it says: items with few events have high cosines by chance.
const pairTrust = 5

// near gives the neighbours of item j by the cosine of their co-visits, less for neighbours with few events.
func (c *covisit) near(j int32, events []float32) []scored {
	list := &c.lists[j]
	out := make([]scored, 0, len(list.ids))
	for i, k := range list.ids {
		if norm := float64(c.n[j]) * float64(c.n[k]); k != j && norm > 0 && list.sym[i] > 0 {
			seen := float64(events[k]) - 2 // quality starts at 2
			out = append(out, scored{k, float64(list.sym[i]) / math.Sqrt(norm) * seen / (seen + pairTrust)})
		}
	}
	return out
}

// near gives the items that share words with item j, by the cosine of their titles.
func (c *content) near(j int32) []scored {
	sum := map[int32]float64{}
	for _, w := range c.words[j] {
		if c.df[w] < 2 || c.df[w] > wordItems {
			continue
		}
		r := float64(c.rare(w))
		for _, k := range c.where[w] {
			sum[k] += r * r
		}
	}
	out := make([]scored, 0, len(sum))
	for k, s := range sum {
		if k != j {
			out = append(out, scored{k, s * float64(c.norm(c.words[j])) * float64(c.norm(c.words[k]))})
		}
	}
	return out
}

// scored is an item and what a list orders it by.
type scored struct {
	item  int32
	score float64
}

// byScore puts the higher score first, of equals the item that came first.
func byScore(a, b scored) int {
	return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.item, b.item))
}

// top lists the n items of the highest score above 0. skip, which may read the store, is asked of
// those alone that come before the last one listed.
func (m *Model) top(n int, source string, skip func(string) bool, score func(j int) float64) []corastream.Candidate {
	if n <= 0 {
		return nil
	}
	var found []scored
	for j := range m.items {
		if s := score(j); s > 0 && !m.items[j].gone {
			found = append(found, scored{int32(j), s})
		}
	}
	slices.SortFunc(found, byScore)
	out := make([]corastream.Candidate, 0, min(n, len(found)))
	for _, f := range found {
		id := m.items[f.item].id
		if len(out) == n {
			break
		}
		if skip == nil || !skip(id) {
			out = append(out, corastream.Candidate{Item: id, Score: float32(f.score), Source: source})
		}
	}
	return out
}

// fade is what a like of the time zero[h] weighs at the time now.
func (p *popularity) fade(h int, now float64) float64 {
	return num.Exp2(-max(0, now-p.zero[h]) / halfLives[h])
}

// halfLifeOf is the index of the half-life that lies nearest to a window, on a scale of ratios. 0 is all time, which does not fade.
func halfLifeOf(window time.Duration) int {
	best, least := 0, math.Inf(1)
	for h, life := range halfLives {
		if h == 0 || window <= 0 {
			continue
		}
		if d := math.Abs(math.Log(life / window.Seconds())); d < least {
			best, least = h, d
		}
	}
	return best
}

// judged is the source that counts each item's events.
func (m *Model) judged() *quality {
	for _, s := range m.sources {
		if k, ok := s.(*quality); ok {
			return k
		}
	}
	panic("mix: the model has no quality source")
}
