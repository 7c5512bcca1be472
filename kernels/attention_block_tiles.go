//go:build (amd64 || arm64) && !purego

package kernels

// attendBlock goes by tiles: for each key/value head the keys are packed once; then for each of its query heads and each tile
// of rows, scores = scale Q K^T, exponentials of what a row sees with zeros after, the sum of values, and the division by the
// sum of exponentials. It is false where the one-row kernels must do: generic Go, and heads that are no multiple of 16.
func attendBlock(dst []float32, ldd int, q []float32, ldq, m, n int, cache []Stretch, heads, kvHeads, d int, scale float32, s *Scratch) bool {
	if current == generic || d%16 != 0 {
		return false
	}
	most := rowsF32()
	blocks := (m + most - 1) / most
	count := 0 // panels of keys
	for _, c := range cache {
		count += panels(c.N)
	}
	keys := grow(&s.b, count*panel*d)
	ns := (n + 15) &^ 15 // rows of scores in whole vectors, so that packing leaves no rest
	packed := grow(&s.a, most*max(ns, d)+lanes)
	scores := grow(&s.t, most*ns)
	var sums [mostRows]float32
	for g := 0; g < kvHeads; g++ {
		p := 0
		for _, c := range cache {
			for t := 0; t < c.N; t += panel {
				packKeys(keys[p*panel*d:][:panel*d], c.Keys[t*c.Stride+g*d:], c.Stride, d, min(panel, c.N-t))
				p++
			}
		}
		for h := g * heads / kvHeads; h < (g+1)*heads/kvHeads; h++ {
			for b := 0; b < blocks; b++ {
				r0, r1 := b*m/blocks, (b+1)*m/blocks
				rows, sees := r1-r0, n-m+r1
				packRows(packed, q[r0*ldq+h*d:], ldq, d, rows)
				Scale(scale, packed[:rows*d])
				scoreTiles(scores, packed, keys, cache, d, ns, rows, sees)
				whole := (sees + 15) &^ 15
				for r := 0; r < rows; r++ {
					row := scores[r*ns:][:whole]
					own := sees - rows + r + 1
					sums[r] = expSum(row[:own], maxOf(row[:own]))
					clear(row[own:])
				}
				packRows(packed, scores, ns, whole, rows)
				sumTiles(dst[r0*ldd+h*d:], ldd, packed, cache, g*d, d, rows, sees)
				for r := 0; r < rows; r++ {
					Scale(1/sums[r], dst[(r0+r)*ldd+h*d:][:d])
				}
			}
		}
	}
	return true
}

// packKeys turns up to 32 keys of d values into [d][32]; columns past the last key are never used.
func packKeys(dst, keys []float32, stride, d, n int) {
	turn(dst, panel, keys, stride, d, min(16, n))
	if n > 16 {
		turn(dst[16:], panel, keys[16*stride:], stride, d, n-16)
	}
}

// scoreTiles fills rows of scores, ns apart, for the first `sees` positions (up to the end of the panel that the last is in).
func scoreTiles(scores, packed, keys []float32, cache []Stretch, d, ns, rows, sees int) {
	p, at := 0, 0
	for _, c := range cache {
		for t := 0; t < c.N && at+t < sees; t += panel {
			tileF32(scores[at+t:], ns, packed, keys[(p+t/panel)*panel*d:], panel, d, rows, min(panel, c.N-t), false)
		}
		p, at = p+panels(max(0, c.N)), at+max(0, c.N)
	}
}

// sumTiles adds the values of the first `sees` positions, weighted by packed, read in place.
func sumTiles(dst []float32, ldd int, packed []float32, cache []Stretch, off, d, rows, sees int) {
	for j := 0; j < d; j += panel {
		at := 0
		for _, c := range cache {
			if t := min(c.N, sees-at); t > 0 {
				tileF32(dst[j:], ldd, packed[at*rows:], c.Values[off+j:], c.Stride, t, rows, min(panel, d-j), at > 0)
				at += t
			}
		}
	}
}
