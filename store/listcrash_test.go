package store

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestKillAtEveryPlaceOfTheListModel: between the commit and what the list model learns of it, between two transactions
// of one batch, and while a table file is written. Opened again, the list model is that of a re-run.
func TestKillAtEveryPlaceOfTheListModel(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a binary")
	}
	binary := filepath.Join(t.TempDir(), "store.test")
	build := exec.Command("go", "test", "-c", "-tags", "failpoint", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	dir := t.TempDir()
	for _, at := range []string{
		"store.commit@3=kill", "store.committed@1=kill", "store.committed@4=error", "store.committed@9=kill", "store.installed@5=kill",
		"table.write@1=kill", "table.write@3=kill", "table.written@1=kill", "table.written@3=kill", "table.kept@1=kill", "table.kept@2=kill",
	} {
		cmd := exec.Command(binary, "-test.run=^$")
		cmd.Env = append(os.Environ(), childDir+"="+dir, "CORASTREAM_FAILPOINT="+at)
		out, err := cmd.CombinedOutput()
		if name, _, _ := strings.Cut(at, "@"); err == nil || !strings.Contains(string(out), "failpoint "+name) {
			t.Fatalf("%s: %v\n%s", at, err, out)
		}
		s := mustOpen(t, dir, crashConfig(), withPairs(500))
		noProblems(t, s)
		again := rerun(t, s)
		if listOf(again).saved(t) != listOf(s).saved(t) || digest(t, again) != digest(t, s) {
			t.Fatalf("%s: after %d transactions another state than a re-run's", at, s.snap.seq)
		}
		t.Logf("%s: %d transactions, table files %v, %d steps applied again", at, s.snap.seq, tableFiles(t, s), s.derived.events)
		s.failed = fmt.Errorf("leave the folder as the kill left it")
		s.Close()
	}
}
