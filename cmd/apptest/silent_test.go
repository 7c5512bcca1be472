//go:build app

package apptest

import (
	"compress/gzip"
	"fmt"
	"os"
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
		"RetailRocket": {"a.csv", "timestamp,visitorid,event,itemid,transactionid\n1433221332117,257597,view,355908,\n", []string{"{events: {user_id: visitorid}}"}},
		"H&M":          {"a.csv", "t_dat,customer_id,article_id,price,sales_channel_id\n2018-09-20,c1,663713001,0.05,2\n", []string{"item_id: article_id", "timestamp: t_dat", "user_id: customer_id"}},
		"Book-Crossing": {
			"a.csv", "\"User-ID\";\"ISBN\";\"Book-Rating\"\n\"276725\";\"034545104X\";\"0\"\n",
			[]string{"item_id: ISBN", "missing column item_id, timestamp"},
		},
		"half an array": {"a.json", "[" + one + ",\n", []string{"a.json[1]", "array"}},
	} {
		r := call(t, "validate", write(t, c.file, c.content))
		if missing := lacks(r.stderr, append(c.says, "fix: ")...); r.code != 2 || missing != nil {
			t.Errorf("%s: exit %d, %q not said: %s", name, r.code, missing, r.stderr)
		}
	}
	// What is proposed, done, leads on.
	hm := write(t, "hm.csv", "t_dat,customer_id,article_id,price,sales_channel_id\n2018-09-20,c1,663713001,0.05,2\n2018-09-21,c2,663713002,0.05,2\n")
	config := write(t, "hm.yaml", "kafka: {fields: {events: {item_id: article_id, timestamp: t_dat, user_id: customer_id}}}\n")
	if r := ok(t, "validate", hm, "-c", config); !strings.Contains(r.stderr, "2 events of 2 users") {
		t.Errorf("H&M, mapped: %s", r.stderr)
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
