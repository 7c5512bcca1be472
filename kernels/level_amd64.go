//go:build amd64 && !purego

package kernels

//go:generate go run -C gen . ..

import "golang.org/x/sys/cpu"

// detect asks the CPU, and the operating system through it, what may run here.
func detect() level {
	c := &cpu.X86
	switch {
	case !c.HasAVX2 || !c.HasFMA:
		return generic
	case !c.HasAVX512F || !c.HasAVX512BW || !c.HasAVX512DQ || !c.HasAVX512VL || !c.HasAVX512VNNI:
		return avx2
	case !c.HasAVX512BF16:
		return avx512
	}
	return avx512bf16
}
