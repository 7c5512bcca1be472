//go:build app

package apptest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// splits writes the CSV files of a small world in which users and items have leanings, so that there is something to learn.
func splits(t *testing.T) (train, valid, test, items string) {
	t.Helper()
	r := rand.New(rand.NewPCG(4, 4))
	const users, count = 40, 60
	var u [users]float64
	var it [count]float64
	for i := range u {
		u[i] = r.NormFloat64()
	}
	for i := range it {
		it[i] = 1.5 * r.NormFloat64()
	}
	rows := func(n, from int) string {
		var b strings.Builder
		b.WriteString(csvHeader)
		for k := range n {
			x, y := r.IntN(users), r.IntN(count)
			label := 0
			if r.Float64() < 1/(1+math.Exp(-u[x]-it[y])) {
				label = 1
			}
			fmt.Fprintf(&b, "u%d,i%d,%d,%d\n", x, y, label, firstTime+from+k/2)
		}
		return b.String()
	}
	var c strings.Builder
	c.WriteString("item_id,title\n")
	for i := range count {
		fmt.Fprintf(&c, "i%d,%q\n", i, title(i))
	}
	return write(t, "train.csv", rows(3000, 0)), write(t, "valid.csv", rows(500, 2000)), write(t, "test.csv", rows(500, 3000)), write(t, "items.csv", c.String())
}

// TestReplayTwiceGivesEqualBytes: report.json has the contract's keys in their order, and two runs differ in timing alone.
func TestReplayTwiceGivesEqualBytes(t *testing.T) {
	train, valid, test, items := splits(t)
	mf := write(t, "mf.yaml", "cf: {kind: mf, factors: 4}\n")
	for _, mode := range []string{"static", "prequential"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			var reports [2][]byte
			for i := range reports {
				out := filepath.Join(t.TempDir(), "report")
				r := ok(t, "replay", "-c", mf, "--llm", "off", "--mode", mode, "--models", "bias,cf", "--bootstraps", "50", "--epochs", "2",
					"--train", train, "--valid", valid, "--test", test, "--items", items, "--out", out)
				b, err := os.ReadFile(filepath.Join(out, "report.json"))
				if err != nil {
					t.Fatal(err)
				}
				if page, err := os.ReadFile(filepath.Join(out, "report.html")); err != nil || !bytes.Contains(page, []byte("<html")) {
					t.Errorf("report.html: %d bytes, %v", len(page), err)
				}
				if sum := r.last(t); sum["mode"] != mode || sum["test"] == nil {
					t.Errorf("the last line is not the report: %v", sum)
				}
				checkReport(t, mode, b)
				reports[i] = withoutTiming(t, b)
			}
			if !bytes.Equal(reports[0], reports[1]) {
				t.Errorf("two runs differ:\n%s\n%s", reports[0], reports[1])
			}
		})
	}
}

func withoutTiming(t *testing.T, b []byte) []byte {
	t.Helper()
	at := bytes.LastIndex(b, []byte(`"timing"`))
	if at < 0 {
		t.Fatalf("no timing in %s", b)
	}
	return b[:at]
}

func checkReport(t *testing.T, mode string, b []byte) {
	t.Helper()
	at := -1
	for _, key := range []string{"mode", "test", "valid", "paired", "manifest", "timing"} {
		next := bytes.Index(b, []byte("\n  \""+key+"\":"))
		if next <= at {
			t.Errorf("report.json: %q is missing or not in its place", key)
		}
		at = next
	}
	var r struct {
		Mode        string
		Test, Valid map[string]map[string]any
		Paired      map[string]map[string]any
		Manifest    map[string]string
		Timing      map[string]float64
	}
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	if r.Mode != mode || r.Timing["events_per_s"] <= 0 || len(r.Manifest) == 0 {
		t.Errorf("mode %q, timing %v, manifest %v", r.Mode, r.Timing, r.Manifest)
	}
	for split, models := range map[string]map[string]map[string]any{"test": r.Test, "valid": r.Valid} {
		for _, model := range []string{"bias", "cf"} {
			f := models[model]
			for _, key := range []string{"rows", "users", "auc", "auc_ci", "uauc", "uauc_ci", "logloss", "ndcg10", "slices"} {
				if f[key] == nil {
					t.Errorf("%s.%s has no %s", split, model, key)
				}
			}
			if auc, _ := f["auc"].(float64); f["rows"] != 500. || auc < .6 {
				t.Errorf("%s.%s: %v rows, AUC %v: this world can be learnt", split, model, f["rows"], f["auc"])
			}
			ci, _ := f["auc_ci"].([]any)
			if len(ci) != 2 || ci[0].(float64) > f["auc"].(float64) || ci[1].(float64) < f["auc"].(float64) {
				t.Errorf("%s.%s: AUC %v is not in %v", split, model, f["auc"], ci)
			}
		}
	}
	for _, key := range []string{"auc", "auc_ci", "uauc", "uauc_ci"} {
		if r.Paired["cf-bias"][key] == nil {
			t.Errorf("paired cf-bias has no %s: %v", key, r.Paired)
		}
	}
}

// TestLabelDelayChangesWhatIsKnown: in prequential mode a label is learnt when its delay is over, not before.
func TestLabelDelayChangesWhatIsKnown(t *testing.T) {
	train, _, test, items := splits(t)
	loss := func(delay string) float64 {
		r := ok(t, "replay", "-c", write(t, "bias.yaml", "cf: {kind: bias}\n"), "--llm", "off", "--mode", "prequential", "--models", "cf", "--bootstraps", "0",
			"--epochs", "1", "--label-delay", delay, "--train", train, "--test", test, "--items", items, "--out", t.TempDir()).last(t)
		return r["test"].(map[string]any)["cf"].(map[string]any)["logloss"].(float64)
	}
	if now, late := loss("0s"), loss("8760h"); now == late {
		t.Errorf("log loss %v with labels at once and after a year", now)
	}
}

// TestBenchPrintsJSONLines: one line for each case, the figures in it.
func TestBenchPrintsJSONLines(t *testing.T) {
	lines := jsonLines(t, ok(t, "bench", "learn", "--seconds", "0.2").stdout)
	if len(lines) < 2 {
		t.Fatalf("bench learn: %v", lines)
	}
	for _, l := range lines {
		if l["bench"] != "learn" || l["events_per_s"].(float64) <= 0 {
			t.Errorf("bench learn: %v", l)
		}
	}
	file := tinyLLM(t, 1)
	h := newHome(t, "", tinyConfig(file, ""))
	h.amend(t, "checkpoint: \"\"", "checkpoint: "+untrained(t, h.config, 40, nil))
	for _, name := range []string{"llm", "generator", "freshness"} {
		lines := jsonLines(t, ok(t, "bench", name, "--seconds", "0.1", "-c", h.config).stdout)
		if len(lines) == 0 || lines[len(lines)-1]["bench"] != name {
			t.Errorf("bench %s: %v", name, lines)
		}
	}
}
