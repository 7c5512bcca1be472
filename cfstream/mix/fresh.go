package mix

import (
	"slices"

	"github.com/corastream/corastream/cfstream/internal/num"
)

// fresh are items that a source knows something about and that no event has named. Nothing else would make candidates of them as long
// as nobody takes them.
type fresh struct {
	items []int32 // oldest first
	old   int     // events since items was looked through
}

// So many fresh items become candidates, of so many that are looked at.
const (
	freshTop  = 20
	freshScan = 8192
)

func (f *fresh) add(item int32) { f.items = append(f.items, item) }

// learn counts an event. Items that are fresh no more are dropped once many events have passed.
func (f *fresh) learn(is func(item int32) bool) {
	if f.old++; f.old < 64 || 4*f.old < len(f.items) {
		return
	}
	f.old = 0
	f.items = slices.DeleteFunc(f.items, func(j int32) bool { return !is(j) })
}

// find makes the fresh items of the highest scores above 0 candidates. Where more are fresh than are looked at, the newest are.
func (f *fresh) find(q *ask, is func(item int32) bool, score func(item int32) float32) {
	var top [freshTop]float32
	var ids [freshTop]int32
	n := 0
	for _, j := range f.items[max(0, len(f.items)-freshScan):] {
		if !is(j) {
			continue
		}
		x := score(j)
		if x <= 0 || n == freshTop && x <= top[n-1] {
			continue
		}
		if n < freshTop {
			n++
		}
		i := n - 1
		for ; i > 0 && top[i-1] < x; i-- {
			top[i], ids[i] = top[i-1], ids[i-1]
		}
		top[i], ids[i] = x, j
	}
	for _, j := range ids[:n] {
		q.put(j)
	}
}

// recency fills lag with (1+l)^-0.7: how much the event l places back counts.
func recency(lag []float32) {
	for l := range lag {
		lag[l] = float32(num.Exp(-0.7 * float64(num.Ln32(float32(1+l)))))
	}
}

// liking is how much an event of the history counts: a dislike by dislikedPart.
func liking(p past) float32 {
	if p.liked {
		return 1
	}
	return dislikedPart
}
