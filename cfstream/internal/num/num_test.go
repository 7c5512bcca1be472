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
