package kernels

import "fmt"

// Stretch is a run of cached positions: keys and values [N][kvHeads*headDim] with rows Stride apart.
type Stretch struct {
	Keys, Values []float32
	N, Stride    int
}

// AttendBlock lets m query tokens in a row look at a cache in stretches. The queries are the last m positions of the last
// stretch: each sees itself and all before it. q and dst hold m rows of heads*headDim values, ldq and ldd apart; otherwise as
// Attention. A row's result depends neither on m nor on where the cache is cut. Parts of the heads can be done apart: pass
// q, dst and the keys from that head on. dst must not overlap q.
func AttendBlock(dst []float32, ldd int, q []float32, ldq, m int, cache []Stretch, heads, kvHeads, headDim int, scale float32, s *Scratch) {
	if m <= 0 {
		return
	}
	if kvHeads <= 0 || heads <= 0 || heads%kvHeads != 0 || headDim <= 0 {
		panic(fmt.Sprintf("kernels.AttendBlock: %d heads over %d key/value heads of %d", heads, kvHeads, headDim))
	}
	if ldd < heads*headDim || ldq < heads*headDim {
		panic(fmt.Sprintf("kernels.AttendBlock: row strides ldd %d and ldq %d are less than %d x %d", ldd, ldq, heads, headDim))
	}
	need("AttendBlock", "dst", len(dst), span(m, heads*headDim, ldd))
	need("AttendBlock", "q", len(q), span(m, heads*headDim, ldq))
	n := 0
	for _, c := range cache {
		if c.N <= 0 {
			continue
		}
		checkRows("AttendBlock", "keys", len(c.Keys), c.N, kvHeads*headDim, c.Stride)
		checkRows("AttendBlock", "values", len(c.Values), c.N, kvHeads*headDim, c.Stride)
		n += c.N
	}
	if len(cache) == 0 || cache[len(cache)-1].N < m {
		panic(fmt.Sprintf("kernels.AttendBlock: the last stretch of the cache must hold the %d queries' own positions", m))
	}
	if attendBlock(dst, ldd, q, ldq, m, n, cache, heads, kvHeads, headDim, scale, s) {
		return
	}
	// One row and head at a time.
	scores := grow(&s.b, n)
	for i := 0; i < m; i++ {
		sees := n - m + i + 1
		for h := 0; h < heads; h++ {
			off, at := h/(heads/kvHeads)*headDim, 0
			for _, c := range cache {
				t := min(c.N, sees-at)
				AttendScores(scores[at:], q[i*ldq+h*headDim:], skip(c.Keys, off), t, headDim, c.Stride, scale)
				at += max(0, t)
			}
			Softmax(scores[:sees])
			out := dst[i*ldd+h*headDim:][:headDim]
			clear(out)
			at = 0
			for _, c := range cache {
				t := min(c.N, sees-at)
				AttendSum(out, scores[at:], skip(c.Values, off), t, headDim, c.Stride)
				at += max(0, t)
			}
		}
	}
}

// skip is x from off on, or nothing of a stretch that holds nothing.
func skip(x []float32, off int) []float32 { return x[min(off, len(x)):] }
