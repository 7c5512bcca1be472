package corastream

import (
	"fmt"
	"testing"
	"time"
)

func TestOnlyWhoAskedLatelyIsOwedAList(t *testing.T) {
	now := time.Unix(0, 0)
	a := NewAudience(RecommendActive, time.Minute, func() time.Time { return now })
	a.Ask("anna")
	a.Ask("bob")
	a.Forget("bob")
	a.Ask("")
	for user, want := range map[string]bool{"anna": true, "bob": false, "carl": false, "": false} {
		if a.Wants(user) != want {
			t.Errorf("%s: %v", user, !want)
		}
	}
	now = now.Add(time.Minute + 1)
	if a.Wants("anna") {
		t.Error("anna is active for ever")
	}
	for mode, want := range map[string]bool{RecommendAlways: true, RecommendOnRequest: false} {
		a := NewAudience(mode, time.Minute, nil)
		if a.Ask("anna"); a.Wants("anna") != want {
			t.Errorf("%s: %v", mode, !want)
		}
	}
	var none *Audience
	if none.Ask("anna"); !none.Wants("anna") {
		t.Error("without an audience nobody is owed a list")
	}
}

func TestAnAudienceIsBounded(t *testing.T) {
	now := time.Unix(0, 0)
	a := NewAudience(RecommendActive, time.Hour, func() time.Time { return now })
	for i := range 2*maxActive + 10 {
		now = now.Add(time.Millisecond)
		if i%maxActive == 0 {
			now = now.Add(40 * time.Minute)
		}
		a.Ask(fmt.Sprint("u", i))
		if len(a.asked) > maxActive {
			t.Fatalf("%d users after %d", len(a.asked), i)
		}
	}
	if last := fmt.Sprint("u", 2*maxActive+9); !a.Wants(last) {
		t.Error("who asked last is not active")
	}
}
