package serve

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

func TestTheCatalogueIsSearchedByPages(t *testing.T) {
	f := shop(t)
	it, _ := f.store.m.Item("i4")
	it.Withdrawn = true
	var a, b ItemsResponse
	f.ok("GET", "/v1/items?n=4", "", &a)
	f.ok("GET", "/v1/items?n=4&cursor="+a.Cursor, "", &b)
	if len(a.Items) != 4 || len(b.Items) != 2 || b.Cursor != "" || a.Items[3].Status != "withdrawn" || a.Items[0].Title != "Alien" || a.Items[0].Fields["brand"] != "a" {
		t.Errorf("%+v %+v", a, b)
	}
	for q, want := range map[string]string{"CASA": "i3", "i5": "i5", "nothing": ""} {
		var out ItemsResponse
		f.ok("GET", "/v1/items?q="+q, "", &out)
		got := ""
		for _, it := range out.Items {
			got += it.ItemID
		}
		if got != want {
			t.Errorf("%s: %q, want %q", q, got, want)
		}
	}
	for path, field := range map[string]string{"/v1/items?cursor=x": "cursor", "/v1/items?n=0": "n", "/v1/items?page=2": "page", "/v1/items?q=" + strings.Repeat("x", 300): "q"} {
		if status, fail := f.failure("GET", path, ""); status != 400 || fail.Field != field {
			t.Errorf("%s: %d %+v", path, status, fail)
		}
	}
}

func TestUsersAreListedByPages(t *testing.T) {
	all := []string{"anna", "anton", "bob"}
	f := shop(t, func(_ *Config, d *Deps) {
		d.Users = func(prefix, after string, n int) (out []corastream.UserState, err error) {
			for _, id := range all {
				if id > after && strings.HasPrefix(id, prefix) && len(out) < n {
					out = append(out, corastream.UserState{ID: id})
				}
			}
			return out, nil
		}
	})
	var a, b, c UsersResponse
	f.ok("GET", "/v1/users?n=1&q=an", "", &a)
	f.ok("GET", "/v1/users?n=1&q=an&cursor="+a.Cursor, "", &b)
	f.ok("GET", "/v1/users", "", &c)
	if a.Users[0].UserID != "anna" || b.Users[0].UserID != "anton" || b.Cursor != "" || len(c.Users) != 3 {
		t.Errorf("%+v %+v %+v", a, b, c)
	}
}

// TestAnItemIsHiddenByItsWholeRecord: a compacted topic keeps the last record alone, so it has the title too.
func TestAnItemIsHiddenByItsWholeRecord(t *testing.T) {
	f := shop(t)
	for _, c := range []struct{ method, path, body, want string }{
		{"PATCH", "/v1/items/i1", `{"withdrawn":true}`, `{"corastream_changed":["withdrawn"],"fields":{"brand":"a"},"item_id":"i1","title":"Alien","withdrawn":true}`},
		{"PATCH", "/v1/items/i1", `{"title":"Aliens","fields":{"year":"1986","brand":""}}`, `{"corastream_changed":["title","fields.brand","fields.year"],"fields":{"brand":null,"year":"1986"},"item_id":"i1","title":"Aliens","withdrawn":false}`},
		{"DELETE", "/v1/items/i1", "", `{"__deleted":true,"item_id":"i1"}`},
		{"POST", "/v1/items", `[{"item_id":"n","title":"New"}]`, `{"item_id":"n","title":"New"}`},
	} {
		if w := f.call(c.method, c.path, c.body, nil); w.Code != http.StatusAccepted {
			t.Errorf("%s %s: %d %s", c.method, c.path, w.Code, w.Body)
		}
		if got := f.shelved.events[len(f.shelved.events)-1]; got != c.want {
			t.Errorf("%s %s: %s, want %s", c.method, c.body, got, c.want)
		}
	}
	if n := len(f.shelved.events); n != 4 || len(f.sent.events) > 0 {
		t.Errorf("%d records, and %d events", n, len(f.sent.events))
	}
	if status, _ := f.failure("PATCH", "/v1/items/nothing", `{"withdrawn":true}`); status != 404 {
		t.Error(status)
	}
	if status, fail := f.failure("PATCH", "/v1/items/i1", `{"hidden":true}`); status != 400 || !slices.Contains([]string{"hidden", "body"}, fail.Field) {
		t.Errorf("%d %+v", status, fail)
	}
}

// TestAChangeWaitsForTheOneBeforeIt: two changes of different fields at once both hold, though each writes the whole record.
func TestAChangeWaitsForTheOneBeforeIt(t *testing.T) {
	learn := make(chan struct{}, 2)
	f := shop(t, func(c *Config, d *Deps) {
		c.LearntWaitMS = 5000
		d.Learnt = func(ctx context.Context, _ []corastream.Position) error {
			select {
			case <-learn:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	patch := func(body string) int { return f.call("PATCH", "/v1/items/i1", body, nil).Code }
	if code := patch(`{"fields":{"colour":"red"}}`); code != http.StatusAccepted {
		t.Fatal(code)
	}
	second := make(chan int)
	go func() { second <- patch(`{"fields":{"size":"L"}}`) }()
	select {
	case code := <-second:
		t.Fatalf("%d: it did not wait for the change before it", code)
	case <-time.After(100 * time.Millisecond):
	}
	if code := f.call("PATCH", "/v1/items/i2", `{"withdrawn":true}`, nil).Code; code != http.StatusAccepted {
		t.Errorf("another item's change: %d", code)
	}
	_ = f.store.View(t.Context(), func(st corastream.State) error {
		it, err := st.Item("i1")
		it.Fields = map[string]string{"brand": "a", "colour": "red"}
		return err
	})
	learn <- struct{}{}
	if code := <-second; code != http.StatusAccepted {
		t.Fatal(code)
	}
	if got := f.shelved.events[2]; got != `{"corastream_changed":["fields.size"],"fields":{"brand":"a","colour":"red","size":"L"},"item_id":"i1","title":"Alien","withdrawn":false}` {
		t.Error(got)
	}
	f.cfg.LearntWaitMS = 20
	if status, fail := f.failure("PATCH", "/v1/items/i1", `{"title":"x"}`); status != http.StatusServiceUnavailable || fail.Code != "overloaded" || len(f.shelved.events) != 3 {
		t.Errorf("a change while the one before it is not learnt: %d %+v", status, fail)
	}
}
