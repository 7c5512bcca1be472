//go:build app

package apptest

import (
	"fmt"
	"sync"
	"testing"
)

// TestChangesOfOneItemAtOnceAllHold: thirty clients change a field each of the same item.
func TestChangesOfOneItemAtOnceAllHold(t *testing.T) {
	t.Parallel()
	h := newHome(t, "", noLLM)
	url := h.up(t).url(t)
	ok(t, "produce", write(t, "items.csv", "item_id,title\nlamp,A lamp\n"), "-c", h.config)
	eventually(t, "the item", func() bool { code, _ := fetchJSON(t, "GET", url+"/v1/items/lamp", ""); return code == 200 })
	const clients = 30
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			if code, out := fetchJSON(t, "PATCH", url+"/v1/items/lamp?wait=learnt", fmt.Sprintf(`{"fields":{"f%d":"%d"}}`, i, i)); code != 200 {
				t.Errorf("%d %v", code, out)
			}
		})
	}
	wg.Wait()
	_, item := fetchJSON(t, "GET", url+"/v1/items/lamp", "")
	if fields, _ := item["fields"].(map[string]any); len(fields) != clients || item["title"] != "A lamp" {
		t.Errorf("%v", item)
	}
}
