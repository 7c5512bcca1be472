//go:build app

package apptest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// oneLog writes the rows of splits as one CSV log, and the catalogue.
func oneLog(t *testing.T) (log, items string) {
	t.Helper()
	train, _, test, items := splits(t)
	var all []byte
	for _, path := range []string{train, test} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if all != nil {
			b = bytes.TrimPrefix(b, []byte(csvHeader))
		}
		all = append(all, b...)
	}
	return write(t, "log.csv", string(all)), items
}

func reportOf(t *testing.T, dir string) map[string]any {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r map[string]any
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestReplayOfATopicEqualsThatOfItsFile: the same events from a file and from a topic of several partitions give the same figures,
// and neither the topic, nor a group, nor the data folder's store hears of it.
func TestReplayOfATopicEqualsThatOfItsFile(t *testing.T) {
	log, items := oneLog(t)
	config := write(t, "mf.yaml", "cf: {kind: mf, factors: 4}\nllm: {file: \"off\"}\n")
	data := t.TempDir()
	ok(t, "produce", log, "-c", config, "--data", data)
	ok(t, "produce", items, "-c", config, "--data", data)
	common := []string{"-c", config, "--models", "bias,cf,popularity", "--bootstraps", "20", "--epochs", "2"}
	fromFile, fromTopic := t.TempDir(), t.TempDir()
	ok(t, append([]string{"replay", "--log", log, "--items", items, "--out", fromFile}, common...)...)
	before := folderList(t, filepath.Join(data, "broker"))
	ok(t, append([]string{"replay", "--topic", "corastream.interactions", "--data", data, "--out", fromTopic}, common...)...)
	if after := folderList(t, filepath.Join(data, "broker")); after != before {
		t.Errorf("the broker's files before:\n%s\nafter:\n%s", before, after)
	}
	if _, err := os.Stat(filepath.Join(data, "store")); !os.IsNotExist(err) {
		t.Errorf("a replay made a store: %v", err)
	}
	a, b := reportOf(t, fromFile), reportOf(t, fromTopic)
	if a["mode"] != "prequential" {
		t.Errorf("mode %v", a["mode"])
	}
	for _, model := range []string{"bias", "cf", "popularity"} {
		x, y := a["test"].(map[string]any)[model].(map[string]any), b["test"].(map[string]any)[model].(map[string]any)
		for _, key := range []string{"rows", "users", "ranked"} {
			if x[key] != y[key] {
				t.Errorf("%s %s: %v from the file, %v from the topic", model, key, x[key], y[key])
			}
		}
		// Rows of one second have another order between partitions, so sums differ in their last bits.
		for _, key := range []string{"auc", "uauc", "logloss"} {
			u, okU := x[key].(float64)
			v, okV := y[key].(float64)
			if okU != okV || u-v > .01 || v-u > .01 {
				t.Errorf("%s %s: %v from the file, %v from the topic", model, key, x[key], y[key])
			}
		}
	}
	if got := b["manifest"].(map[string]any)["range"]; got == nil || !strings.Contains(got.(string), "corastream.interactions/0 [0, ") {
		t.Errorf("range %v", got)
	}
	again := t.TempDir()
	ok(t, append([]string{"replay", "--topic", "corastream.interactions", "--data", data, "--out", again}, common...)...)
	x, err := os.ReadFile(filepath.Join(fromTopic, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(filepath.Join(again, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(withoutTiming(t, x), withoutTiming(t, y)) {
		t.Error("two replays of one range differ")
	}
}

// folderList names the logs of a broker's folder and their sizes.
func folderList(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	if err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && strings.HasSuffix(path, ".dat") { // what was appended; the broker keeps snapshots of its own
			fmt.Fprintln(&b, path, info.Size())
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if b.Len() == 0 {
		t.Fatalf("no log in %s: this test looks at nothing", dir)
	}
	return b.String()
}

// TestReplayRangeAndDryRun: bounds by offset and time, and the plan without --out.
func TestReplayRangeAndDryRun(t *testing.T) {
	log, items := oneLog(t)
	data := t.TempDir()
	ok(t, "produce", log, "--data", data)
	plan := func(args ...string) map[string]any {
		return ok(t, append([]string{"replay", "--llm", "off", "--topic", "corastream.interactions", "--items", items, "--data", data, "--dry-run"}, args...)...).last(t)
	}
	all := plan()
	if all["learnt"].(float64)+all["scored"].(float64) != 3500 || all["items"] != 60. {
		t.Errorf("plan %v", all)
	}
	part := plan("--from", "10", "--to", "50")
	if n := part["learnt"].(float64) + part["scored"].(float64); n != 160 { // four partitions
		t.Errorf("%v rows in offsets 10 to 50 of four partitions", n)
	}
	if n := plan("--from", "last=1h")["learnt"].(float64); n != all["learnt"] {
		t.Errorf("%v rows of the last hour are learnt, want %v", n, all["learnt"])
	}
	if n := plan("--from", time.Now().Add(time.Hour).Format(time.RFC3339))["learnt"].(float64); n != 0 {
		t.Errorf("%v rows of the future", n)
	}
	for name, args := range map[string][]string{
		"--from":      {"--from", "noon"},
		"--study":     {"--study", "speed=fast"},
		"--warmup":    {"--warmup", "1"},
		"two logs":    {"--log", log},
		"--items":     {"replay", "--train", log, "--valid", log},
		"no argument": {"replay", "--dry-run", "file.csv"},
	} {
		if args[0] != "replay" {
			args = append([]string{"replay", "--topic", "corastream.interactions", "--items", items, "--data", data, "--dry-run"}, args...)
		}
		if r := call(t, args...); r.code != 2 || !strings.Contains(r.stderr, name) {
			t.Errorf("%s: exit %d, %s", name, r.code, r.stderr)
		}
	}
	r := call(t, "replay", "--llm", "off", "--topic", "corastream.interactions", "--items", items, "--data", data, "--from", "latest", "--out", t.TempDir())
	if r.code != 2 || !strings.Contains(r.stderr, "--dry-run") {
		t.Errorf("an empty range: exit %d, %s", r.code, r.stderr)
	}
}

// TestReplaySpeedHoldsReadingBack: results are those of full speed.
func TestReplaySpeedHoldsReadingBack(t *testing.T) {
	log, items := oneLog(t)
	run := func(speed string) (string, time.Duration) {
		dir, began := t.TempDir(), time.Now()
		ok(t, "replay", "--llm", "off", "--log", log, "--items", items, "--models", "bias", "--bootstraps", "0", "--study", "rank-rows=0,speed="+speed, "--out", dir)
		b, err := os.ReadFile(filepath.Join(dir, "report.json"))
		if err != nil {
			t.Fatal(err)
		}
		return string(withoutTiming(t, b)), time.Since(began)
	}
	fast, _ := run("max")
	held, took := run("6000") // the log is 3,250 seconds long
	if took < 500*time.Millisecond || fast != held {
		t.Errorf("%v at 6000 times; equal reports: %v", took, fast == held)
	}
}

// TestReplayComparesTwoConfigurations: paired differences, each side's own report, and a refusal where labels differ.
func TestReplayComparesTwoConfigurations(t *testing.T) {
	log, items := oneLog(t)
	a := write(t, "a.yaml", "cf: {kind: mf, factors: 4}\nllm: {file: \"off\"}\n")
	b := write(t, "b.yaml", "cf: {kind: bias}\nllm: {file: \"off\"}\n")
	out := t.TempDir()
	r := ok(t, "replay", "--compare", a, b, "--models", "bias,cf", "--log", log, "--items", items, "--bootstraps", "20", "--out", out).last(t)
	d := r["differences"].(map[string]any)
	if d["bias"].(map[string]any)["auc"] != 0. || d["cf"].(map[string]any)["auc"] == 0. || r["first"] != "a" || r["second"] != "b" {
		t.Errorf("%v", r)
	}
	for _, name := range []string{"compare.html", "first/report.html", "second/report.json"} {
		if _, err := os.Stat(filepath.Join(out, name)); err != nil {
			t.Error(err)
		}
	}
	ratings := write(t, "r.csv", "user_id,item_id,rating,timestamp\nu1,i1,3,1\nu1,i2,5,2\nu2,i1,5,3\nu2,i2,3,4\n")
	strict := write(t, "c.yaml", "cf: {kind: bias}\nllm: {file: \"off\"}\nkafka: {rating_threshold: 2}\n")
	if r := call(t, "replay", "--compare", b, strict, "--log", ratings, "--items", items, "--warmup", "0.5", "--out", t.TempDir()); r.code != 2 || !strings.Contains(r.stderr, "rating_threshold") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	if r := call(t, "replay", "--compare", a, "--log", log, "--items", items, "--out", t.TempDir()); r.code != 2 || !strings.Contains(r.stderr, "--compare") {
		t.Errorf("one configuration: exit %d: %s", r.code, r.stderr)
	}
}

// TestListsOfAnExploringUpAreWorthAnEstimate: `up` with explore switched on, its recommendations as `consume` prints them, and a
// replay that says what each model would have earned; with explore off, the same lists are refused.
func TestListsOfAnExploringUpAreWorthAnEstimate(t *testing.T) {
	var clicks strings.Builder
	clicks.WriteString(csvHeader)
	began := time.Now().Add(-time.Hour).Unix()
	for n := range 400 {
		fmt.Fprintf(&clicks, "u%d,i%d,%d,%d\n", n%20, n*n%7+n%30, n*7%5/3, began+int64(n))
	}
	var catalogue strings.Builder
	catalogue.WriteString("item_id,title\n")
	for i := range 60 {
		fmt.Fprintf(&catalogue, "i%d,%q\n", i, title(i))
	}
	log, items := write(t, "clicks.csv", clicks.String()), write(t, "items.csv", catalogue.String())
	estimate := func(explore string) result {
		config := write(t, "explore.yaml", noLLM+"http: {listen: \"127.0.0.1:0\"}\nbroker: {listen: \"127.0.0.1:0\"}\n"+explore)
		data := t.TempDir()
		ok(t, "produce", items, "-c", config, "--data", data)
		ok(t, "produce", log, "-c", config, "--data", data)
		ok(t, "up", "-c", config, "--data", data, "--exit-when-idle")
		broker := start(t, "up", "-c", config, "--data", data)
		broker.url(t)
		lists := write(t, "lists.jsonl", ok(t, "consume", "-c", config, "--data", data).stdout)
		broker.kill()
		return call(t, "replay", "-c", config, "--log", log, "--items", items, "--lists", lists, "--models", "cf,popularity", "--bootstraps", "20",
			"--out", t.TempDir())
	}
	r := estimate("explore: {policy: epsilon, epsilon: 0.3}\n")
	if r.code != 0 {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	o, _ := r.last(t)["off_policy"].(map[string]any)
	if o == nil || o["lists"].(float64) < 10 || o["explored"] != o["lists"] || len(o["policies"].([]any)) != 2 {
		t.Errorf("off_policy %v", o)
	}
	if r := estimate(""); r.code != 2 || !strings.Contains(r.stderr, "explore:") {
		t.Errorf("lists without exploration: exit %d, %s", r.code, r.stderr)
	}
}

// TestReplayOfASmallCatalogue: fewer items than content has components, as a newcomer's trial file may hold.
func TestReplayOfASmallCatalogue(t *testing.T) {
	items := write(t, "items.csv", "item_id,title\na,A Harbour\nb,B\nc,C\n")
	var log strings.Builder
	log.WriteString(csvHeader)
	for n := range 60 {
		fmt.Fprintf(&log, "u%d,%c,%d,%d\n", n%5, 'a'+n*n%3, n%7%2, firstTime+n)
	}
	config := write(t, "small.yaml", tinyConfig(tinyLLM(t, 3), ""))
	r := ok(t, "replay", "-c", config, "--log", write(t, "log.csv", log.String()), "--items", items, "--bootstraps", "10", "--models", "bias,cf",
		"--data", t.TempDir(), "--out", t.TempDir())
	if !strings.Contains(r.stderr, "too few items") {
		t.Errorf("nothing is said of it: %s", r.stderr)
	}
}
