//go:build app

package apptest

import (
	"fmt"
	"strings"
	"testing"
)

// TestWhoAsksAReplicaMayWaitUntilAnEventCounts: another process learns it, and the replica's answer comes when its own state has it.
func TestWhoAsksAReplicaMayWaitUntilAnEventCounts(t *testing.T) {
	g := newGang(t, ownBroker(t), testShards, noLLM)
	l, replica := g.add(learns), g.add(answers)
	l.proc.url(t)
	url := replica.proc.url(t)
	g.produce(t, "items", itemLines(0, 30)...)
	g.produce(t, "interactions", newWorkload(1, 20, 30).lines(200)...)
	g.rest()
	for i := range 20 {
		user := fmt.Sprint("visitor", i)
		code, out := fetchJSON(t, "POST", url+"/v1/events?wait=learnt", fmt.Sprintf(`{"user_id":%q,"item_id":"i%d","type":"click"}`, user, i))
		if code != 200 || out["learnt"] != true {
			t.Fatalf("%d %v", code, out)
		}
		t.Log(out["learnt_ms"])
		if code, events := fetchJSON(t, "GET", url+"/v1/users/"+user+"/events", ""); code != 200 || events["total"] != 1. {
			t.Fatalf("it was said to be learnt: %d %v", code, events)
		}
		if code, out := fetchJSON(t, "PATCH", fmt.Sprintf("%s/v1/items/i%d?wait=learnt", url, i), `{"fields":{"colour":"red"}}`); code != 200 || out["learnt"] != true {
			t.Fatalf("%d %v", code, out)
		}
		if _, item := fetchJSON(t, "GET", fmt.Sprintf("%s/v1/items/i%d", url, i), ""); !strings.Contains(fmt.Sprint(item["fields"]), "red") {
			t.Fatalf("it was said to be learnt: %v", item)
		}
	}
}
