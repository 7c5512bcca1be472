package kernels

// mulGeneric is the reference: C[i][o] = sum over k of A[i][k] W[o][k], k in order.
func (w *matrixF32) mulGeneric(c []float32, ldc int, a []float32, lda int, m int, accumulate bool) {
	for p := 0; p < panels(w.out); p++ {
		b := w.data[p*panel*w.in : (p+1)*panel*w.in]
		n := min(panel, w.out-p*panel)
		for i := 0; i < m; i++ {
			var acc [panel]float32
			rowPanel(&acc, a[i*lda:i*lda+w.in], b)
			store(c[i*ldc+p*panel:][:n], &acc, accumulate)
		}
	}
}

// rowPanel adds a row of A times one panel to acc.
func rowPanel(acc *[panel]float32, a, b []float32) {
	for k, x := range a {
		r := (*[panel]float32)(b[k*panel:])
		for j := 0; j < panel; j += 4 {
			acc[j] += x * r[j]
			acc[j+1] += x * r[j+1]
			acc[j+2] += x * r[j+2]
			acc[j+3] += x * r[j+3]
		}
	}
}

func store(c []float32, acc *[panel]float32, accumulate bool) {
	if accumulate {
		for j := range c {
			c[j] += acc[j]
		}
		return
	}
	copy(c, acc[:])
}
