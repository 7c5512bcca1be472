//go:build app

package apptest

import (
	"strings"
	"testing"
)

// TestValidateSaysWhatWasSeenAndWhatToSet: CSV, JSON lines of a foreign make, and a topic; exit code and JSON summary.
func TestValidateSaysWhatWasSeenAndWhatToSet(t *testing.T) {
	events := write(t, "clicks.csv", csvHeader+"u,a,1,1700000000\nv,b,0,1700000001\n")
	items := write(t, "items.csv", "item_id,title\na,A Harbour (1990)\nb,B (1991)\n")
	if r := ok(t, "validate", events, items); r.last(t)["ok"] != true || !strings.Contains(r.stderr, "2 events of 2 users") {
		t.Errorf("good files: %s %s", r.stdout, r.stderr)
	}
	foreign := write(t, "foreign.jsonl", `{"customer":{"id":"u"},"sku":"a","action":"view"}`+"\n"+`{"customer":{"id":"v"},"sku":"b","action":"purchase"}`+"\n")
	r := call(t, "validate", foreign)
	if r.code != 1 || lacks(r.stderr, "no_user", "user_id: customer.id, item_id: sku, type: action", "2 times", "foreign.jsonl:1") != nil {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	// What it says to set is set, one thing after another, until nothing is wrong.
	fields := "kafka:\n  fields: {events: {user_id: customer.id, item_id: sku, type: action}}\n"
	r = call(t, "validate", foreign, "-c", write(t, "map.yaml", fields))
	if r.code != 1 || lacks(r.stderr, "kind view", "{view: {label: 1, weight: 1, implicit: true}}") != nil {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	r = ok(t, "validate", foreign, "-c", write(t, "kinds.yaml", fields+"  kinds: {click: {label: 1, weight: 1, implicit: true}, view: {label: 0, weight: 1}, purchase: {label: 1, weight: 2, implicit: true}}\n"))
	if s := r.last(t)["sources"].([]any)[0].(map[string]any); s["positive"] != 1. || s["negative"] != 1. {
		t.Errorf("%v", s)
	}
	warned := write(t, "warned.csv", csvHeader+"u,a,1,1700000000\nu,b,0,1700000001\n")
	ok(t, "validate", warned)
	if r := call(t, "validate", warned, "--strict"); r.code != 1 {
		t.Errorf("--strict: exit %d", r.code)
	}
	if r := call(t, "validate", write(t, "x.csv", "a,b\n1,2\n")); r.code != 2 || !strings.Contains(r.stderr, "kafka.fields") {
		t.Errorf("a file without our columns: exit %d, %s", r.code, r.stderr)
	}
	if r := call(t, "validate"); r.code != 2 {
		t.Errorf("nothing named: exit %d", r.code)
	}
}

// TestValidateReadsATopicAndLeavesItAlone: the foreign events that `produce` put there as they are.
func TestValidateReadsATopicAndLeavesItAlone(t *testing.T) {
	data := t.TempDir()
	file := write(t, "e.jsonl", `{"user_id":"u","item_id":"a"}`+"\n"+`{"item_id":"a"}`+"\n"+`{"event":"interaction","user":"v","item":"b","type":"like","id":"1","timestamp":"1700000000000"}`+"\n")
	if r := call(t, "produce", file, "--data", data); r.code != 1 || lacks(r.stderr, "1 records can only become dead letters", "e.jsonl:2", "--skip-bad") != nil {
		t.Errorf("produce: exit %d: %s", r.code, r.stderr)
	}
	r := call(t, "validate", "--topic", "corastream.interactions", "--from", "last=1h", "--data", data)
	s := r.last(t)["sources"].([]any)[0].(map[string]any)
	if r.code != 1 || s["events"] != 2. || s["bad"] != 1. || lacks(r.stderr, "corastream.interactions/", "no_user") != nil {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	if r := call(t, "validate", "--topic", "corastream.interactions", "--from", "noon", "--data", data); r.code != 2 || !strings.Contains(r.stderr, "--from") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
}
