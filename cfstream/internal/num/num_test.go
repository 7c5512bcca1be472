package num

import (
	"math"
	"testing"
)

func TestAgreesWithTheStandardLibrary(t *testing.T) {
	for x := -80.0; x < 80; x += 0.0137 {
		if got, want := Exp(x), math.Exp(x); math.Abs(got-want) > 4e-15*want {
			t.Fatalf("Exp(%v) = %v, want %v", x, got, want)
		}
		if got, want := float64(Exp32(float32(x))), math.Exp(float64(float32(x))); math.Abs(got-want) > 4e-7*want {
			t.Fatalf("Exp32(%v) = %v, want %v", x, got, want)
		}
		y := float32(math.Exp(x))
		if got, want := float64(Ln32(y)), math.Log(float64(y)); math.Abs(got-want) > 2e-7*max(1, math.Abs(want)) {
			t.Fatalf("Ln32(%v) = %v, want %v", y, got, want)
		}
	}
	if Exp(-1e9) != 0 || Exp32(-1e9) != 0 || Exp32(float32(math.NaN())) != 0 {
		t.Fatal("the far left is not 0")
	}
}

func TestLnOfIsLn32(t *testing.T) {
	v := make([]float32, 3000)
	for i := range v {
		v[i] = float32(math.Exp(float64(i)/100 - 15))
	}
	w := append([]float32{0, 1, 1.4142135, 1.4142136, 2}, v...)
	got := append([]float32(nil), w...)
	LnOf(got, 0.7, 0.3)
	for i, x := range w {
		if want := Ln32(float32(x*0.7) + 0.3); got[i] != want {
			t.Fatalf("%v: %v, want %v", x, got[i], want)
		}
	}
}

func BenchmarkLnOf(b *testing.B) {
	v := make([]float32, 1024)
	for b.Loop() {
		for i := range v {
			v[i] = float32(i)
		}
		LnOf(v, 0.7, 0.3)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1024, "ns/ln")
}
