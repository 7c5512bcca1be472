//go:build gpu

// Package cudatest gives tests of other folders a device, or the emulated driver that CORASTREAM_LIBCUDA names (`make test-cuda`
// builds it).
package cudatest

import (
	"os"
	"testing"

	"github.com/corastream/corastream/kernels/cuda"
)

// Open gives a device and closes it with the test; without one, and without the emulated driver, the test is skipped.
func Open(t testing.TB) *cuda.Device {
	t.Helper()
	d, err := cuda.Open()
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

// Emulated skips what injects faults unless the driver is the emulated one.
func Emulated(t testing.TB) {
	t.Helper()
	if os.Getenv("CORASTREAM_LIBCUDA") == "" {
		t.Skip("faults are injected by the emulated driver alone (`make test-cuda`)")
	}
}
