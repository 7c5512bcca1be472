//go:build !amd64 || purego

package kernels

func axpys(alpha, x []float32, stride int, y []float32) { axpysGeneric(alpha, x, stride, y) }

func logScaled(v []float32, scale, add float32) { logScaledGeneric(v, scale, add) }

func index32(v []int32, x int32) int { return index32Generic(v, x) }

func minIndex(v []float32) int { return minIndexGeneric(v) }
