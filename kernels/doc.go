// Package kernels holds the numeric kernels of corastream: products of matrices, the element-wise parts of a transformer,
// and the vector operations of the collaborative-filtering learner, all on plain slices.
//
// Every kernel exists as generic Go, which is the reference, and where the CPU allows as assembly. The level is chosen
// once at start (see [Level]); the environment variable CORASTREAM_KERNELS forces one ("generic", "avx2", "avx512",
// "avx512bf16"; on arm64 "neon", "dotprod", "i8mmbf16"), and the build tag purego leaves all assembly out.
//
// It promises:
//   - [Dot], [Axpy], [Scale], [Add] and [AXPBY] give equal bytes on every level and every CPU: products and sums are rounded one
//     by one, never fused, in one fixed order. The collaborative-filtering learner's state depends on it.
//   - A row of a [Matrix] product does not depend on how many rows are multiplied with it: on one level, a prompt scored
//     alone and in a batch of a hundred gives equal bytes. [Gemm] and [AttendBlock] likewise, and wherever a cache is cut.
//   - No allocation once a [Scratch] is warm, and no access outside the slices given: a slice that is too short is a panic that
//     names it, before any work.
//
// It refuses: to guess at shapes (all sizes are arguments), to treat NaN or infinity as an error (they pass through as IEEE 754
// says), and destination slices that overlap the sources, unless a function says that in place is fine (this is not checked).
//
// An example: a frozen weight of 3 outputs and 2 inputs, packed once and applied to one row.
//
//	w := kernels.PackF32([]float32{1, 2, 3, 4, 5, 6}, 3, 2)
//	var s kernels.Scratch
//	y := make([]float32, 3)
//	w.Mul(y, 3, []float32{10, 1}, 2, 1, false, &s) // y = [12 34 56]
package kernels
