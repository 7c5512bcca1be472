package main

import (
	"fmt"
	"strings"
	"testing"
)

// TestNothingIsSilent: a file in which every record is one that a reader might take for a like or drop without a word. Validate counts
// each, names it with its line, and no event comes of any but the one good record; produce says how many can only become dead letters.
func TestNothingIsSilent(t *testing.T) {
	lines := []string{`{"user_id":"u","item_id":"good","type":"like",` + aTime + `}`}
	var names []string
	for _, c := range meanings {
		if c.refuse != "" {
			lines, names = append(lines, whole(c.fields)), append(names, c.refuse)
		}
	}
	lines = append(lines, `{"user_id":"v","item_id":"good","type":"dislike","colour":"red",`+aTime+`}`)
	file := write(t, "silent.jsonl", strings.Join(lines, "\n")+"\n")
	r := call(t, "validate", file)
	s := r.last(t)["sources"].([]any)[0].(map[string]any)
	if r.code != 1 || s["bad"] != float64(len(names)) || s["events"] != 2. || s["positive"] != 1. {
		t.Errorf("exit %d, %v bad of %d, %v events\n%s", r.code, s["bad"], len(names), s["events"], r.stderr)
	}
	if missing := lacks(r.stderr, "nothing reads", "colour", "(1 times)"); missing != nil {
		t.Errorf("not said: %q\n%s", missing, r.stderr)
	}
	// Findings gather by reason, so that each name is looked for in a file of its own.
	for i, name := range names {
		one := write(t, fmt.Sprintf("%d.jsonl", i), lines[0]+"\n"+lines[i+1]+"\n")
		if r := call(t, "validate", one); r.code != 1 || !strings.Contains(r.stderr, name) || !strings.Contains(r.stderr, fmt.Sprintf("%d.jsonl:2", i)) {
			t.Errorf("%s: exit %d, %q is not named:\n%s", lines[i+1], r.code, name, r.stderr)
		}
	}
	r = call(t, "produce", file, "--data", t.TempDir())
	if r.code != 1 || !strings.Contains(r.stderr, fmt.Sprintf("%d records can only become dead letters", len(names))) {
		t.Errorf("produce: exit %d\n%s", r.code, r.stderr)
	}
	r = ok(t, "produce", file, "--skip-bad", "--data", t.TempDir())
	if sum := r.last(t); sum["produced"] != 2. || sum["bad"] != float64(len(names)) {
		t.Errorf("produce --skip-bad: %v", sum)
	}
}

// TestALogOfNothingButIdsIsSaidToBeOne: where no record says what happened, validate says once how each is read.
func TestALogOfNothingButIdsIsSaidToBeOne(t *testing.T) {
	for _, file := range []string{
		write(t, "log.csv", "user_id,item_id,timestamp\nu,a,1700000000\nv,b,1700000001\n"),
		write(t, "log.jsonl", `{"user_id":"u","item_id":"a","timestamp":1700000000}`+"\n"+`{"user_id":"v","item_id":"b","timestamp":1700000001}`+"\n"),
	} {
		r := ok(t, "validate", file)
		if strings.Count(r.stderr, "log of implicit positives, each a click") != 1 {
			t.Errorf("%s: %s", file, r.stderr)
		}
	}
}
