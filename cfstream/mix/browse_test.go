package mix

import (
	"fmt"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

// shopLog is a log in which i0 was liked most ever, i1 most of late, and i2 and i3 always together.
func shopLog(t *testing.T) (*Model, time.Time) {
	t.Helper()
	m, err := New(small())
	if err != nil {
		t.Fatal(err)
	}
	for i, title := range []string{"The old harbour", "A new orchard", "Red lamp", "Red shade", "Blue lamp"} {
		m.Describe(corastream.Item{ID: fmt.Sprint("i", i), Title: title})
	}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	take := func(item string, after time.Duration, recent ...string) {
		st := corastream.Step{Item: item, Positive: true, Time: start.Add(after)}
		for _, r := range recent {
			st.Recent = append(st.Recent, corastream.Interaction{Item: r, Label: 1, Time: start.Add(after - time.Minute)})
		}
		m.Learn(st)
	}
	for n := range 100 {
		take("i0", time.Duration(n)*time.Hour)
	}
	for n := range 40 {
		at := 40*24*time.Hour + time.Duration(n)*10*time.Minute
		take("i1", at)
		if n < 20 {
			take("i2", at)
			take("i3", at, "i2")
		}
	}
	return m, start.Add(40*24*time.Hour + 7*time.Hour)
}

func ids(list []corastream.Candidate) (out string) {
	for _, c := range list {
		out += c.Item + ":" + c.Source + " "
	}
	return out
}

func TestListsForEverybodySayWhatTheyShould(t *testing.T) {
	m, now := shopLog(t)
	m.Describe(corastream.Item{ID: "i5", Title: "Gone", Withdrawn: true})
	day := 24 * time.Hour
	no0 := func(id string) bool { return id == "i0" }
	for name, c := range map[string]struct {
		got  []corastream.Candidate
		want string
	}{
		"popular ever":             {m.Popular(now, 0, 3, nil), "i0:popular i1:popular i2:popular "},
		"popular of a day":         {m.Popular(now, day, 2, nil), "i1:popular i2:popular "},
		"popular without one":      {m.Popular(now, 0, 1, no0), "i1:popular "},
		"trending":                 {m.Trending(now, 0, 1, nil), "i1:trending "},
		"trending long after":      {m.Trending(now.Add(1000*day), 7*day, 9, nil), ""},
		"latest":                   {m.Latest(now, 0, 2, nil), "i4:new i3:new "},
		"latest of a day":          {m.Latest(now, day, 9, nil), "i4:new i3:new i2:new i1:new "},
		"goes with":                {m.Related("i2", 2, nil), "i3:co-visit i4:similar "},
		"a new item goes by words": {m.Related("i4", 9, nil), "i2:similar "},
		"an unknown item":          {m.Related("?", 9, nil), ""},
		"none wanted":              {m.Popular(now, 0, 0, nil), ""},
	} {
		if got := ids(c.got); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if c := m.Related("i2", 1, nil)[0]; c.From != "i2" || c.Score <= 1 {
		t.Errorf("%+v", c)
	}
}

func TestReadingListsChangesNothing(t *testing.T) {
	m, now := shopLog(t)
	before := string(saved(t, m))
	m.Popular(now, time.Hour, 9, nil)
	m.Trending(now, time.Hour, 9, nil)
	m.Latest(now, time.Hour, 9, nil)
	m.Related("i2", 9, nil)
	if string(saved(t, m)) != before {
		t.Error("a list that was read changed the state")
	}
}
