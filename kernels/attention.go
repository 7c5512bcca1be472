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

func attendHeadGeneric(dst, q, keys, values []float32, stride int, scale float32, scores []float32) {
	for t := range scores {
		scores[t] = scale * Dot(q, keys[t*stride:t*stride+len(q)])
	}
	Softmax(scores)
	clear(dst)
	for t, p := range scores {
		Axpy(p, values[t*stride:t*stride+len(dst)], dst)
	}
}
