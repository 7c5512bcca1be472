//go:build app

package apptest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestListsAreVariedAndShowTrends, with curl: a cap for each value of a field, a list with a diversity of its own, what is taken now
// against what was always taken, an item that was shown in vain, and pages
// without a repeat.
func TestListsAreVariedAndShowTrends(t *testing.T) {
	t.Parallel()
	h := newHome(t, "", noLLM+"recommend:\n  cap: {brand: 2}\n  lists:\n    mail: {sources: [personal], items: 6, diversity: 0.9, cap: {brand: 6}}\n    cart: {sources: [similar, popular], items: 5}\n    feed: {sources: [personal], items: 1, shown_decay: 0.2}\n")
	up := start(t, "up", "-c", h.config)
	url := strings.TrimSuffix(up.url(t), "/")
	ready(t, url)
	var items, events []string
	for i := range 20 {
		items = append(items, fmt.Sprintf(`{"item_id":"v%d","title":"Thing number %d","brand":"B%d"}`, i, i, i/5))
	}
	now := time.Now().UTC()
	like := func(user, item string, ago time.Duration) {
		events = append(events, fmt.Sprintf(`{"user_id":%q,"item_id":%q,"type":"like","timestamp":%q}`, user, item, now.Add(-ago).Format(time.RFC3339)))
	}
	for u := range 12 { // v0 to v4, of one brand, were always taken; v19 is taken now
		for i := range 5 {
			like(fmt.Sprint("old", u), fmt.Sprint("v", i), 40*24*time.Hour-time.Duration(60*u+i)*time.Minute)
		}
	}
	for i := range 20 {
		like("all", fmt.Sprint("v", i), 30*24*time.Hour)
	}
	for u := range 8 {
		like(fmt.Sprint("late", u), "v19", time.Duration(10-u)*time.Minute)
	}
	curl(t, "-d", "["+strings.Join(items, ",")+"]", url+"/v1/items?wait=learnt")
	curl(t, "-d", "["+strings.Join(events, ",")+"]", url+"/v1/events?wait=learnt")
	type answer struct {
		Items []struct {
			ItemID string `json:"item_id"`
		} `json:"items"`
		Cursor string `json:"cursor"`
	}
	ask := func(args ...string) (ids []string, brands map[int]int, cursor string) {
		t.Helper()
		var a answer
		text := curl(t, args...)
		if err := json.Unmarshal([]byte(text), &a); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		brands = map[int]int{}
		for _, it := range a.Items {
			var n int
			fmt.Sscanf(it.ItemID, "v%d", &n)
			ids, cursor = append(ids, it.ItemID), a.Cursor
			brands[n/5]++
		}
		return ids, brands, cursor
	}
	ids, brands, _ := ask("-d", `{"user_id":"new","n":8}`, url+"/v1/recommend")
	if len(ids) != 8 || brands[0] != 2 || brands[1] != 2 || brands[2] != 2 || brands[3] != 2 {
		t.Errorf("home: %v of brands %v, want two of each", ids, brands)
	}
	if ids, brands, _ = ask("-d", `{"user_id":"new","list":"mail"}`, url+"/v1/recommend"); len(ids) != 6 || max(brands[0], brands[1], brands[2], brands[3]) < 3 {
		t.Errorf("mail, which has a cap of its own: %v of brands %v", ids, brands)
	}
	if ids, _, _ = ask("-d", `{"history":["v1"],"list":"cart"}`, url+"/v1/recommend"); len(ids) != 5 || strings.Contains(fmt.Sprint(ids), "v1 ") {
		t.Errorf("cart: %v", ids)
	}
	first, _, _ := ask("-d", `{"user_id":"w","list":"feed"}`, url+"/v1/recommend")
	eventually(t, "an item that was shown in vain gives way", func() bool {
		now, _, _ := ask("-d", `{"user_id":"w","list":"feed","write_back":true}`, url+"/v1/recommend")
		return now[0] != first[0]
	})
	popular, _, _ := ask(url + "/v1/popular?n=5")
	if trending, _, _ := ask(url + "/v1/trending?n=1"); fmt.Sprint(trending) != "[v19]" || popular[0] == "v19" {
		t.Errorf("popular %v, trending %v", popular, trending)
	}
	if only, brands, _ := ask(url + "/v1/popular?n=9&allow=brand:B3"); len(only) != 5 || brands[3] != 5 {
		t.Errorf("popular of a brand: %v", only)
	}
	seen := map[string]bool{}
	page, _, cursor := ask("-d", `{"user_id":"new","n":3,"cursor":"new"}`, url+"/v1/recommend")
	for n := 0; n < 3 && cursor != ""; n++ {
		for _, id := range page {
			if seen[id] {
				t.Errorf("page %d repeats %s", n, id)
			}
			seen[id] = true
		}
		page, _, cursor = ask("-d", `{"user_id":"new","n":3,"cursor":"`+cursor+`"}`, url+"/v1/recommend")
	}
	if len(seen) < 6 {
		t.Errorf("the pages hold %d items", len(seen))
	}
}
