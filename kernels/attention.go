package kernels

import "fmt"

// Attention lets one query token look at n cached positions: dst, q are [heads][headDim]; keys and values are
// [n][kvHeads*headDim] with rows stride apart; head h reads key/value head h/(heads/kvHeads) (grouped queries). For each head
// dst = sum over t of softmax(scale q.k_t) v_t. scores holds at least n values and is overwritten. dst must not be q.
func Attention(dst, q []float32, keys, values []float32, n, heads, kvHeads, headDim, stride int, scale float32, scores []float32) {
	if kvHeads <= 0 || heads%kvHeads != 0 || headDim <= 0 {
		panic(fmt.Sprintf("kernels.Attention: %d heads over %d key/value heads of %d", heads, kvHeads, headDim))
	}
	if stride < kvHeads*headDim {
		panic(fmt.Sprintf("kernels.Attention: row stride %d is less than %d x %d", stride, kvHeads, headDim))
	}
	need("Attention", "dst", len(dst), heads*headDim)
	need("Attention", "q", len(q), heads*headDim)
	need("Attention", "keys", len(keys), span(n, kvHeads*headDim, stride))
	need("Attention", "values", len(values), span(n, kvHeads*headDim, stride))
	need("Attention", "scores", len(scores), n)
	if n <= 0 {
		clear(dst[:heads*headDim])
		return
	}
	group := heads / kvHeads
	for h := 0; h < heads; h++ {
		off := h / group * headDim
		attendHead(dst[h*headDim:(h+1)*headDim], q[h*headDim:(h+1)*headDim], keys[off:], values[off:], stride, scale, scores[:n])
	}
}

func attendHead(dst, q, keys, values []float32, stride int, scale float32, scores []float32) {
	n, d := len(scores), len(q)
	attendScores(scores, q, keys, n, d, stride, scale)
	Softmax(scores)
	clear(dst)
	attendSum(dst, scores, values, n, d, stride)
}

// AttendScores sets scores[t] = scale * q.k_t for n keys of d values, stride apart. A score does not depend on the other
// keys: a cache in pieces gives the same bytes as a whole one.
func AttendScores(scores, q, keys []float32, n, d, stride int, scale float32) {
	if n <= 0 {
		return
	}
	need("AttendScores", "scores", len(scores), n)
	need("AttendScores", "q", len(q), d)
	checkRows("AttendScores", "keys", len(keys), n, d, stride)
	attendScores(scores, q, keys, n, d, stride, scale)
}

// AttendSum adds p[t] v_t to dst, t in order, for n values of d numbers, stride apart: piece after piece gives the same bytes as
// the whole.
func AttendSum(dst, p, values []float32, n, d, stride int) {
	if n <= 0 {
		return
	}
	need("AttendSum", "dst", len(dst), d)
	need("AttendSum", "p", len(p), n)
	checkRows("AttendSum", "values", len(values), n, d, stride)
	attendSum(dst, p, values, n, d, stride)
}

// AttendOuter adds c[t] x to row t of dst, for n rows of d values, stride apart: the gradient of AttendScores by its keys and of
// AttendSum by its values.
func AttendOuter(dst, c, x []float32, n, d, stride int) {
	if n <= 0 {
		return
	}
	need("AttendOuter", "c", len(c), n)
	need("AttendOuter", "x", len(x), d)
	checkRows("AttendOuter", "dst", len(dst), n, d, stride)
	attendOuter(dst, c, x, n, d, stride)
}

func checkRows(function, name string, have, n, d, stride int) {
	if d <= 0 || stride < d {
		panic(fmt.Sprintf("kernels.%s: rows of %d values, %d apart", function, d, stride))
	}
	need(function, name, have, span(n, d, stride))
}

func attendScoresGeneric(scores, q, keys []float32, n, d, stride int, scale float32) {
	for t := 0; t < n; t++ {
		scores[t] = scale * Dot(q[:d], keys[t*stride:t*stride+d])
	}
}

func attendSumGeneric(dst, p, values []float32, n, d, stride int) {
	for t := 0; t < n; t++ {
		Axpy(p[t], values[t*stride:t*stride+d], dst[:d])
	}
}

func attendOuterGeneric(dst, c, x []float32, n, d, stride int) {
	for t := 0; t < n; t++ {
		Axpy(c[t], x[:d], dst[t*stride:t*stride+d])
	}
}
