//go:build gpu

package cuda

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// checkedDriver builds the emulated driver with every access of a kernel checked (host/shim.h says how).
func checkedDriver(t *testing.T) string {
	t.Helper()
	sources, err := filepath.Glob("src/*.cu")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	to := filepath.Join(dir, "libcuda-checked.so")
	link := []string{"-shared", "-Wl,--no-undefined", "-o", to}
	for _, s := range append(sources, "testdata/wrong.cu", "host/shim.cpp", "host/libcuda.cpp") {
		object := filepath.Join(dir, filepath.Base(s)+".o")
		link = append(link, object)
		args := []string{"-std=c++17", "-O1", "-fPIC", "-Wall", "-Werror", "-DCORASTREAM_HOST", "-x", "c++", "-c", s, "-o", object}
		if strings.HasSuffix(s, ".cu") {
			args = append(args, "-fsanitize=thread,alignment")
		}
		if out, err := exec.Command("g++", args...).CombinedOutput(); err != nil {
			t.Fatalf("g++ %s: %v\n%s", s, err, out)
		}
	}
	if out, err := exec.Command("g++", link...).CombinedOutput(); err != nil {
		t.Fatalf("g++: %v\n%s", err, out)
	}
	return to
}

// No kernel of the table has threads that race, reads beside its buffers, or addresses that a device could not take: on the emulated
// driver's checked build, with threads in a drawn order. Wrong kernels show that it finds such things.
func TestKernelsHaveNoRaces(t *testing.T) {
	emulated(t)
	if testing.Short() {
		t.Skip("compiles every kernel")
	}
	if os.Getenv("CORASTREAM_CHECKED") != "" || strings.HasPrefix(os.Getenv("CORASTREAM_SHIM_ORDER"), "re") {
		t.Skip("once is enough")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^(TestDeviceAgreesWithGeneric|TestWrongKernelsAreFound)$", "-test.v")
	cmd.Env = append(os.Environ(), "CORASTREAM_CHECKED=1", "CORASTREAM_LIBCUDA="+checkedDriver(t), "CORASTREAM_SHIM_ORDER=random:1")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "\n--- PASS") != 2 {
		t.Errorf("%v\n%s", err, out)
	}
}

// It runs in TestKernelsHaveNoRaces alone.
func TestWrongKernelsAreFound(t *testing.T) {
	if os.Getenv("CORASTREAM_CHECKED") == "" {
		t.Skip("needs the checked build")
	}
	for name, blocks := range map[string]int{"right": 1, "wrong_barrier": 1, "wrong_reuse": 1, "wrong_lanes": 1, "wrong_copy": 1, "wrong_blocks": 2, "wrong_bounds": 1, "wrong_address": 1} {
		err := open(t).Do(t.Context(), func(q *Queue) error {
			if err := q.d.drv.load(".version 7.0\n.target sm_80\n.visible .entry " + name + "(\n.param .u64 v\n)\n{\n}\n"); err != nil {
				return err
			}
			b, err := q.Alloc(512)
			if err != nil {
				return err
			}
			return errors.Join(q.Zero(b, 0, 512), q.Launch(name, [3]int{blocks, 1, 1}, block128, 512, b))
		})
		if wrong := name != "right"; wrong != (err != nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
