package replay

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/bounded"
)

func file(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "data.csv")
	rewrite(t, path, content)
	return path
}

// rewrite gives a file other content: a fuzz target makes one folder, not one for each of its millions of executions.
func rewrite(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestReadEventsUnderstandsTheFormsOfALog(t *testing.T) {
	at := time.Unix(991356108, 0).UTC()
	for name, content := range map[string]string{
		"labels":           "user_id,item_id,label,timestamp,warm\nu,i,1,991356108,1\n",
		"another order":    "timestamp,label,item_id,user_id\n991356108,1,i,u\n",
		"ratings":          "user_id,item_id,rating,timestamp\nu,i,4,991356108\n",
		"milliseconds":     "user_id,item_id,label,timestamp\nu,i,1,991356108000\n",
		"RFC 3339":         "user_id,item_id,label,timestamp\nu,i,1,2001-06-01T00:41:48Z\n",
		"byte order mark":  "\ufeffuser_id,item_id,label,timestamp\nu,i,1,991356108\n",
		"carriage returns": "user_id,item_id,label,timestamp\r\nu,i,1,991356108\r\n",
		"RecBole":          "user_id:token\titem_id:token\trating:float\ttimestamp:float\nu\ti\t5\t991356108\n",
	} {
		events, err := ReadEvents(file(t, content), "log", DefaultRatingThreshold)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := corastream.Event{
			Pos: corastream.Position{Topic: "log"}, User: "u", Item: "i", Kind: "rating", Label: 1, Weight: 1, Time: at,
		}
		if !strings.Contains(content, "rating") {
			want.Kind = "label" // as a record that has a label and no type
		}
		if len(events) != 1 || !reflect.DeepEqual(events[0], want) {
			t.Errorf("%s: got %+v, want %+v", name, events, want)
		}
	}
	events, err := ReadEvents(file(t, "user_id,item_id,rating,timestamp\nu,i,3.5,1\nu,j,4,2\n"), "log", 4)
	if err != nil || events[0].Label != 0 || events[1].Label != 1 || events[1].Pos.Offset != 1 {
		t.Errorf("ratings around the threshold: %+v, %v", events, err)
	}
}

func TestBadLogIsRefusedWithPlaceAndFix(t *testing.T) {
	const header = "user_id,item_id,label,timestamp\n"
	for _, c := range []struct{ name, content, where, what string }{
		{"empty file", "", "data.csv", "empty"},
		{"missing columns", "user_id,label\nu,1\n", "data.csv:1", "missing column item_id, timestamp"},
		{"no label", "user_id,item_id,lable,timestamp\nu,i,0,1\n", "data.csv:2:5", `"lable" is not read`},
		{"column twice", "user_id,user_id\n", "data.csv:1", `"user_id" occurs twice`},
		{"label is text", header + "u,i,1,5\nu,i,yes,5\n", "data.csv:3:5", `label is not a number: "yes"`},
		{"label NaN", header + "u,i,NaN,5\n", "data.csv:2:5", `label is not finite: "NaN"`},
		{"label out of range", header + "u,i,2,5\n", "data.csv:2:5", `label 2 is outside`},
		{"time is text", header + "u,i,1,today\n", "data.csv:2:7", `not a time: "today"`},
		{"negative time", header + "u,i,1,-5\n", "data.csv:2:7", "column timestamp"},
		{"no user", header + ",i,1,5\n", "data.csv:2:1", "column user_id: user_id is missing"},
		{"long item", header + "u," + strings.Repeat("i", 257) + ",1,5\n", "data.csv:2:3", "column item_id"},
		{"short row", header + "u,i,1,5\nu,i\n", "data.csv:3:1", "wrong number of fields"},
		{"open quote", header + "\"u,i,1,5\nu,i,1,5\n", "data.csv:2", "quote"},
		{"endless record", header + "\"" + strings.Repeat("x", 3*maxRecord), "data.csv:", "longer than"},
	} {
		events, err := ReadEvents(file(t, c.content), "log", 4)
		var usage *corastream.UsageError
		if !errors.As(err, &usage) {
			t.Errorf("%s: got %d events and %v, want a usage error", c.name, len(events), err)
			continue
		}
		if !strings.Contains(usage.Where, c.where) || !strings.Contains(usage.What, c.what) || usage.Fix == "" {
			t.Errorf("%s: %v, want it to name %q, %q and the fix", c.name, err, c.where, c.what)
		}
	}
	if _, err := ReadEvents("/nowhere/at/all.csv", "log", 4); err == nil || !strings.Contains(err.Error(), "/nowhere/at/all.csv") {
		t.Errorf("a missing file: %v", err)
	}
}

func TestReadItemsKeepsFieldsAndFindsTheYear(t *testing.T) {
	items, err := ReadItems(file(t, "item_id,title,genre\n1,\"Shawshank Redemption, The (1994)\",Drama\n2,Untitled,\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := items[0]; got.Title != "Shawshank Redemption, The (1994)" || got.Fields["year"] != "1994" || got.Fields["genre"] != "Drama" {
		t.Errorf("first item: %+v", got)
	}
	if got := items[1]; len(got.Fields) != 0 {
		t.Errorf("an item without year or genre has fields: %+v", got)
	}
	items, err = ReadItems(file(t, "item_id:token\tmovie_title:token_seq\trelease_year:token\n7\tThe \"Burbs\t1989\n"))
	if err != nil || items[0].Title != `The "Burbs` || items[0].Fields["year"] != "1989" {
		t.Errorf("RecBole's items: %+v, %v", items, err)
	}
	_, err = ReadItems(file(t, "item_id,title\n1,a\n1,b\n"))
	if err == nil || !strings.Contains(err.Error(), `data.csv:3:1: item "1" is listed twice`) {
		t.Errorf("an item twice: %v", err)
	}
}

func FuzzReadEvents(f *testing.F) {
	f.Add("user_id,item_id,label,timestamp\nu,i,1,991356108\n")
	f.Add("user_id:token\titem_id:token\trating:float\ttimestamp:float\nu\ti\t5\t1e300\n")
	f.Add("\ufeffuser_id,item_id,label,timestamp\n\"u\n\",i,.5,2001-06-01T00:41:48+14:00\n")
	f.Add("user_id,item_id,label,timestamp\n\"")
	path := file(f, "")
	f.Fuzz(func(t *testing.T, content string) {
		rewrite(t, path, content)
		var events []corastream.Event
		var err error
		bounded.Parse(t, len(content), func() { events, err = ReadEvents(path, "log", 4) })
		var usage *corastream.UsageError
		if err != nil && !errors.As(err, &usage) {
			t.Fatalf("not a usage error: %v", err)
		}
		for i, ev := range events {
			if ev.User == "" || ev.Item == "" || !(ev.Label >= 0 && ev.Label <= 1) || ev.Pos.Offset != int64(i) {
				t.Fatalf("event %d got through: %+v", i, ev)
			}
		}
	})
}

func FuzzReadItems(f *testing.F) {
	f.Add("item_id,title\n1,a\n")
	f.Add("item_id,title,year,genre\n1,\"a \"\"b\"\",,1995,x\n2,\xff,1e9,\x00\n")
	f.Add("\ufeffitem_id\ttitle\n1\t" + strings.Repeat("x", 70_000) + "\n")
	f.Add("item_id,title\n1,\"")
	f.Add(strings.Repeat("a,", 5000) + "item_id,title\n1,2\n")
	path := file(f, "")
	f.Fuzz(func(t *testing.T, content string) {
		rewrite(t, path, content)
		var items []corastream.Item
		var err error
		bounded.Parse(t, len(content), func() { items, err = ReadItems(path) })
		var usage *corastream.UsageError
		if err != nil && !errors.As(err, &usage) {
			t.Fatalf("not a usage error: %v", err)
		}
		seen := map[string]bool{}
		for i, it := range items {
			if it.ID == "" || seen[it.ID] {
				t.Fatalf("item %d got through: %+v", i, it)
			}
			seen[it.ID] = true
		}
	})
}
