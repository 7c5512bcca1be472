package kernels

import (
	"slices"
	"testing"
)

func TestTheListKernelsGiveTheBytesOfGenericGo(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		for _, n := range oddLengths() {
			r := newRand(uint64(n))
			for _, rows := range []int{0, 1, 3, 8} {
				stride := n + 3
				x, y, alpha := newGuarded(max(0, (rows-1)*stride+n), n%5), newGuarded(n, n%3), make([]float32, rows)
				random(r, x.x)
				random(r, y.x)
				random(r, alpha)
				want := slices.Clone(y.x)
				for k, a := range alpha {
					axpyGeneric(a, x.x[k*stride:k*stride+n], want)
				}
				Axpys(alpha, x.x, stride, y.x)
				y.check(t, "Axpys")
				if err := sameBits(y.x, want); err != nil {
					t.Fatalf("Axpys of %d rows of %d: %v", rows, n, err)
				}
			}
			v := newGuarded(n, n%7)
			for i := range v.x {
				v.x[i] = r.Float32() * float32([]int{1, 1000, 1 << 20}[i%3])
			}
			want := slices.Clone(v.x)
			logScaledGeneric(want, 1.7, 0.3)
			LogScaled(v.x, 1.7, 0.3)
			v.check(t, "LogScaled")
			if err := sameBits(v.x, want); err != nil {
				t.Fatalf("LogScaled of %d: %v", n, err)
			}
		}
	})
}

func TestSearches(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		for _, n := range oddLengths() {
			r := newRand(uint64(n))
			ids, room := make([]int32, n+16), newGuarded(n, n%5)
			for i := range ids {
				ids[i] = int32(r.IntN(2 * max(1, n))) // some twice, and 0, which a tail's other lanes hold, in half of the lists
			}
			for x := int32(-1); int(x) <= 2*n; x++ {
				if got, want := Index(ids[:n], x), slices.Index(ids[:n], x); got != want {
					t.Fatalf("Index of %d in %v is %d, want %d", x, ids[:n], got, want)
				}
			}
			if n == 0 {
				continue
			}
			for range 20 {
				for i := range room.x {
					room.x[i] = float32(1+r.IntN(n)) * 0.5
				}
				if got, want := MinIndex(room.x), minIndexGeneric(room.x); got != want {
					t.Fatalf("MinIndex of %v is %d, want %d", room.x, got, want)
				}
			}
		}
	})
}
