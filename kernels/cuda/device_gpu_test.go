//go:build gpu

package cuda

import (
	"context"
	"os"
	"testing"
)

// open gives a device: a real one, or the emulated driver that CORASTREAM_LIBCUDA names (`make test-cuda` builds it).
func open(t testing.TB) *Device {
	t.Helper()
	d, err := Open()
	if err != nil {
		if os.Getenv("CORASTREAM_LIBCUDA") == "" {
			t.Skipf("no device and no emulated driver (`make test-cuda` has one): %v", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestDeviceAgreesWithGeneric(t *testing.T) {
	d := open(t)
	atGeneric(t)
	Check(context.Background(), d, func(name string, off, bound float64, err error) {
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if off > bound {
			t.Errorf("%s: off by %.3g of the reference, allowed %.3g", name, off, bound)
		} else {
			t.Logf("%s: off by %.3g, allowed %.3g", name, off, bound)
		}
	})
}
