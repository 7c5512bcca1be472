//go:build app

package apptest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestAnItemsOwnVectorBringsItUp, with curl: of two items that nobody has taken, the one whose vector is like those of what a visitor
// took is listed above the other.
func TestAnItemsOwnVectorBringsItUp(t *testing.T) {
	t.Parallel()
	h := newHome(t, "", noLLM)
	up := start(t, "up", "-c", h.config)
	url := strings.TrimSuffix(up.url(t), "/")
	ready(t, url)
	var items, events []string
	for i := range 24 { // twelve of each kind, with a little of their own
		kind := fmt.Sprintf("1,0.%d,0.1", i)
		if i%2 == 1 {
			kind = fmt.Sprintf("0.1,0.%d,-1", i)
		}
		items = append(items, fmt.Sprintf(`{"item_id":"e%02d","title":"number%d","embedding":[%s]}`, i, i, kind))
	}
	for u := range 30 {
		for i := range 4 { // e22 and e23 are taken by nobody
			events = append(events, fmt.Sprintf(`{"user_id":"u%d","item_id":"e%02d","type":"like"}`, u, (u%2+2*((u+i)%11))%22))
		}
	}
	curl(t, "-d", "["+strings.Join(items, ",")+"]", url+"/v1/items?wait=learnt")
	curl(t, "-d", "["+strings.Join(events, ",")+"]", url+"/v1/events?wait=learnt")
	for _, c := range []struct{ history, like, unlike string }{{`["e00","e02","e04"]`, "e22", "e23"}, {`["e01","e03","e05"]`, "e23", "e22"}} {
		text := curl(t, "-d", `{"history":`+c.history+`,"n":20}`, url+"/v1/recommend")
		var a struct {
			Items []struct {
				ItemID string `json:"item_id"`
			} `json:"items"`
		}
		if err := json.Unmarshal([]byte(text), &a); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		at := map[string]int{}
		for i, it := range a.Items {
			at[it.ItemID] = i + 1
		}
		if at[c.like] == 0 || at[c.unlike] > 0 && at[c.unlike] < at[c.like] {
			t.Errorf("after %s: %s at %d, %s at %d: %s", c.history, c.like, at[c.like], c.unlike, at[c.unlike], text)
		}
	}
}
