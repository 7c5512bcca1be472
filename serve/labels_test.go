package serve

import (
	"strings"
	"testing"
)

// TestAUsersLabelsAreAnEvent: PUT sends one to the interactions topic, and the user's page shows what was learnt of it.
func TestAUsersLabelsAreAnEvent(t *testing.T) {
	f := shop(t)
	if got := f.call("PUT", "/v1/users/new", `{"labels":["student","de"]}`, new(accepted)); got.Code != 202 {
		t.Fatalf("status %d: %s", got.Code, got.Body)
	}
	if ev := f.sent.events[len(f.sent.events)-1]; !strings.Contains(ev, `"labels":["student","de"]`) || !strings.Contains(ev, `"user_id":"new"`) || !strings.Contains(ev, `"type":"labels"`) {
		t.Errorf("sent %s", ev)
	}
	if code, _ := f.failure("GET", "/v1/users/new", ""); code != 404 {
		t.Errorf("before it is learnt: %d", code)
	}
	u, err := f.store.m.User("new")
	if err != nil {
		t.Fatal(err)
	}
	u.Labels = []string{"de", "student"}
	var out UserResponse
	f.ok("GET", "/v1/users/new", "", &out)
	if strings.Join(out.Labels, ",") != "de,student" || out.Total != 0 {
		t.Errorf("%+v", out)
	}
	long := `["` + strings.Repeat(`a","`, 32) + `a"]`
	for body, field := range map[string]string{
		`{}`: "labels", `{"labels":null}`: "labels", `{"labels":[""]}`: "labels[0]", `{"labels":["a","` + strings.Repeat("b", 601) + `"]}`: "labels[1]",
		`{"labels":` + long + `}`: "labels", `{"label":["a"]}`: "label",
	} {
		if code, fail := f.failure("PUT", "/v1/users/new", body); code != 400 || fail.Field != field {
			t.Errorf("%.40s: %d %+v", body, code, fail)
		}
	}
}
