//go:build app

package apptest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheExamplesOfEveryEcosystemRun: docs/examples against a running `up`, one after the other.
func TestTheExamplesOfEveryEcosystemRun(t *testing.T) {
	t.Parallel()
	h := newHome(t, "", noLLM)
	up := h.up(t)
	url := strings.TrimSuffix(up.url(t), "/")
	dir, err := filepath.Abs("../../docs/examples")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "readiness", func() bool { code, _ := fetchJSON(t, "GET", url+"/readyz", ""); return code == 200 })
	for _, c := range []struct {
		program, file string
		more, says    []string
	}{
		{"bash", "curl/shop.sh", nil, []string{`"item_id":"shop-cup"`, `"item_id":"shop-pot"`, `"learnt":true`, `"written_back":true`, `"item_id":"shop-mat"`}},
		{"python3", "python/shop.py", nil, []string{"with the tent in the cart: ['Sleeping bag'", "after login: [", "because of", "events left: 0"}},
		{"node", "node/shop.mjs", nil, []string{"page 1:", "goes with the lamp: Bulb"}},
		{"python3", "python/freshness.py", []string{"5"}, []string{`"clicks": 5`, `"lists_unchanged": 0`}},
	} {
		t.Run(c.file, func(t *testing.T) {
			program, err := exec.LookPath(c.program)
			if err != nil {
				t.Skip(err)
			}
			out, err := exec.CommandContext(t.Context(), program, append([]string{filepath.Join(dir, c.file), url}, c.more...)...).CombinedOutput()
			if missing := lacks(string(out), c.says...); err != nil || missing != nil {
				t.Errorf("%v: lacks %q\n%s", err, missing, out)
			}
		})
	}
	before := counter(url, "corastream_events_total")
	ok(t, "produce", filepath.Join(dir, "debezium/items.jsonl"), "--topic", "items", "-c", h.config)
	ok(t, "produce", filepath.Join(dir, "debezium/orders.jsonl"), "-c", h.config)
	ok(t, "produce", filepath.Join(dir, "kafka-connect/clicks.jsonl"), "-c", h.config)
	eventually(t, "records of Debezium and Connect", func() bool { return counter(url, "corastream_events_total") == before+5 })
	if n := counter(url, "corastream_dead_letters_total"); n > 0 {
		t.Errorf("%v dead letters", n)
	}
	_, orders := fetchJSON(t, "GET", url+"/v1/users/debezium-1/events", "")
	if list, _ := orders["events"].([]any); len(list) != 1 || list[0].(map[string]any)["title"] != "Blue mug" {
		t.Errorf("a deleted order: %v", orders)
	}
	readme, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"curl", "python", "node", "page", "kafka-connect", "debezium"} {
		if !strings.Contains(string(readme), "["+folder+"]") {
			t.Errorf("docs/examples/README.md does not name %s", folder)
		}
	}
}
