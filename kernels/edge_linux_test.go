package kernels

import (
	"fmt"
	"runtime/debug"
	"syscall"
	"testing"
	"unsafe"
)

// edge gives slices that end right before memory that can not be read, or begin right after it: an access outside is a
// fault, even one whose result is not used.
type edge struct {
	t    testing.TB
	last bool // at the end of the readable part, else at its beginning
	all  [][]byte
}

func (e *edge) floats(n int) []float32 {
	page := syscall.Getpagesize()
	size := (4*n + page - 1) / page * page
	all, err := syscall.Mmap(-1, 0, size+2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err == nil {
		err = syscall.Mprotect(all[:page], syscall.PROT_NONE)
	}
	if err == nil {
		err = syscall.Mprotect(all[page+size:], syscall.PROT_NONE)
	}
	if err != nil {
		e.t.Fatal(err)
	}
	e.all = append(e.all, all)
	at := page
	if e.last {
		at += size - 4*n
	}
	if n == 0 {
		return nil
	}
	return random(newRand(uint64(n)), unsafe.Slice((*float32)(unsafe.Pointer(&all[at])), n))
}

func (e *edge) release() {
	for _, m := range e.all {
		if err := syscall.Munmap(m); err != nil {
			e.t.Fatal(err)
		}
	}
	e.all = nil
}

// TestNothingOutsideTheSlicesIsTouched runs every kernel on such slices.
func TestNothingOutsideTheSlicesIsTouched(t *testing.T) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	trap := &edge{t: t, last: true}
	x := trap.floats(7)
	if func() (p any) {
		defer func() { p = recover() }()
		x[0] = *(*float32)(unsafe.Add(unsafe.Pointer(&x[0]), 4*len(x)))
		return nil
	}() == nil {
		t.Fatal("a read past the end went unnoticed: this test would find nothing")
	}
	trap.release()
	atLevels(t, func(t *testing.T) {
		for _, last := range []bool{false, true} {
			e := &edge{t: t, last: last}
			try := func(name string, f func()) {
				defer e.release()
				defer func() {
					if p := recover(); p != nil {
						t.Fatalf("%s, slices at the end: %v: %v", name, last, p)
					}
				}()
				f()
			}
			for n := 0; n <= 67; n++ {
				for _, op := range vectorOps {
					try(fmt.Sprintf("%s of %d", op.name, n), func() { op.run(e.floats(n), e.floats(max(1, n))[:max(1, n)]) })
				}
				for _, op := range nonlinearOps {
					try(fmt.Sprintf("%s of %d", op.name, n), func() { op.run(e.floats(n), e.floats(n), e.floats(n)) })
				}
				for _, neox := range []bool{false, true} {
					try(fmt.Sprintf("RoPE of %d", 2*n+2), func() { RoPE(e.floats(3*(2*n+2)), 3, 2*n+2, 5, e.floats(n+1), neox) })
				}
				try(fmt.Sprintf("conversions of %d", n), func() {
					half := unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(e.floats(n)))), n)
					BF16FromF32(half, e.floats(n))
					F32FromBF16(e.floats(n), half)
					F32FromF16(e.floats(n), half)
				})
			}
			for _, s := range mulShapes {
				for _, f := range forms {
					in := wholeBlocks(s.in, f.step)
					w := packed(f.pack, f.flipped, make([]float32, s.out*in), s.out, in)
					try(fmt.Sprintf("%s of %+v", f.name, s), func() {
						var scratch Scratch
						w.Mul(e.floats(s.m*s.out), s.out, e.floats(s.m*in), in, s.m, true, &scratch)
					})
				}
				for bits := 0; bits < 4; bits++ {
					transA, transB, lda, ldb := bits&1 != 0, bits&2 != 0, s.in, s.out
					if transA {
						lda = s.m
					}
					if transB {
						ldb = s.in
					}
					try(fmt.Sprintf("Gemm of %+v %v %v", s, transA, transB), func() {
						Gemm(e.floats(s.m*s.out), s.out, e.floats(s.m*s.in), lda, e.floats(s.in*s.out), ldb, s.m, s.out, s.in, transA, transB, true)
					})
				}
			}
			for _, d := range []int{16, 20, 64, 80, 128} {
				for n := 1; n < 12; n++ {
					try(fmt.Sprintf("attention over %d of %d", n, d), func() {
						kv := span(n, 2*d, 2*d+1)
						var scratch Scratch
						k, v := e.floats(span(n+3, 2*d, 2*d+1)), e.floats(span(n+3, 2*d, 2*d+1))
						AttendBlock(e.floats(n*4*d), 4*d, e.floats(n*4*d), 4*d, n, []Stretch{{k, v, n + 3, 2*d + 1}}, 4, 2, d, .1, &scratch)
						AttendScores(e.floats(n), e.floats(d), e.floats(span(n, d, d+3)), n, d, d+3, 1)
						AttendSum(e.floats(d), e.floats(n), e.floats(span(n, d, d+3)), n, d, d+3)
						AttendOuter(e.floats(span(n, d, d+3)), e.floats(n), e.floats(d), n, d, d+3)
						Attention(e.floats(4*d), e.floats(4*d), e.floats(kv), e.floats(kv), n, 4, 2, d, 2*d+1, .1, e.floats(n))
					})
				}
			}
		}
	})
}
