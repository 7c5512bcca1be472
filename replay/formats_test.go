package replay

import (
	"bytes"
	"compress/gzip"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/ingest/decode"
)

// clicks is a configuration with kinds of its own.
func clicks() decode.Config {
	c := decode.Default()
	c.Kinds = map[string]decode.Kind{"click": {Label: 1, Weight: 1, Implicit: true}, "like": {Label: 1, Weight: 2}, "skip": {Weight: 1}}
	return c
}

// TestMovieLensFilesAreReadAsTheyAre: rows in the sets' own layouts, made up here.
func TestMovieLensFilesAreReadAsTheyAre(t *testing.T) {
	for name, content := range map[string]string{
		"u.data":      "7\t9\t4\t991356108\n7\t8\t3\t991356109\n",
		"ratings.dat": "7::9::4::991356108\r\n7::8::3.5::991356109\r\n",
		"ratings.csv": "userId,movieId,rating,timestamp\n7,9,4.0,991356108\n7,8,0.5,991356109\n",
	} {
		events, err := ReadEvents(file(t, content), "log", 4)
		if err != nil || len(events) != 2 || events[0].User != "7" || events[0].Item != "9" || events[0].Label != 1 || events[1].Label != 0 ||
			events[1].Time != time.Unix(991356109, 0).UTC() || events[1].Pos.Offset != 1 {
			t.Errorf("%s: %+v, %v", name, events, err)
		}
	}
	flags := func(on string) string { return strings.Join(strings.Split(on, ""), "|") }
	for name, content := range map[string]string{
		"u.item":     "9|Caf\xe9 \"Noir\", The (1994)|01-Jan-1994||http://x|" + flags("0010010000000000000") + "\n",
		"movies.dat": "9::Caf\xe9 \"Noir\", The (1994)::Adventure|Drama\n",
		"movies.csv": "movieId,title,genres\n9,\"Café \"\"Noir\"\", The (1994)\",Adventure|Drama\n",
	} {
		items, err := ReadItems(file(t, content))
		if err != nil || len(items) != 1 {
			t.Errorf("%s: %+v, %v", name, items, err)
			continue
		}
		if it := items[0]; it.ID != "9" || it.Title != `Café "Noir", The (1994)` || it.Fields["year"] != "1994" || !strings.HasPrefix(it.Fields["genres"], "Adventure") {
			t.Errorf("%s: %+v", name, it)
		}
	}
	_, err := ReadEvents(file(t, "7\t9\t4\t991356108\n7\t8\t3\n"), "log", 4)
	if err == nil || !strings.Contains(err.Error(), "data.csv:2") {
		t.Errorf("a short line of a headless file: %v", err)
	}
	if _, err := ReadEvents(file(t, "7\t9\t4\t991356108\n7\t8\tfive\t991356108\n"), "log", 4); err == nil || !strings.Contains(err.Error(), "column rating") {
		t.Errorf("a bad rating of a headless file: %v", err)
	}
}

// TestClicksMeanWhatTheirKindMeans: files with neither label nor rating.
func TestClicksMeanWhatTheirKindMeans(t *testing.T) {
	events, err := (ReadOptions{Decoder: decode.New(clicks())}).Events(file(t, "userId,itemId,event_type,time\nu,a,like,5\nu,b,,6\nu,c,skip,7\n"), "log")
	if err != nil || len(events) != 3 {
		t.Fatalf("%+v, %v", events, err)
	}
	for i, want := range []corastream.Event{{Kind: "like", Label: 1, Weight: 2}, {Kind: "click", Label: 1, Weight: 1, Implicit: true}, {Kind: "skip", Weight: 1}} {
		got := events[i]
		if got.Kind != want.Kind || got.Label != want.Label || got.Weight != want.Weight || got.Implicit != want.Implicit {
			t.Errorf("row %d: %+v, want %+v", i, got, want)
		}
	}
	_, err = (ReadOptions{Decoder: decode.New(clicks())}).Events(file(t, "user_id,item_id,type,timestamp\nu,a,hover,5\n"), "log")
	if err == nil || !strings.Contains(err.Error(), "data.csv:2:5") || !strings.Contains(err.Error(), "hover") {
		t.Errorf("an unknown kind: %v", err)
	}
}

func TestColumnsAreMapped(t *testing.T) {
	c := clicks()
	c.Fields.Events = map[string]string{"user_id": "Customer", "item_id": "sku"}
	c.Fields.Items = map[string]string{"item_id": "sku", "title": "Headline"}
	r := ReadOptions{Decoder: decode.New(c)}
	events, err := r.Events(file(t, "user_id,CUSTOMER,sku,type,timestamp\nno,u,i,like,5\n"), "log")
	if err != nil || len(events) != 1 || events[0].User != "u" || events[0].Item != "i" {
		t.Errorf("%+v, %v", events, err)
	}
	items, err := r.Items(file(t, "sku,headline,colour\ni,A Harbour,red\n"))
	if err != nil || len(items) != 1 || items[0].Title != "A Harbour" || !maps.Equal(items[0].Fields, map[string]string{"colour": "red"}) {
		t.Errorf("%+v, %v", items, err)
	}
}

// TestSurveyFindsWhatIsWrong: each fault in a file of its own, by the words of its finding and the place of the first.
func TestSurveyFindsWhatIsWrong(t *testing.T) {
	const head = "user_id,item_id,label,timestamp\n"
	for name, c := range map[string]struct{ content, level, what, where string }{
		"no positives":     {head + "u,a,0,1700000000\nv,b,0,1700000001\n", LevelError, "no event is positive", ""},
		"only positives":   {head + "u,a,1,1700000000\nv,b,1,1700000001\n", LevelWarning, "explicit positive", ""},
		"bad time":         {head + "u,a,1,1700000000\nv,b,0,noon\nw,b,0,later\n", LevelError, "column timestamp", "data.csv:3:7"},
		"bad line":         {head + "u,a,1,1700000000\nv,b\nv,b,0,1700000001\n", LevelError, "line", "data.csv:3"},
		"unset times":      {head + "u,a,1,0\nv,b,0,1700000001\n", LevelWarning, "start of 1970", ""},
		"relative times":   {head + "u,a,1,61\nv,b,0,1295999999\n", LevelWarning, "count from a moment of their own", ""},
		"future":           {head + "u,a,1,1700000000\nv,b,0,2099-01-01T00:00:00Z\n", LevelError, "over max_ahead", "data.csv:3:7"},
		"one time":         {head + "u,a,1,1700000000\nv,b,0,1700000000\n", LevelWarning, "same time", ""},
		"repeats":          {head + "u,a,1,1700000000\nu,a,1,1700000000\nv,b,0,1700000001\n", LevelWarning, "1 rows repeat", ""},
		"one user":         {head + "u,a,1,1700000000\nu,b,0,1700000001\n", LevelWarning, "one user", ""},
		"order":            {head + "u,a,1,1700000005\nv,b,0,1700000001\n", LevelNote, "earlier than the one before", ""},
		"unknown kind":     {"user_id,item_id,type,timestamp\nu,a,like,1700000000\nu,b,hover,1700000001\n", LevelError, `type "hover"`, "data.csv:3:5"},
		"an item twice":    {"item_id,title\na,A (1990)\na,B (1991)\n", LevelError, "listed twice", "data.csv:3:1"},
		"a missing title":  {"item_id,title\na,A (1990)\nb,\n", LevelWarning, "no title", ""},
		"no titles":        {"item_id\na\nb\n", LevelNote, "no item has a title", ""},
		"alike titles":     {"item_id,title\na,Book\nb,Book\nc,Book\n", LevelWarning, `3 of 3 items share the title "Book"`, ""},
		"nothing but head": {head, LevelError, "nothing in it", ""},
	} {
		s, err := (ReadOptions{Decoder: decode.New(clicks())}).Survey(file(t, c.content))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		s.Conclude()
		found := false
		for _, f := range s.Findings {
			found = found || f.Level == c.level && strings.Contains(f.What, c.what) && strings.Contains(f.Where, c.where) && (f.Fix != "" || c.level == LevelNote)
		}
		if !found {
			t.Errorf("%s: not found in %+v", name, s.Findings)
		}
	}
	good, err := (ReadOptions{Decoder: decode.New(clicks())}).Survey(file(t, head+"u,a,1,1700000000\nv,b,0,1700000001\n"))
	if err != nil {
		t.Fatal(err)
	}
	catalogue, err := (ReadOptions{Decoder: decode.New(clicks())}).Survey(file(t, "item_id,title\nx,X (1990)\ny,Y (1991)\n"))
	if err != nil {
		t.Fatal(err)
	}
	good.Conclude()
	if len(good.Findings) != 0 {
		t.Errorf("good data: %+v", good.Findings)
	}
	if good.Against(catalogue); good.Errors() != 1 {
		t.Errorf("ids that do not meet: %+v", good.Findings)
	}
}

// FuzzRelined: any bytes in any layout give rows or an error, never a panic, and lines keep their numbers.
func FuzzRelined(f *testing.F) {
	f.Add("7\t9\t4\t991356108\n")
	f.Add("9|T|01-Jan-1994||http://x|0|0|1|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n\xff\"\n")
	f.Add("9::a::b\n::\n")
	path := file(f, "")
	f.Fuzz(func(t *testing.T, content string) {
		rewrite(t, path, content)
		s, err := (ReadOptions{Decoder: decode.New(clicks())}).Survey(path)
		if err == nil {
			s.Conclude()
		}
	})
}

// TestABareLogIsOneOfImplicitPositives: user, item and time alone, plain or zipped.
func TestABareLogIsOneOfImplicitPositives(t *testing.T) {
	const content = "user_id,item_id,timestamp\nu,a,1700000000\nv,b,1700000001\n"
	zipped := filepath.Join(t.TempDir(), "log.csv.gz")
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(zipped, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file(t, content), zipped} {
		events, err := ReadEvents(path, "log", 4)
		if err != nil || len(events) != 2 {
			t.Fatalf("%s: %d events, %v", path, len(events), err)
		}
		if ev := events[1]; ev.User != "v" || ev.Item != "b" || !ev.Positive() || !ev.Implicit || ev.Time.Unix() != 1700000001 {
			t.Errorf("%+v", ev)
		}
	}
	if err := os.WriteFile(zipped, b.Bytes()[:b.Len()-9], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadEvents(zipped, "log", 4); err == nil {
		t.Error("a cut gzip file was read as whole")
	}
	items, err := ReadItems(file(t, "item_id\n7\n8\n"))
	if err != nil || len(items) != 2 || items[1].ID != "8" {
		t.Errorf("%+v, %v", items, err)
	}
}
