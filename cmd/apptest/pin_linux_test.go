//go:build app

package apptest

import (
	"os/exec"
	"strconv"
	"testing"
)

// pin keeps a process on one core.
func pin(t *testing.T, pid, core int) {
	t.Helper()
	if out, err := exec.Command("taskset", "-a", "-cp", strconv.Itoa(core), strconv.Itoa(pid)).CombinedOutput(); err != nil {
		t.Skipf("taskset: %v %s", err, out)
	}
}
