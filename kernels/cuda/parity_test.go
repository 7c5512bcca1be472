package cuda

import (
	"testing"

	"github.com/corastream/corastream/kernels"
)

// atGeneric has package kernels compute in plain Go until the test ends.
func atGeneric(t *testing.T) {
	before := kernels.Level()
	if err := kernels.SetLevel("generic"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kernels.SetLevel(before) })
}

// TestAssemblyAgreesWithGeneric runs the table that the device is held to on the CPU's own levels.
func TestAssemblyAgreesWithGeneric(t *testing.T) {
	atGeneric(t)
	for _, c := range Cases() {
		if err := kernels.SetLevel("generic"); err != nil {
			t.Fatal(err)
		}
		reference := c.CPU()
		if len(reference) == 0 || Compare(reference, make([]float32, len(reference))) < c.Bound {
			t.Errorf("%s: a result of zeros would pass", c.Name)
		}
		for _, level := range kernels.Levels() {
			if err := kernels.SetLevel(level); err != nil {
				t.Fatal(err)
			}
			if off := Compare(reference, c.CPU()); off > c.Bound {
				t.Errorf("%s: %s is off by %.3g of generic, allowed %.3g", c.Name, level, off, c.Bound)
			}
		}
	}
}
