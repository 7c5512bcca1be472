package replay

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/corastream/corastream"
)

func titled() []corastream.Item {
	var items []corastream.Item
	for i, title := range []string{
		"Star Wars (1977)", "Star Trek (1979)", "Star Trek II (1982)", "The Godfather (1972)", "The Godfather Part II (1974)",
		"Godzilla (1998)", "Toy Story (1995)", "Toy Story 2 (1999)", "A Bug's Life (1998)", "", "Élève libre (2008)",
	} {
		it := corastream.Item{ID: fmt.Sprint("i", i), Title: title, Fields: map[string]string{}}
		if n := strings.LastIndexByte(title, '('); n >= 0 {
			it.Fields["year"] = title[n+1 : n+5]
		}
		items = append(items, it)
	}
	return items
}

func like(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab, aa, bb = ab+float64(a[i])*float64(b[i]), aa+float64(a[i])*float64(a[i]), bb+float64(b[i])*float64(b[i])
	}
	return ab / math.Sqrt(aa*bb)
}

func TestContentsSayWhatTheirNamesSay(t *testing.T) {
	items := titled()
	llm := func() ([][]float32, error) {
		out := make([][]float32, len(items))
		for i := range out {
			if items[i].Title != "" {
				out[i] = make([]float32, 32)
				out[i][i] = 1
			}
		}
		return out, nil
	}
	get := func(name string) [][]float32 {
		c, err := MakeContent(name, items, 32, 1, llm)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range c {
			if v == nil {
				continue
			}
			if len(v) != 32 {
				t.Fatalf("%s: item %d has width %d", name, i, len(v))
			}
			q := slices.Clone(v)
			if corastream.QuantizeContent(q); !slices.Equal(q, v) {
				t.Errorf("%s: item %d is off the grid", name, i)
			}
		}
		return c
	}
	if none := get(ContentNone); slices.ContainsFunc(none, func(v []float32) bool { return v != nil }) {
		t.Error("none knows something")
	}
	year := get(ContentYear)
	if year[9] != nil || !slices.Equal(year[5], year[8]) || like(year[0], year[1]) < like(year[0], year[7]) {
		t.Errorf("year: no year %v, equal years %v %v", year[9], year[5][:16], year[8][:16])
	}
	tfidf := get(ContentTFIDF)
	if like(tfidf[6], tfidf[7]) < 0.5 || like(tfidf[6], tfidf[7]) < like(tfidf[6], tfidf[3])+0.3 || tfidf[9] != nil {
		t.Errorf("tfidf: Toy Story is like its sequel by %.2f, like The Godfather by %.2f", like(tfidf[6], tfidf[7]), like(tfidf[6], tfidf[3]))
	}
	both := get(ContentYearTFIDF)
	if !slices.Equal(both[0][:16], year[0][:16]) || slices.Equal(both[0][16:], make([]float32, 16)) {
		t.Errorf("year+tfidf: %v", both[0])
	}
	deal := get(ContentPermuted)
	var from []int
	for _, v := range deal {
		from = append(from, slices.Index(v, 1))
	}
	seen := slices.Sorted(slices.Values(from))
	if from[9] != -1 || slices.IsSorted(from[:9]) || !slices.Equal(slices.Compact(seen), seen) {
		t.Errorf("permuted: %v", from)
	}
	yl := get(ContentYearLLM)
	if yl[2][16+2] != 1 || !slices.Equal(yl[2][:16], year[2][:16]) {
		t.Errorf("year+llm: %v", yl[2])
	}
	if _, err := MakeContent(ContentLLM, items, 16, 1, llm); !errors.Is(err, corastream.ErrMismatch) {
		t.Errorf("vectors of another width: %v", err)
	}
	for name, width := range map[string]int{"genre": 64, ContentYear: 16} {
		var usage *corastream.UsageError
		if _, err := MakeContent(name, items, width, 1, llm); !errors.As(err, &usage) {
			t.Errorf("%s of width %d: %v", name, width, err)
		}
	}
}

// TestComponentsAreThoseOfTheCentredMatrix: products of the scores are those of the dense matrix's own decomposition, and signs and
// order are fixed.
func TestComponentsAreThoseOfTheCentredMatrix(t *testing.T) {
	rows, columns, err := tfidf(titled())
	if err != nil {
		t.Fatal(err)
	}
	n := len(rows)
	x := mat.NewDense(n, columns, nil)
	for i, r := range rows {
		length := 0.0
		for _, g := range r {
			x.Set(i, int(g.column), g.weight)
			length += g.weight * g.weight
		}
		if len(r) > 0 {
			near(t, "length of a title", length, 1, 1e-12)
		}
	}
	for j := range columns {
		mean := mat.Sum(x.ColView(j)) / float64(n)
		for i := range n {
			x.Set(i, j, x.At(i, j)-mean)
		}
	}
	var svd mat.SVD
	if !svd.Factorize(x, mat.SVDThin) {
		t.Fatal("no decomposition")
	}
	var u mat.Dense
	svd.UTo(&u)
	values := svd.Values(nil)
	const width = 5
	got := principal(rows, columns, width)
	for i := range n {
		for k := range n {
			want, have := 0.0, 0.0
			for j := range width {
				want += u.At(i, j) * u.At(k, j) * values[j] * values[j]
				have += got[i][j] * got[k][j]
			}
			near(t, "product of two titles", have, want, 1e-6)
		}
	}
	for j := range width {
		if j > 0 && norm(got, j) > norm(got, j-1)+1e-9 {
			t.Errorf("component %d is larger than the one before", j)
		}
	}
	wide := principal(rows, columns, 40) // wider than the rows span
	if len(wide[0]) != 40 || norm(wide, 39) != 0 {
		t.Errorf("components beyond the rank: %v", norm(wide, 39))
	}
}

func norm(rows [][]float64, j int) float64 {
	s := 0.0
	for _, r := range rows {
		s += r[j] * r[j]
	}
	return s
}
