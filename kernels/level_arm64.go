//go:build !purego

package kernels

import "golang.org/x/sys/cpu"

const (
	neon     level = iota + 1 // Advanced SIMD, which every arm64 processor has
	dotprod                   // the same with SDOT (FEAT_DotProd: Graviton2, Apple M1)
	i8mmbf16                  // the same with SMMLA and BFMMLA (FEAT_I8MM and FEAT_BF16: Graviton3, Apple M2)
)

// detect asks the operating system what the CPU has. Windows does not tell of I8MM and BF16.
func detect() level {
	switch {
	case !cpu.ARM64.HasASIMDDP:
		return neon
	case !cpu.ARM64.HasI8MM || !hasBF16():
		return dotprod
	}
	return i8mmbf16
}
