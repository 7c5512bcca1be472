package mix

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

// ownVector is a vector of one of four kinds of items, with noise.
func ownVector(t *testing.T, r *rand.Rand, kind, width int) string {
	t.Helper()
	v := make([]float64, width)
	for i := range v {
		v[i] = r.NormFloat64() * 0.3
	}
	v[kind*width/4] += math.Sqrt(float64(width))
	text, err := corastream.PackEmbedding(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestOwnVectorsBringUpItemsThatNobodyHasTaken: titles say nothing, and users stay with one kind of item. A new item of that kind is
// listed above new items of the others; without vectors no new item is listed.
func TestOwnVectorsBringUpItemsThatNobodyHasTaken(t *testing.T) {
	for _, width := range []int{32, 1024} {
		for _, with := range []bool{true, false} {
			spec := Default()
			spec.Codes, spec.EASEItems = 0, 0
			m, err := New(spec)
			if err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(4, uint64(width)))
			describe := func(id string, kind int) {
				it := corastream.Item{ID: id}
				if with {
					it.Fields = map[string]string{corastream.FieldEmbedding: ownVector(t, r, kind, width)}
				}
				m.Describe(it)
			}
			for i := range 80 {
				describe(fmt.Sprint("old", i), i%4)
			}
			at := time.Unix(1_700_000_000, 0)
			recent := map[int][]corastream.Interaction{}
			for n := range 3000 {
				user := r.IntN(60)
				item := corastream.Interaction{Item: fmt.Sprint("old", 4*r.IntN(20)+user%4), Label: 1, Time: at.Add(time.Duration(n) * time.Minute)}
				m.Learn(corastream.Step{Item: item.Item, Positive: true, Time: item.Time, Recent: recent[user]})
				recent[user] = append([]corastream.Interaction{item}, recent[user][:min(len(recent[user]), 50)]...)
				if n == 1500 { // some new items come and are taken, so that the weight of the feature is learnt
					for i := range 40 {
						describe(fmt.Sprint("old", 80+i), i%4)
					}
				}
				if n > 1500 && n%3 == 0 {
					late := corastream.Interaction{Item: fmt.Sprint("old", 80+4*r.IntN(10)+user%4), Label: 1, Time: item.Time.Add(time.Second)}
					m.Learn(corastream.Step{Item: late.Item, Positive: true, Time: late.Time, Recent: recent[user]})
					recent[user] = append([]corastream.Interaction{late}, recent[user]...)
				}
			}
			for i := range 8 {
				describe(fmt.Sprint("new", i), i%4)
			}
			right, wrong, above, pairs := 0, 0, 0, 0
			for user := range 8 {
				place := map[string]int{}
				for k, c := range m.Rank(corastream.Query{Recent: recent[user], Now: at.Add(4000 * time.Minute), N: 200}) {
					place[c.Item] = k + 1
				}
				for i := range 8 {
					p := place[fmt.Sprint("new", i)]
					for j := range 8 {
						if q := place[fmt.Sprint("new", j)]; i%4 == user%4 && j%4 != user%4 {
							pairs++
							if p > 0 && (q == 0 || p < q) {
								above++
							}
						}
					}
					switch {
					case p == 0:
					case i%4 == user%4:
						right++
					default:
						wrong++
					}
				}
			}
			if with && (right < 14 || 20*above < 19*pairs) || !with && right+wrong > 0 {
				t.Errorf("width %d, vectors %v: %d of 16 new items of the user's kind are listed, %d of other kinds, above them in %d of %d pairs", width, with, right, wrong, above, pairs)
			}
			var saved bytes.Buffer
			if err := m.Save(&saved); err != nil {
				t.Fatal(err)
			}
			again, _ := New(spec)
			if err := again.Load(bytes.NewReader(saved.Bytes())); err != nil {
				t.Fatal(err)
			}
			q := corastream.Query{Recent: recent[3], Now: at.Add(4000 * time.Minute), N: 50}
			if a, b := fmt.Sprint(m.Rank(q)), fmt.Sprint(again.Rank(q)); a != b {
				t.Errorf("a saved model lists otherwise:\n%s\n%s", a, b)
			}
			// A vector that goes, one of another width, and one that comes back.
			for _, text := range []string{"", ownVector(t, r, 1, 16), ownVector(t, r, 1, width)} {
				m.Describe(corastream.Item{ID: "new1", Fields: map[string]string{corastream.FieldEmbedding: text}})
				if has := m.vectors.place[m.number["new1"]] >= 0; has != (with && len(corastream.UnpackEmbedding(text)) == width) && with {
					t.Errorf("after %.10q the item has a vector: %v", text, has)
				}
			}
		}
	}
}
