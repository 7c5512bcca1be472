//go:build app

package apptest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestWhatIsTooOldIsNotListed, with curl, by the log's clock: items of which nothing was heard are in no list, and what a user did long
// ago keeps nothing out of one and is not among the user's events.
func TestWhatIsTooOldIsNotListed(t *testing.T) {
	t.Parallel()
	h := newHome(t, "", noLLM+"filters: {item_ttl: 2m}\npipeline: {history_ttl: 2m}\n")
	up := start(t, "up", "-c", h.config)
	url := strings.TrimSuffix(up.url(t), "/")
	_, items := csvLog(t, 1, 1, 40)
	ok(t, "produce", items, "-c", h.config)
	ready(t, url)
	ids := func(answer string) (out []string) {
		var list struct {
			Items []struct {
				ItemID string `json:"item_id"`
			} `json:"items"`
		}
		if err := json.Unmarshal([]byte(answer), &list); err != nil {
			t.Fatalf("%v: %s", err, answer)
		}
		for _, it := range list.Items {
			out = append(out, it.ItemID)
		}
		return out
	}
	like := func(user, item string, at time.Time) string {
		return fmt.Sprintf(`{"user_id":%q,"item_id":%q,"type":"like","timestamp":%q}`, user, item, at.UTC().Format(time.RFC3339))
	}
	now := time.Now()
	curl(t, "-d", "["+like("a", "i1", now)+","+like("d", "i2", now)+"]", url+"/v1/events?wait=learnt")
	before := ids(curl(t, "-d", `{"user_id":"d","n":10}`, url+"/v1/recommend"))
	if len(before) != 10 || strings.Contains(fmt.Sprint(before), "i2 ") {
		t.Errorf("before anything is old: %v", before)
	}
	later := now.Add(4 * time.Minute) // the log's clock goes on by four minutes
	curl(t, "-d", "["+like("b", "i2", later)+","+like("c", "i3", later)+"]", url+"/v1/events?wait=learnt")
	for _, ask := range []string{"/v1/popular?n=10", "/v1/latest?n=10"} {
		if got := ids(curl(t, url+ask)); len(got) != 2 || strings.Contains(fmt.Sprint(got), "i1") {
			t.Errorf("%s: %v, want i2 and i3 alone", ask, got)
		}
	}
	if got := ids(curl(t, "-d", `{"user_id":"d","n":10}`, url+"/v1/recommend")); len(got) != 2 || !strings.Contains(fmt.Sprint(got), "i2") {
		t.Errorf("what d took long ago: %v, want i2 and i3", got)
	}
	if got := ids(curl(t, "-d", `{"user_id":"b","n":10}`, url+"/v1/recommend")); fmt.Sprint(got) != "[i3]" {
		t.Errorf("what b took just now: %v, want i3", got)
	}
	for user, total := range map[string]int{"d": 0, "b": 1} {
		if got := curl(t, url+"/v1/users/"+user+"/events"); !strings.Contains(got, fmt.Sprintf(`"total":%d`, total)) {
			t.Errorf("events of %s: %s", user, got)
		}
	}
	curl(t, "-X", "PATCH", "-d", `{"fields":{"colour":"red"}}`, url+"/v1/items/i3?wait=learnt") // i3 is told of, and was fresh anyway
	if got := ids(curl(t, url+"/v1/popular?n=10")); len(got) != 2 {
		t.Errorf("after a change: %v", got)
	}
}
