//go:build app

package apptest

import (
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/corastream/corastream/cmd/internal/testkit"
)

// refusedEvent is a row of the page of events: the members of a record, and the word that the refusal names.
var refusedEvent = regexp.MustCompile("(?m)^\\| [^|]* \\| (?:nothing|`(.*)`) \\| refused; the message names `(.*)` \\|$")

// TestNothingIsSilent: a file in which every record is one that a reader might take for a like or drop without a word. Validate counts
// each, names it with its line, and no event comes of any but the one good record; produce says how many can only become dead letters.
func TestNothingIsSilent(t *testing.T) {
	lines := []string{`{"user_id":"u","item_id":"good","type":"like",` + testkit.ATime + `}`}
	var names []string
	page, err := os.ReadFile("../../docs/reference/events.md") // made from the table of cmd/corastream/meaning_test.go
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range refusedEvent.FindAllStringSubmatch(string(page), -1) {
		lines, names = append(lines, testkit.WholeEvent(m[1])), append(names, m[2])
	}
	if len(names) < 30 {
		t.Fatalf("only %d records that are refused", len(names))
	}
	lines = append(lines, `{"user_id":"v","item_id":"good","type":"dislike","colour":"red",`+testkit.ATime+`}`)
	file := write(t, "silent.jsonl", strings.Join(lines, "\n")+"\n")
	r := call(t, "validate", file)
	s := r.last(t)["sources"].([]any)[0].(map[string]any)
	if r.code != 1 || s["bad"] != float64(len(names)) || s["events"] != 2. || s["positive"] != 1. {
		t.Errorf("exit %d, %v bad of %d, %v events\n%s", r.code, s["bad"], len(names), s["events"], r.stderr)
	}
	if missing := lacks(r.stderr, "nothing reads", "colour", "(1 times)"); missing != nil {
		t.Errorf("not said: %q\n%s", missing, r.stderr)
	}
	// Findings gather by reason, so that each name is looked for in a file of its own.
	for i, name := range names {
		one := write(t, fmt.Sprintf("%d.jsonl", i), lines[0]+"\n"+lines[i+1]+"\n")
		if r := call(t, "validate", one); r.code != 1 || !strings.Contains(r.stderr, name) || !strings.Contains(r.stderr, fmt.Sprintf("%d.jsonl:2", i)) {
			t.Errorf("%s: exit %d, %q is not named:\n%s", lines[i+1], r.code, name, r.stderr)
		}
	}
	r = call(t, "produce", file, "--data", t.TempDir())
	if r.code != 1 || !strings.Contains(r.stderr, fmt.Sprintf("%d records can only become dead letters", len(names))) {
		t.Errorf("produce: exit %d\n%s", r.code, r.stderr)
	}
	r = ok(t, "produce", file, "--skip-bad", "--data", t.TempDir())
	if sum := r.last(t); sum["produced"] != 2. || sum["bad"] != float64(len(names)) {
		t.Errorf("produce --skip-bad: %v", sum)
	}
}

// TestALogOfNothingButIdsIsSaidToBeOne: where no record says what happened, validate says once how each is read.
func TestALogOfNothingButIdsIsSaidToBeOne(t *testing.T) {
	for _, file := range []string{
		write(t, "log.csv", "user_id,item_id,timestamp\nu,a,1700000000\nv,b,1700000001\n"),
		write(t, "log.jsonl", `{"user_id":"u","item_id":"a","timestamp":1700000000}`+"\n"+`{"user_id":"v","item_id":"b","timestamp":1700000001}`+"\n"),
	} {
		r := ok(t, "validate", file)
		if strings.Count(r.stderr, "log of implicit positives, each a click") != 1 {
			t.Errorf("%s: %s", file, r.stderr)
		}
	}
}

// TestFilesAreReadAsTheyAre: one event, in the ways that files are written, or one message with what reads it.
func TestFilesAreReadAsTheyAre(t *testing.T) {
	one := `{"user_id":"u","item_id":"a","type":"like",` + testkit.ATime + `}`
	two := `{"user_id":"v","item_id":"b","type":"dislike",` + testkit.ATime + `}`
	var packed, long strings.Builder
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte(one + "\n" + two)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	long.WriteString("[" + one)
	for range 2999 {
		long.WriteString("," + two)
	}
	long.WriteString("]")
	for name, c := range map[string]struct {
		file, content string
		events        float64
	}{
		"capitals":                  {"a.JSONL", one + "\n" + two, 2},
		"a byte order mark":         {"a.jsonl", "\ufeff" + one + "\n" + two, 2},
		"an array":                  {"a.json", "[\n  " + one + ",\n  " + two + "\n]\n", 2},
		"an array in one line":      {"a.json", "[" + one + "," + two + "]", 2},
		"an array of 3,000":         {"a.json", long.String(), 3000},
		"lines, the first an array": {"a.jsonl", "[" + one + "," + two + "]\n" + one + "\n", 3},
		"packed":                    {"a.jsonl.gz", packed.String(), 2},
		"semicolons":                {"a.csv", "user_id;item_id;rating;timestamp\nu;a;5;1700000000\nv;b;1;1700000001\n", 2},
		"RecBole without rating":    {"a.inter", "user_id:token\titem_id:token\ttimestamp:float\nu\ta\t1700000000\nv\tb\t1700000001\n", 2},
		"blanks in the header":      {"a.csv", " user_id , item_id,label, timestamp\nu,a,1,2022-06-24\nv,b,0,2022-06-25\n", 2},
		"two items from one row":    {"a.csv", "user_id,items,type,timestamp\nu,\"[\"\"a\"\",\"\"b\"\"]\",purchase,2022-06-24\n", 2},
	} {
		r := call(t, "validate", write(t, c.file, c.content))
		if r.code == 2 {
			t.Errorf("%s: %s", name, r.stderr)
			continue
		}
		if s := r.last(t)["sources"].([]any)[0].(map[string]any); s["events"] != c.events || s["bad"] != 0. {
			t.Errorf("%s: %v events, %v bad\n%s", name, s["events"], s["bad"], r.stderr)
		}
	}
	for name, c := range map[string]struct {
		file, content string
		says          []string
	}{
		"UTF-16":       {"a.csv", "\xff\xfeu\x00s\x00", []string{"UTF-16", "iconv"}},
		"UTF-16 lines": {"a.jsonl", "\xff\xfe{\x00", []string{"UTF-16", "iconv"}},
		"no header":    {"a.csv", "17,42,5,1700000000\n18,43,1,1700000001\n", []string{"header line"}},
		"RetailRocket": {"a.csv", "timestamp,visitorid,event,itemid,transactionid\n1433221332117,257597,view,355908,\n", []string{"user_id: visitorid"}},
		"H&M":          {"a.csv", "t_dat,customer_id,article_id,price,sales_channel_id\n2018-09-20,c1,663713001,0.05,2\n", []string{"item_id: article_id", "timestamp: t_dat", "user_id: customer_id"}},
		"Book-Crossing": {
			"a.csv", "\"User-ID\";\"ISBN\";\"Book-Rating\"\n\"276725\";\"034545104X\";\"0\"\n",
			[]string{"item_id: ISBN, rating: Book-Rating", "missing column item_id"},
		},
		"half an array": {"a.json", "[" + one + ",\n", []string{"a.json[1]", "array"}},
	} {
		r := call(t, "validate", write(t, c.file, c.content))
		if missing := lacks(r.stderr, append(c.says, "fix: ")...); r.code != 2 || missing != nil {
			t.Errorf("%s: exit %d, %q not said: %s", name, r.code, missing, r.stderr)
		}
	}
}

// TestDataSetsAsPeopleHaveThem: the files of public data sets, as they are. Each is read, or a message says what to set, and with that it is
// read. The columns are theirs, the rows are made up.
func TestDataSetsAsPeopleHaveThem(t *testing.T) {
	for name, c := range map[string]struct {
		file, content string
		says          []string // on the way; none: it is read as it is
		config        string   // with what was said
		events        float64
		positive      float64
	}{
		"RecBole's inter without rating": {"ml.inter", "user_id:token\titem_id:token\ttimestamp:float\nu\ta\t1700000000\nv\tb\t1700000001\n", nil, "", 2, 2},
		"RecBole's inter":                {"ml.inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float\nu\ta\t5\t1700000000\nv\tb\t1\t1700000001\n", nil, "", 2, 1},
		"MovieLens' ratings.csv":         {"ratings.csv", "userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n1,1029,4.0,1260759179\n", nil, "", 2, 1},
		"Yelp's review.json": {
			"review.json", `{"review_id":"r1","user_id":"u","business_id":"b1","stars":4.0,"useful":0,"funny":0,"cool":0,"text":"x","date":"2018-07-07 22:09:11"}` + "\n" +
				`{"review_id":"r2","user_id":"v","business_id":"b2","stars":1.0,"useful":0,"funny":0,"cool":0,"text":"y","date":"2018-07-08 22:09:11"}` + "\n",
			[]string{"item_id: business_id, rating: stars, timestamp: date"},
			"kafka: {fields: {events: {item_id: business_id, rating: stars, timestamp: date}}}", 2, 1,
		},
		"Book-Crossing's ratings": {
			"BX-Book-Ratings.csv", "\"User-ID\";\"ISBN\";\"Book-Rating\"\n\"276725\";\"034545104X\";\"0\"\n\"276726\";\"0155061224\";\"9\"\n",
			[]string{"item_id: ISBN, rating: Book-Rating"},
			"kafka: {fields: {events: {item_id: ISBN, rating: Book-Rating}}, rating_threshold: 7}", 2, 1,
		},
		"RetailRocket's events": {
			"events.csv", "timestamp,visitorid,event,itemid,transactionid\n1433221332117,257597,view,355908,\n1433224214164,992329,transaction,248676,4000\n",
			[]string{"user_id: visitorid"},
			"kafka: {fields: {events: {user_id: visitorid}}, kinds: {view: {label: 1, implicit: true}, transaction: {label: 1, implicit: true}}}", 2, 2,
		},
		"H&M's transactions": {
			"transactions_train.csv", "t_dat,customer_id,article_id,price,sales_channel_id\n2018-09-20,c1,0663713001,0.05,2\n2018-09-21,c2,0663713002,0.05,2\n",
			[]string{"user_id: customer_id, item_id: article_id, timestamp: t_dat"},
			"kafka: {fields: {events: {user_id: customer_id, item_id: article_id, timestamp: t_dat}}}", 2, 2,
		},
		"Outbrain's page views": {
			"page_views.csv", "uuid,document_id,timestamp,platform,geo_location,traffic_source\nu1,120,61,1,US>CA>803,2\nu2,120,36833,1,US>CA>803,2\n",
			[]string{"user_id: uuid, item_id: document_id"},
			"kafka: {fields: {events: {user_id: uuid, item_id: document_id}}, time_origin: 1465876799998, time_unit: ms}", 2, 2,
		},
		"Amazon's reviews": {
			"reviews.jsonl", `{"reviewerID":"A2","asin":"0000013714","overall":5.0,"unixReviewTime":1252800000}` + "\n" + `{"reviewerID":"A3","asin":"0000013715","overall":1.0,"unixReviewTime":1252800001}` + "\n",
			[]string{"user_id is missing"},
			"kafka: {fields: {events: {user_id: reviewerID, item_id: asin, rating: overall, timestamp: unixReviewTime}}}", 2, 1,
		},
		"user, item and time alone": {"a.csv", "user_id,item_id,timestamp\nu,a,2022-06-24 21:20:11\nv,b,2022-06-24T23:20:11+0200\n", []string{"log of implicit positives"}, "kafka: {default_kind: played}", 2, 2},
		"semicolons":                {"a.csv", "user_id;item_id;rating;timestamp\nu;a;5;1700000000\nv;b;1;1700000001\n", nil, "", 2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file, config := filepath.Join(dir, c.file), filepath.Join(dir, "c.yaml")
			if err := errors.Join(os.WriteFile(file, []byte(c.content), 0o600), os.WriteFile(config, []byte(c.config+"\n"), 0o600)); err != nil {
				t.Fatal(err)
			}
			first := call(t, "validate", file)
			if missing := lacks(first.stderr, c.says...); missing != nil || strings.Contains(first.stderr, "goroutine ") || c.says == nil && first.code != 0 {
				t.Errorf("exit %d, %q is not said:\n%s", first.code, missing, first.stderr)
			}
			for _, word := range []string{"NaN", "\ufffd"} {
				if strings.Contains(first.stderr, word) {
					t.Errorf("%q in %s", word, first.stderr)
				}
			}
			r := ok(t, "validate", file, "-c", config)
			s := r.last(t)["sources"].([]any)[0].(map[string]any)
			if s["events"] != c.events || s["bad"] != 0. || s["positive"] != c.positive {
				t.Errorf("with what was said: %v events, %v positive, %v bad\n%s", s["events"], s["positive"], s["bad"], r.stderr)
			}
			if sum := ok(t, "produce", file, "-c", config, "--data", filepath.Join(dir, "data")).last(t); sum["produced"] != c.events {
				t.Errorf("produce: %v", sum)
			}
		})
	}
}

// TestRelativeTimesAreReadByTwoSettings: Outbrain's times are milliseconds since 1465876799998, as its page of data says. Read as unix
// times they would lie from 1970 to 2011, and validate says so; with time_origin and time_unit they are of June 2016.
func TestRelativeTimesAreReadByTwoSettings(t *testing.T) {
	file := write(t, "page_views.csv", "uuid,document_id,timestamp,platform\nu1,120,61,1\nu2,120,36833,1\nu2,121,1295999999,1\n")
	const names = "kafka: {fields: {events: {user_id: uuid, item_id: document_id}}"
	r := ok(t, "validate", file, "-c", write(t, "names.yaml", names+"}\n"))
	if missing := lacks(r.stderr, "2 events are from before 1990", "from 1970-01-01 to 2011-01-25", "count from a moment of their own", "time_origin: 2016-06-14T04:00:00Z, time_unit: ms"); missing != nil {
		t.Errorf("%q is not said:\n%s", missing, r.stderr)
	}
	for _, origin := range []string{"1465876799998", `"2016-06-14T03:59:59.998Z"`} {
		r = ok(t, "validate", file, "-c", write(t, "times.yaml", names+", time_origin: "+origin+", time_unit: ms}\n"))
		s := r.last(t)["sources"].([]any)[0].(map[string]any)
		if s["first"] != "2016-06-14T04:00:00.059Z" || s["last"] != "2016-06-29T03:59:59.997Z" || strings.Contains(r.stderr, "1990") {
			t.Errorf("%s: %v to %v\n%s", origin, s["first"], s["last"], r.stderr)
		}
	}
}

// TestATitleInLatin1IsNeverServedBroken: in a CSV, in JSON lines and in a JSON array it is refused with the encoding's name, or read right.
func TestATitleInLatin1IsNeverServedBroken(t *testing.T) {
	for name, content := range map[string]string{
		"a.csv":   "item_id,title\n1,caf\xe9\n",
		"a.jsonl": "{\"item_id\":\"1\",\"title\":\"caf\xe9\"}\n",
		"a.json":  "[{\"item_id\":\"1\",\"title\":\"caf\xe9\"}]\n",
	} {
		data := t.TempDir()
		r := call(t, "produce", write(t, name, content), "--data", data)
		if r.code == 0 || lacks(r.stderr, "UTF-8", "fix: ") != nil || strings.Contains(r.stdout+r.stderr, "\ufffd") {
			t.Errorf("%s: exit %d\n%s", name, r.code, r.stderr)
		}
		for i, word := range map[string]string{"a.csv": "café", "a.jsonl": "café", "a.json": "café"} {
			if i == name {
				ok(t, "produce", write(t, name, strings.ReplaceAll(content, "caf\xe9", word)), "--data", data)
			}
		}
	}
	// MovieLens' own files are in Latin-1, and are read as such.
	r := ok(t, "validate", write(t, "movies.dat", "1::Caf\xe9 (1994)::Drama\n2::Winter (1995)::Drama\n"))
	if strings.Contains(r.stderr, "\ufffd") {
		t.Errorf("%s", r.stderr)
	}
}

// TestTheScaleOfRatingsIsLookedAt: scales that the threshold is not for get a word, and the threshold that is proposed leads on.
func TestTheScaleOfRatingsIsLookedAt(t *testing.T) {
	const head = "user_id,item_id,rating,timestamp\n"
	for name, c := range map[string]struct{ rows, says, not string }{
		"1 to 5":                    {"u,a,5,1700000000\nv,b,1,1700000001\n", "", "rating_threshold"},
		"5 to 10":                   {"u,a,5,1700000000\nv,b,10,1700000001\n", "such as 9", "implicit: true"},
		"0 to 10, with 0":           {"u,a,0,1700000000\nv,b,10,1700000001\n", "not rated", ""},
		"-1 for nothing":            {"u,a,-1,1700000000\nv,b,5,1700000001\n", "down to -1", ""},
		"20 to 100":                 {"u,a,20,1700000000\nv,b,100,1700000001\n", "such as 76", "implicit: true"},
		"below the threshold alone": {"u,a,1,1700000000\nv,b,2,1700000001\n", "no rating, from 1 to 2", ""},
	} {
		r := call(t, "validate", write(t, "r.csv", head+c.rows))
		if !strings.Contains(r.stderr, c.says) || c.not != "" && strings.Contains(r.stderr, c.not) {
			t.Errorf("%s: %s", name, r.stderr)
		}
	}
	config := write(t, "t.yaml", "kafka: {rating_threshold: 76}\n")
	r := ok(t, "validate", write(t, "r.csv", head+"u,a,20,1700000000\nv,b,100,1700000001\n"), "-c", config)
	if strings.Contains(r.stderr, "rating_threshold") || r.last(t)["sources"].([]any)[0].(map[string]any)["negative"] != 1. {
		t.Errorf("the proposed threshold: %s", r.stderr)
	}
}
