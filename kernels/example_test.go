package kernels_test

import (
	"fmt"

	"github.com/corastream/corastream/kernels"
)

func ExampleMatrix() {
	w := kernels.PackF32([]float32{1, 2, 3, 4, 5, 6}, 3, 2)
	var s kernels.Scratch
	y := make([]float32, 3)
	w.Mul(y, 3, []float32{10, 1}, 2, 1, false, &s)
	fmt.Println(y)
	// Output: [12 34 56]
}

func ExampleParallel() {
	x := make([]int, 10)
	kernels.Parallel(3, len(x), func(lo, hi, worker int) {
		for i := lo; i < hi; i++ {
			x[i] = i * i
		}
	})
	fmt.Println(x)
	// Output: [0 1 4 9 16 25 36 49 64 81]
}
