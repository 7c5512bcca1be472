package store

import (
	"fmt"
	"testing"
)

func TestUsersAreListedFromAnIDOn(t *testing.T) {
	s := mustOpen(t, t.TempDir(), testConfig())
	for i, user := range []string{"b", "a1", "a", "a2", "c"} {
		mustCommit(t, s, click(user, int64(i), i))
	}
	for ask, want := range map[[2]string]string{
		{"", ""}: "[a a1 a2]", {"", "a2"}: "[b c]", {"a", ""}: "[a a1 a2]", {"a", "a"}: "[a1 a2]", {"a", "a2"}: "[]", {"b", "a"}: "[b]", {"x", ""}: "[]",
	} {
		users, err := s.UsersFrom(ask[0], ask[1], 3)
		if err != nil {
			t.Fatal(err)
		}
		got := []string{}
		for _, u := range users {
			got = append(got, u.ID)
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%q: %v, want %s", ask, got, want)
		}
	}
}
