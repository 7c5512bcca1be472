//go:build app

package apptest

import (
	"fmt"
	"testing"
)

// TestAReplicaReadsTheCatalogueForItsLists: in a cluster the process that answers has the LLM read the items for its own list model,
// which trains weights on the events of all shards. After a kill the replica has every code again.
func TestAReplicaReadsTheCatalogueForItsLists(t *testing.T) {
	g := newGang(t, ownBroker(t), 2, tinyConfig(tinyLLM(t, 1), ""))
	g.add(learns)
	replica := g.add(answers)
	w := newWorkload(1, 80, 60)
	g.produce(t, "items", itemLines(0, w.items)...)
	part := func() (coded, verdicts int, version float64) {
		_, st := fetchJSON(t, "GET", replica.proc.url(t)+"/v1/status", "")
		part, _ := st["llm"].(map[string]any)
		if part == nil {
			return 0, 0, 0
		}
		list, _ := part["verdicts"].([]any)
		version, _ = part["version"].(float64)
		return int(part["coded_items"].(float64)), len(list), version
	}
	eventually(t, "the replica to have read the catalogue for lists", func() bool {
		coded, _, _ := part()
		return coded == 60
	})
	for n := 0; ; n++ {
		g.produce(t, "interactions", w.lines(3000)...)
		g.rest()
		if _, verdicts, version := part(); verdicts > 0 || version > 0 {
			break
		}
		if n == 4 {
			t.Fatal("the replica came to no verdict on weights of its own")
		}
	}
	replica.proc.kill()
	g.start(replica)
	eventually(t, "the replica to have all codes again", func() bool {
		coded, _, _ := part()
		return coded == 60
	})
	if code, list := fetchJSON(t, "POST", replica.proc.url(t)+"/v1/recommend", fmt.Sprintf(`{"user_id":%q,"n":5}`, "u3")); code != 200 {
		t.Errorf("%d: %v", code, list)
	}
}
