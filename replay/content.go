package replay

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/gonum/mat"

	"github.com/corastream/corastream"
)

// What a hybrid may know of an item before any click. Two thirds of what a film's title gives is its release year, so a claim for
// the LLM is made against year+tfidf, not against nothing.
const (
	ContentNone      = "none"
	ContentLLM       = "llm"        // the frozen LLM's reading of the title
	ContentYear      = "year"       // Fields["year"] in five-year bins
	ContentTFIDF     = "tfidf"      // the title's letters
	ContentYearTFIDF = "year+tfidf" // both
	ContentYearLLM   = "year+llm"
	ContentPermuted  = "permuted" // the LLM's, dealt out anew between items: the same numbers, about nothing
)

// Contents lists them.
var Contents = []string{ContentLLM, ContentYear, ContentTFIDF, ContentYearTFIDF, ContentYearLLM, ContentPermuted, ContentNone}

const (
	yearBins  = 16
	binYears  = 5
	textNorm  = 6.0 // mean squared norm of a text's content: what the LLM's has, so that no rate favours either
	gramLeast = 2   // n-grams are 2 to 4 characters long,
	gramMost  = 4
	gramItems = 2 // and in at least 2 titles
	maxGrams  = 200_000
)

// MakeContent makes one of Contents [width] for each item, nil where nothing is known. The LLM's vectors are asked for only where
// they are used; one of another width than `width` is refused. Values lie on the grid of corastream.QuantizeContent.
func MakeContent(name string, items []corastream.Item, width int, seed uint64, llm func() ([][]float32, error)) ([][]float32, error) {
	if strings.HasPrefix(name, ContentYear) && width <= yearBins {
		return nil, corastream.Usagef("cf.content", fmt.Sprintf("choose more than %d", yearBins), "content %s does not fit %d numbers", name, width)
	}
	var year, text [][]float32
	var err error
	room := width
	if strings.HasPrefix(name, ContentYear) {
		year, room = yearContent(items), width-yearBins
	}
	switch name {
	case ContentNone:
		return make([][]float32, len(items)), nil
	case ContentYear:
	case ContentTFIDF, ContentYearTFIDF:
		text, err = tfidfContent(items, room)
	case ContentLLM, ContentYearLLM, ContentPermuted:
		if text, err = llm(); err == nil {
			err = fits(text, len(items), width)
		}
	default:
		return nil, corastream.Usagef("content", "choose from "+strings.Join(Contents, ","), "%q is not a content", name)
	}
	if err != nil {
		return nil, err
	}
	if name == ContentPermuted {
		text = permuted(text, seed)
	}
	out := make([][]float32, len(items))
	for i := range out {
		var y, t []float32
		if year != nil {
			y = year[i]
		}
		if text != nil {
			t = text[i]
		}
		if y == nil && t == nil {
			continue
		}
		out[i] = make([]float32, width)
		copy(out[i], y)
		copy(out[i][width-room:], t[:min(len(t), room)])
		corastream.QuantizeContent(out[i])
	}
	return out, nil
}

func fits(vectors [][]float32, items, width int) error {
	if len(vectors) != items {
		return fmt.Errorf("%d contents for %d items", len(vectors), items)
	}
	for _, v := range vectors {
		if v != nil && len(v) != width {
			return fmt.Errorf("%w: a content of %d numbers, want %d", corastream.ErrMismatch, len(v), width)
		}
	}
	return nil
}

// yearContent is a year's place between the two nearest bin centres, less the mean over the catalogue. Bins count back from the
// newest year; nil without a year.
func yearContent(items []corastream.Item) [][]float32 {
	years := make([]int, len(items))
	newest := 0
	for i, it := range items {
		if y, err := strconv.Atoi(it.Fields["year"]); err == nil && y > 0 && y < 10000 {
			years[i], newest = y, max(newest, y)
		}
	}
	out := make([][]float32, len(items))
	var mean [yearBins]float64
	n := 0.0
	for i, y := range years {
		if y == 0 {
			continue
		}
		out[i] = make([]float32, yearBins)
		at := min(float64(newest-y)/binYears, yearBins-1)
		low := int(at)
		out[i][low] = float32(1 - (at - float64(low)))
		if low+1 < yearBins {
			out[i][low+1] = float32(at - float64(low))
		}
		for j, v := range out[i] {
			mean[j] += float64(v)
		}
		n++
	}
	for _, v := range out {
		for j := range v {
			v[j] -= float32(mean[j] / n)
		}
	}
	return out
}

// permuted deals the vectors out anew among the items that have one.
func permuted(vectors [][]float32, seed uint64) [][]float32 {
	var have []int
	for i, v := range vectors {
		if v != nil {
			have = append(have, i)
		}
	}
	dealt := slices.Clone(have)
	rng := rand.New(rand.NewPCG(seed, 0x9e37))
	rng.Shuffle(len(dealt), func(i, j int) { dealt[i], dealt[j] = dealt[j], dealt[i] })
	out := make([][]float32, len(vectors))
	for k, i := range have {
		out[i] = vectors[dealt[k]]
	}
	return out
}

// gram is one n-gram's weight in a title.
type gram struct {
	column int32
	weight float64
}

// tfidfContent is the title's character n-grams within words (scikit-learn's char_wb), sublinear counts times inverse document
// frequency, each title of length 1, then the first principal components.
func tfidfContent(items []corastream.Item, width int) ([][]float32, error) {
	rows, columns, err := tfidf(items)
	if err != nil {
		return nil, err
	}
	scores := principal(rows, columns, width)
	out := make([][]float32, len(items))
	var norm, n float64
	for i := range items {
		if rows[i] == nil {
			continue
		}
		out[i] = make([]float32, width)
		for j := range scores[i] {
			norm += scores[i][j] * scores[i][j]
		}
		n++
	}
	if norm == 0 {
		return out, nil
	}
	scale := math.Sqrt(textNorm / (norm / n))
	for i := range out {
		for j := range out[i] {
			out[i][j] = float32(scores[i][j] * scale)
		}
	}
	return out, nil
}

func tfidf(items []corastream.Item) (rows [][]gram, columns int, err error) {
	counts := make([]map[string]int, len(items))
	inItems := map[string]int{}
	for i, it := range items {
		counts[i] = grams(it.Title)
		for g := range counts[i] {
			inItems[g]++
		}
	}
	var vocabulary []string
	for g, n := range inItems {
		if n >= gramItems {
			vocabulary = append(vocabulary, g)
		}
	}
	if len(vocabulary) > maxGrams {
		return nil, 0, corastream.Usagef("content", "choose llm or year", "tfidf takes at most %d different n-grams, and there are %d", maxGrams, len(vocabulary))
	}
	slices.Sort(vocabulary)
	rows = make([][]gram, len(items))
	for i := range items {
		length := 0.0
		for g, n := range counts[i] {
			column, ok := slices.BinarySearch(vocabulary, g)
			if !ok {
				continue
			}
			idf := math.Log(float64(1+len(items))/float64(1+inItems[g])) + 1
			rows[i] = append(rows[i], gram{int32(column), (1 + math.Log(float64(n))) * idf})
		}
		slices.SortFunc(rows[i], func(a, b gram) int { return int(a.column - b.column) })
		for _, g := range rows[i] {
			length += g.weight * g.weight
		}
		for k := range rows[i] {
			rows[i][k].weight /= math.Sqrt(length)
		}
	}
	return rows, len(vocabulary), nil
}

func grams(title string) map[string]int {
	out := map[string]int{}
	for _, word := range strings.Fields(strings.ToLower(title)) {
		runes := []rune(" " + word + " ")
		for n := gramLeast; n <= gramMost; n++ {
			for at := 0; at+n <= len(runes); at++ {
				out[string(runes[at:at+n])]++
			}
		}
	}
	return out
}

// principal gives each row's first `width` principal components, the mean taken out: subspace iteration from a fixed start, so
// that equal catalogues give equal bytes. Components beyond what the rows span are zero.
func principal(rows [][]gram, columns, width int) [][]float64 {
	out := make([][]float64, len(rows))
	for i := range out {
		out[i] = make([]float64, width)
	}
	k := min(width+8, len(rows), columns)
	if k == 0 {
		return out
	}
	mean := make([]float64, columns)
	for _, r := range rows {
		for _, g := range r {
			mean[g.column] += g.weight / float64(len(rows))
		}
	}
	rng := rand.New(rand.NewPCG(1, 0x7f1df))
	basis := mat.NewDense(columns, k, nil)
	for i := range columns {
		for j := range k {
			basis.Set(i, j, rng.NormFloat64())
		}
	}
	var scores *mat.Dense
	for range 8 {
		scores = project(rows, mean, orthonormal(basis))
		basis = lift(rows, mean, scores)
	}
	// The scores of an orthonormal basis still mix components: turn them to their own axes.
	var svd mat.SVD
	if !svd.Factorize(project(rows, mean, orthonormal(basis)), mat.SVDThin) {
		return out
	}
	var u mat.Dense
	svd.UTo(&u)
	values := svd.Values(nil)
	for j := range min(width, len(values)) {
		sign, largest := 1.0, 0.0
		for i := range rows {
			if v := u.At(i, j); math.Abs(v) > largest+1e-12 {
				largest, sign = math.Abs(v), math.Copysign(1, v)
			}
		}
		for i := range rows {
			out[i][j] = sign * values[j] * u.At(i, j)
		}
	}
	return out
}

// project is (rows - mean) times basis.
func project(rows [][]gram, mean []float64, basis *mat.Dense) *mat.Dense {
	_, k := basis.Dims()
	shift := make([]float64, k)
	for c, m := range mean {
		axpy(shift, m, basis.RawRowView(c))
	}
	out := mat.NewDense(len(rows), k, nil)
	for i, r := range rows {
		row := out.RawRowView(i)
		axpy(row, -1, shift)
		for _, g := range r {
			axpy(row, g.weight, basis.RawRowView(int(g.column)))
		}
	}
	return out
}

// lift is the transpose of (rows - mean), times scores.
func lift(rows [][]gram, mean []float64, scores *mat.Dense) *mat.Dense {
	_, k := scores.Dims()
	out := mat.NewDense(len(mean), k, nil)
	sum := make([]float64, k)
	for i, r := range rows {
		s := scores.RawRowView(i)
		axpy(sum, 1, s)
		for _, g := range r {
			axpy(out.RawRowView(int(g.column)), g.weight, s)
		}
	}
	for c, m := range mean {
		axpy(out.RawRowView(c), -m, sum)
	}
	return out
}

func axpy(y []float64, a float64, x []float64) {
	for i := range y {
		y[i] += a * x[i]
	}
}

// orthonormal makes columns orthonormal: Gram and Schmidt, twice over, since once loses digits. A column that the others span
// becomes zero. It works on the transpose, where a column is a run of memory.
func orthonormal(m *mat.Dense) *mat.Dense {
	q := mat.DenseCopyOf(m.T())
	k, _ := q.Dims()
	for j := range k {
		v := q.RawRowView(j)
		before := inner(v, v)
		for range 2 {
			for i := range j {
				axpy(v, -inner(v, q.RawRowView(i)), q.RawRowView(i))
			}
		}
		after := inner(v, v)
		scale := 0.0
		if after > 1e-20*before {
			scale = 1 / math.Sqrt(after)
		}
		for i := range v {
			v[i] *= scale
		}
	}
	return mat.DenseCopyOf(q.T())
}

func inner(a, b []float64) float64 {
	sum := 0.0
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}
