package kernels

import (
	"fmt"
	"math"
)

// RoPE turns the heads x headDim values of x, one token at position pos, by rotary position embedding (Su et al. 2021): pair i of
// a head by the angle pos*freqs[i], i < headDim/2. With neox a pair is (i, i+headDim/2), as Qwen2 and GPT-NeoX have it;
// otherwise (2i, 2i+1), as ggml's llama does.
func RoPE(x []float32, heads, headDim, pos int, freqs []float32, neox bool) {
	half := headDim / 2
	need("RoPE", "freqs", len(freqs), half)
	var cos, sin [128]float32
	if half > len(cos) {
		panic(fmt.Sprintf("kernels.RoPE: head dimension %d is over %d", headDim, 2*len(cos)))
	}
	RoPEAngles(cos[:half], sin[:half], pos, freqs)
	Rotate(x, heads, headDim, cos[:half], sin[:half], neox)
}

// RoPEAngles fills cos and sin of pos*freqs[i], so that Rotate can use them for all heads and layers.
func RoPEAngles(cos, sin []float32, pos int, freqs []float32) {
	need("RoPEAngles", "freqs", len(freqs), len(cos))
	need("RoPEAngles", "sin", len(sin), len(cos))
	for i := range cos {
		s, c := math.Sincos(float64(pos) * float64(freqs[i]))
		cos[i], sin[i] = float32(c), float32(s)
	}
}

// Rotate turns each pair of each head by the angle whose cosine and sine are given (headDim/2 of each): (x, y) becomes
// (x cos - y sin, x sin + y cos). Negated sines turn back, which is the gradient.
func Rotate(x []float32, heads, headDim int, cos, sin []float32, neox bool) {
	half := headDim / 2
	if headDim%2 != 0 || headDim <= 0 {
		panic(fmt.Sprintf("kernels.Rotate: head dimension %d is not even", headDim))
	}
	need("Rotate", "x", len(x), heads*headDim)
	need("Rotate", "cos", len(cos), half)
	need("Rotate", "sin", len(sin), half)
	for h := 0; h < heads; h++ {
		v := x[h*headDim : (h+1)*headDim]
		if neox {
			rotateHalves(v[:half], v[half:], cos, sin)
		} else {
			rotatePairs(v, cos, sin)
		}
	}
}

func rotateHalvesGeneric(a, b, cos, sin []float32) {
	for i, p := range a {
		q, c, s := b[i], cos[i], sin[i]
		a[i] = p*c - q*s
		b[i] = p*s + q*c
	}
}

func rotatePairsGeneric(v, cos, sin []float32) {
	for i := 0; i < len(v)/2; i++ {
		p, q, c, s := v[2*i], v[2*i+1], cos[i], sin[i]
		v[2*i] = p*c - q*s
		v[2*i+1] = p*s + q*c
	}
}
