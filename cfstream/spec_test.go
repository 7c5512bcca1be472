package cfstream

import (
	"math"
	"strings"
	"testing"

	"github.com/corastream/corastream/cfstream/internal/num"
)

func TestDefaultsAreValidAndBadSpecsNameEveryKey(t *testing.T) {
	for _, kind := range Kinds {
		if err := DefaultFor(kind).Validate(); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	bad := Spec{Kind: "magic", Factors: -2, Content: 0, BiasRate: 2, Damp: 0, Clip: math.NaN(), Negatives: -3}
	err := bad.Validate()
	for _, key := range []string{"kind", "factors", "content", "bias_rate", "damp", "clip", "negatives"} {
		if err == nil || !strings.Contains(err.Error(), key+": ") {
			t.Errorf("no complaint about %s: %v", key, err)
		}
	}
	if _, err := New(Spec{Kind: SASRec, Content: 64, FactorDamp: 1, Damp: 1, Clip: 1}); err == nil || !strings.Contains(err.Error(), "window") {
		t.Errorf("sasrec without a window: %v", err)
	}
}

// TestZeroIsTheKindsOwnNumber: a configuration may say no more than the kind.
func TestZeroIsTheKindsOwnNumber(t *testing.T) {
	for kind, want := range map[string]string{
		Bias: "bias(factors=0,content=0)", MF: "mf(factors=32,content=0)", Hybrid: "hybrid(factors=16,content=64)",
		LightGCN: "lightgcn(factors=32,layers=2)", SASRec: "sasrec(factors=32,window=10)",
	} {
		s := Default()
		s.Kind = kind
		m, err := New(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Spec().String(); got != want || s.String() != want || s.Digest() != DefaultFor(kind).Digest() {
			t.Errorf("%s: %s and %s, want %s", kind, got, s, want)
		}
		if f := m.Spec(); f.FactorRate == 0 || f.FactorDecay == 0 || f.FactorInit == 0 {
			t.Errorf("%s: rates are not filled in: %+v", kind, f)
		}
	}
}

// TestDigestTellsKindAndWidthsAndNothingElse: a checkpoint must survive another learning rate, and nothing more.
func TestDigestTellsKindAndWidthsAndNothingElse(t *testing.T) {
	a := Default()
	b := a
	b.BiasRate, b.Negatives = 0.5, 1
	if a.Digest() != b.Digest() {
		t.Error("a rate changed the digest")
	}
	seen := map[string]string{}
	for _, s := range []Spec{
		a,
		{Kind: Hybrid, Content: 32},
		{Kind: Hybrid, Factors: -1, Content: 64},
		{Kind: Hybrid, Factors: 4, Content: 64},
		DefaultFor(MF), DefaultFor(Bias), DefaultFor(LightGCN), DefaultFor(SASRec),
		{Kind: LightGCN, Layers: 3},
		{Kind: SASRec, Window: 20},
		{Kind: Hybrid, Factors: 4, Layers: 2, Content: 64},
	} {
		if other, ok := seen[s.Digest()]; ok {
			t.Errorf("%v and %s have one digest", s, other)
		}
		seen[s.Digest()] = s.String()
	}
	if got := a.String(); got != "hybrid(factors=16,content=64)" {
		t.Errorf("String() = %s", got)
	}
}

func TestExpIsExact(t *testing.T) {
	for x := -30.0; x <= 30; x += 0.00917 {
		if got, want := num.Exp(x), math.Exp(x); math.Abs(got-want) > 1e-15*want { // both are within 1 ulp: measured 4e-16
			t.Fatalf("exp(%v) = %v, want %v", x, got, want)
		}
	}
	for z, want := range map[float32]float64{0: 0.5, 1000: 1, -1000: 9.357623e-14} {
		if got := float64(sigmoid(z)); math.Abs(got-want) > 1e-6*want {
			t.Errorf("sigmoid(%v) = %v, want %v", z, got, want)
		}
	}
}

func TestCapsHoldRunaways(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for x, want := range map[float32]float32{3: 3, 30: 20, -inf: -20} {
		if got := cap1(x, 20); got != want {
			t.Errorf("cap1(%v) = %v, want %v", x, got, want)
		}
	}
	if got := cap1(nan, 20); got != 0 {
		t.Errorf("cap1(NaN) = %v", got)
	}
	v := []float32{30, 40}
	if capNorm(v, 5); v[0] != 3 || v[1] != 4 {
		t.Errorf("capNorm([30 40], 5) = %v", v)
	}
	for _, bad := range []float32{inf, nan, 3e38} {
		v := []float32{bad, 1}
		if capNorm(v, 5); v[0] != v[0] || v[0] > 5 {
			t.Errorf("capNorm of %v = %v", bad, v)
		}
	}
}
