package corastream

import (
	"math"
	"testing"
)

// TestAnEmbeddingKeepsItsDirection: one byte a number moves the direction by less than a hundredth, and bad vectors are refused.
func TestAnEmbeddingKeepsItsDirection(t *testing.T) {
	v := make([]float64, 384)
	for i := range v {
		v[i] = math.Sin(float64(i*i)) * 3
	}
	text, err := PackEmbedding(v)
	if err != nil {
		t.Fatal(err)
	}
	got := UnpackEmbedding(text)
	if len(got) != len(v) {
		t.Fatalf("%d numbers of %d", len(got), len(v))
	}
	var vv, gg, vg float64
	for i, x := range v {
		y := float64(got[i])
		vv, gg, vg = vv+x*x, gg+y*y, vg+x*y
	}
	if cos := vg / math.Sqrt(vv*gg); cos < 0.9999 {
		t.Errorf("cosine %.5f to what was packed", cos)
	}
	for _, bad := range [][]float64{nil, {0, 0}, {1, math.NaN()}, {math.Inf(1)}, make([]float64, MaxEmbedding+1)} {
		if text, err := PackEmbedding(bad); err == nil {
			t.Errorf("%d numbers were packed: %q", len(bad), text)
		}
	}
	for _, bad := range []string{"", "heist", "AAAA", "gA==", "f38=\n", "a-b_"} { // zero, -128, a line's end, another alphabet
		if v := UnpackEmbedding(bad); v != nil && bad != "heist" {
			t.Errorf("%q was read as %v", bad, v)
		}
	}
}
