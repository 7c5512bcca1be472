package generator

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestWeightsAreTheFormula holds the whole path of an MLP generator to its formula, written out in float64.
func TestWeightsAreTheFormula(t *testing.T) {
	spec := smallSpec(KindMLP, InputsUser)
	m := smallCheckpoint(t, spec, 3).Model
	at := func(name string, i int) float64 { return float64(m.Params.Get(name).Data[i]) }
	r := rand.New(rand.NewPCG(8, 8))
	size := spec.Size()
	for _, pair := range somePairs(r, spec, 2, 2) {
		taste := pair.User.Vec[spec.Factors:]
		in := make([]float64, spec.Taste+1)
		for i, v := range taste {
			in[i] = float64(v)
		}
		in[spec.Taste] = float64(pair.User.Bias)
		hidden := make([]float64, spec.Width)
		for j := range hidden {
			z := at("mlp.0.bias", j)
			for i, v := range in {
				z += (v - at("in.mean", i)) * at("in.scale", i) * at("mlp.0.weight", i*spec.Width+j)
			}
			hidden[j] = z / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(z+0.044715*z*z*z)))
		}
		raw := make([]float64, size)
		var square float64
		for k := range raw {
			raw[k] = at("out.bias", k)
			for j, h := range hidden {
				raw[k] += h * at("out.weight", j*size+k)
			}
			square += raw[k] * raw[k]
		}
		x, lin := make([]float32, spec.Taste+1), make([]float32, spec.Taste+2)
		if err := m.UserInput(x, lin, &pair); err != nil {
			t.Fatal(err)
		}
		got := make([]float32, size)
		m.Forward(got, x, lin, 1)
		for k := range got {
			want := at("gain", 0) * raw[k] / math.Sqrt(square)
			for i, v := range taste {
				want += float64(v) * at("lin.weight", i*size+k)
			}
			bias := float64(pair.Mu + pair.User.Bias + pair.Item.Bias)
			want += bias*at("lin.weight", spec.Taste*size+k) + at("lin.weight", (spec.Taste+1)*size+k)
			whole := float64(got[k]) + float64(pair.Item.Bias)*float64(m.ItemColumn()[k])
			if math.Abs(whole-want) > 1e-5*(1+math.Abs(want)) { // measured: 1e-6
				t.Fatalf("entry %d: %v, the formula gives %v", k, whole, want)
			}
		}
	}
}

// TestPaperWeightsHaveLengthOne: without a linear path W_A is normalised over all its entries (CoRA, section 3.2).
func TestPaperWeightsHaveLengthOne(t *testing.T) {
	for _, kind := range []string{KindMLP, KindQFormer} {
		spec := smallSpec(kind, InputsPaper)
		m := smallCheckpoint(t, spec, 4).Model
		if m.ItemColumn() != nil {
			t.Errorf("%s: an item column without a linear path", kind)
		}
		in, _ := m.Inputs()
		w := make([]float32, 5*spec.Size())
		m.Forward(w, normal(rand.New(rand.NewPCG(1, 1)), 5*in), nil, 5)
		for r := range 5 {
			var square float64
			for _, v := range w[r*spec.Size() : (r+1)*spec.Size()] {
				square += float64(v) * float64(v)
			}
			if math.Abs(square-1) > 1e-5 {
				t.Errorf("%s, row %d: length^2 %v", kind, r, square)
			}
		}
	}
}

// TestARowDoesNotDependOnItsBatch: a user's W_A is the same bytes alone and among others, so that it may be cached.
func TestARowDoesNotDependOnItsBatch(t *testing.T) {
	eachKind(t, func(t *testing.T, spec Spec) {
		m := smallCheckpoint(t, spec, 5).Model
		r := rand.New(rand.NewPCG(2, 2))
		in, lin := m.Inputs()
		const rows = 33
		x, l := normal(r, rows*in), normal(r, rows*lin)
		all := make([]float32, rows*spec.Size())
		m.Forward(all, x, l, rows)
		for row := range rows {
			one := make([]float32, spec.Size())
			m.Forward(one, x[row*in:(row+1)*in], l[row*lin:(row+1)*lin], 1)
			if !equalBits(one, all[row*spec.Size():(row+1)*spec.Size()]) {
				t.Fatalf("row %d of %d differs when it is alone", row, rows)
			}
		}
	})
}
