package replay

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/corastream/corastream"
)

// Number is a figure in the report: six decimals, null when it is not defined (an AUC without both labels).
type Number float64

// MarshalJSON implements json.Marshaler.
func (n Number) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(n)) || math.IsInf(float64(n), 0) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, math.Round(float64(n)*1e6)/1e6, 'f', -1, 64), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *Number) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*n = Number(math.NaN())
		return nil
	}
	v, err := strconv.ParseFloat(string(b), 64)
	*n = Number(v)
	return err
}

// Range is an interval, [low, high].
type Range [2]Number

// Report is report.json, in the order of its keys. Maps are written with sorted keys, so equal runs give equal bytes but for
// Timing.
type Report struct {
	Mode  string             `json:"mode"`
	Test  map[string]Figures `json:"test,omitempty"`
	Valid map[string]Figures `json:"valid,omitempty"`
	// Paired compares two models over the test rows (over the valid rows when there are no others), PairedValid over the
	// valid rows when there are both: the first less the second, on the same bootstrap draws.
	Paired      map[string]Difference `json:"paired"`
	PairedValid map[string]Difference `json:"paired_valid,omitempty"`
	Manifest    map[string]string     `json:"manifest"`
	Timing      map[string]Number     `json:"timing"`
}

// Figures are one model's on one split.
type Figures struct {
	Rows      int              `json:"rows"`
	Users     int              `json:"users"`
	AUC       Number           `json:"auc"`
	AUCCI     Range            `json:"auc_ci"`
	UAUC      Number           `json:"uauc"`
	UAUCCI    Range            `json:"uauc_ci"`
	UAUCUsers int              `json:"uauc_users"` // users with both labels
	LogLoss   Number           `json:"logloss"`
	NDCG10    Number           `json:"ndcg10"`
	Slices    map[string]Slice `json:"slices"`
}

// Slice is a part of a split.
type Slice struct {
	Rows    int    `json:"rows"`
	Users   int    `json:"users"`
	AUC     Number `json:"auc"`
	UAUC    Number `json:"uauc"`
	LogLoss Number `json:"logloss"`
}

// Difference is the first model less the second.
type Difference struct {
	AUC    Number `json:"auc"`
	AUCCI  Range  `json:"auc_ci"`
	UAUC   Number `json:"uauc"`
	UAUCCI Range  `json:"uauc_ci"`
}

// comparisons worth an interval, where both models were run.
var comparisons = [][2]string{
	{CF, Bias}, {Reader, CF}, {Reader, Bias}, {LLM, CF},
	{Cora, CF}, {Cora, Bias}, {Cora, Reader}, {Cora, LLM}, {Cora, CoraShuffled}, {Cora, CoraBlank},
}

// report judges all scores, split by split.
func (c Config) report(data Data, d Deps, rows []row, scores map[string][]float64) *Report {
	r := &Report{Mode: c.Mode, Manifest: c.manifest(data, d)}
	var paired map[string]Difference
	if len(data.Valid) > 0 {
		d.progress("judge valid", 0, c.Bootstraps)
		r.Valid, paired = c.judgeSplit(rows, scores, false)
		r.Paired = paired
	}
	if len(data.Test) > 0 {
		d.progress("judge test", 0, c.Bootstraps)
		r.PairedValid = paired
		r.Test, r.Paired = c.judgeSplit(rows, scores, true)
	}
	return r
}

func (c Config) judgeSplit(all []row, allScores map[string][]float64, test bool) (map[string]Figures, map[string]Difference) {
	var rows []row
	var picked []int
	for i := range all {
		if all[i].test == test {
			rows, picked = append(rows, all[i]), append(picked, i)
		}
	}
	user, users := numbered(rows)
	positive := make([]bool, len(rows))
	for i := range rows {
		positive[i] = rows[i].Positive()
	}
	parts := slicesOf(rows)
	figures := map[string]Figures{}
	var models []string
	var judgements []judged
	for _, m := range Models {
		if !slices.Contains(c.Models, m) {
			continue
		}
		s := make([]float64, len(rows))
		for i, from := range picked {
			s[i] = allScores[m][from]
		}
		f := Figures{Rows: len(rows), Users: users, LogLoss: Number(LogLoss(s, positive)), Slices: map[string]Slice{}}
		uauc, n := UAUC(s, positive, user)
		f.AUC, f.UAUC, f.UAUCUsers = Number(AUC(s, positive)), Number(uauc), n
		f.NDCG10 = Number(NDCG(s, positive, user, 10))
		for name, members := range parts {
			f.Slices[name] = sliceFigures(s, positive, user, members)
		}
		figures[m] = f
		models, judgements = append(models, m), append(judgements, judge(s, positive, user))
	}
	draws := bootstrap(judgements, user, c.Bootstraps, c.Seed)
	for i, m := range models {
		f := figures[m]
		f.AUCCI, f.UAUCCI = interval(draws[i].auc), interval(draws[i].uauc)
		figures[m] = f
	}
	paired := map[string]Difference{}
	for _, pair := range comparisons {
		a, b := slices.Index(models, pair[0]), slices.Index(models, pair[1])
		if a < 0 || b < 0 {
			continue
		}
		fa, fb := figures[pair[0]], figures[pair[1]]
		paired[pair[0]+"-"+pair[1]] = Difference{
			AUC: fa.AUC - fb.AUC, AUCCI: interval(minus(draws[a].auc, draws[b].auc)),
			UAUC: fa.UAUC - fb.UAUC, UAUCCI: interval(minus(draws[a].uauc, draws[b].uauc)),
		}
	}
	return figures, paired
}

// numbered gives each user a dense number, in order of appearance.
func numbered(rows []row) ([]int32, int) {
	number := map[string]int32{}
	out := make([]int32, len(rows))
	for i := range rows {
		n, ok := number[rows[i].User]
		if !ok {
			n = int32(len(number))
			number[rows[i].User] = n
		}
		out[i] = n
	}
	return out, len(number)
}

// manifest says from what the report was made; the caller's entries come on top.
func (c Config) manifest(data Data, d Deps) map[string]string {
	m := map[string]string{
		"models": strings.Join(c.Models, ","), "label_delay": c.LabelDelay.String(), "epochs": strconv.Itoa(c.Epochs),
		"bootstraps": strconv.Itoa(c.Bootstraps), "seed": strconv.FormatUint(c.Seed, 10),
		"history": strconv.Itoa(c.History), "reader_share": strconv.FormatFloat(c.ReaderShare, 'g', -1, 64),
		"paired_rows":  map[bool]string{true: "test", false: "valid"}[len(data.Test) > 0],
		"train_digest": eventsDigest(data.Train), "items_digest": itemsDigest(data.Items),
	}
	if len(data.Valid) > 0 {
		m["valid_digest"] = eventsDigest(data.Valid)
	}
	if len(data.Test) > 0 {
		m["test_digest"] = eventsDigest(data.Test)
	}
	maps.Copy(m, d.Manifest)
	return m
}

// eventsDigest hashes what a replay reads of a log.
func eventsDigest(events []corastream.Event) string {
	h := sha256.New()
	for _, ev := range events {
		fmt.Fprintf(h, "%q %q %v %v %v %d\n", ev.User, ev.Item, ev.Label, ev.Weight, ev.Implicit, ev.Time.UnixMilli())
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func itemsDigest(items []corastream.Item) string {
	h := sha256.New()
	for _, it := range items {
		fmt.Fprintf(h, "%q %q %d %d", it.ID, it.Title, len(it.Fields), len(it.Content))
		for _, k := range slices.Sorted(maps.Keys(it.Fields)) {
			fmt.Fprintf(h, " %q %q", k, it.Fields[k])
		}
		binary.Write(h, binary.LittleEndian, it.Content)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// JSON is report.json.
func (r *Report) JSON() ([]byte, error) {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write report: %w", err)
	}
	return append(b, '\n'), nil
}

// Write makes dir/report.json and dir/report.html; each appears whole or not at all.
func (r *Report) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	for name, render := range map[string]func() ([]byte, error){"report.json": r.JSON, "report.html": r.HTML} {
		b, err := render()
		if err != nil {
			return err
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+".tmp", b, 0o644); err != nil {
			return fmt.Errorf("write report: %w", err)
		}
		if err := os.Rename(path+".tmp", path); err != nil {
			return fmt.Errorf("write report: %w", err)
		}
	}
	return nil
}

// Table is the report for a terminal: a line for each split and model.
func (r *Report) Table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-6s %-14s %7s %6s  %-24s %-24s %8s %8s\n", r.Mode[:min(6, len(r.Mode))], "model", "rows", "users",
		"AUC [95%]", "UAUC [95%]", "logloss", "NDCG@10")
	for _, split := range []struct {
		name    string
		figures map[string]Figures
	}{{"valid", r.Valid}, {"test", r.Test}} {
		for _, m := range Models {
			if f, ok := split.figures[m]; ok {
				fmt.Fprintf(&b, "%-6s %-14s %7d %6d  %-24s %-24s %8.4f %8.4f\n", split.name, m, f.Rows, f.Users,
					withRange(f.AUC, f.AUCCI), withRange(f.UAUC, f.UAUCCI), f.LogLoss, f.NDCG10)
			}
		}
	}
	return b.String()
}

func withRange(n Number, ci Range) string { return fmt.Sprintf("%.4f [%.4f, %.4f]", n, ci[0], ci[1]) }

// timing collects what may differ between equal runs.
type timing struct {
	learnt   int
	learning time.Duration
	figures  map[string]Number
}

func (t *timing) add(name string, v float64) {
	if t.figures == nil {
		t.figures = map[string]Number{}
	}
	t.figures[name] = Number(v)
}

func (t *timing) eventsPerS() float64 { return float64(t.learnt) / max(t.learning.Seconds(), 1e-9) }
