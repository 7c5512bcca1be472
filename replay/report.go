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
	// Freshness is the ablation over label delays, Seeds the spread over starts; both only when asked for.
	Freshness []Fresh  `json:"freshness,omitempty"`
	Seeds     []Spread `json:"seeds,omitempty"`
	// OffPolicy is what each model would have earned on logged lists; only where a log with propensities was given.
	OffPolicy *OffPolicy `json:"off_policy,omitempty"`
	// Cluster is how the log was divided; only where more than one shard learnt.
	Cluster *Cluster `json:"cluster,omitempty"`
	// Configurations is how many (model, mode, delay, seed) were scored on these rows: what a reader must know to judge the best.
	Configurations int               `json:"configurations"`
	Manifest       map[string]string `json:"manifest"`
	Timing         map[string]Number `json:"timing"`
}

// Figures are one model's on one split.
type Figures struct {
	Rows      int    `json:"rows"`
	Users     int    `json:"users"`
	AUC       Number `json:"auc"`
	AUCCI     Range  `json:"auc_ci"`
	UAUC      Number `json:"uauc"`
	UAUCCI    Range  `json:"uauc_ci"`
	UAUCUsers int    `json:"uauc_users"` // users with both labels
	// UAUCNoUserBias is UAUC of the score less its part that is the user's alone (b_u). That part can not order a user's items,
	// but where labels stream in it moves between that user's rows and so moves UAUC; null for models without one.
	UAUCNoUserBias   Number `json:"uauc_no_user_bias"`
	UAUCNoUserBiasCI Range  `json:"uauc_no_user_bias_ci"`
	LogLoss          Number `json:"logloss"` // null for scores that are no logits
	NDCG10           Number `json:"ndcg10"`  // of the user's evaluated rows among themselves
	// OneLabel says that the rows are all positive or all not, so that AUC and all that is about probabilities is null.
	OneLabel bool `json:"one_label,omitempty"`
	// Next is what a list is worth; nil where the model ranks nothing. For llm and cora, among CF's best rank_llm items.
	Next *Next `json:"next,omitempty"`
	// NDCG10All, HR10All and Ranked are Next's ndcg10, hr10 and rows under the names that they had before.
	NDCG10All   Number `json:"ndcg10_all"`
	NDCG10AllCI Range  `json:"ndcg10_all_ci"`
	HR10All     Number `json:"hr10_all"`
	Ranked      int    `json:"ranked"`
	*Quality
	Slices map[string]Slice `json:"slices"`
}

// Slice is a part of a split. Intervals are made for those of intervalSlices.
type Slice struct {
	Rows      int    `json:"rows"`
	Users     int    `json:"users"`
	AUC       Number `json:"auc"`
	AUCCI     *Range `json:"auc_ci,omitempty"`
	UAUC      Number `json:"uauc"`
	UAUCCI    *Range `json:"uauc_ci,omitempty"`
	LogLoss   Number `json:"logloss"`
	NDCG10All Number `json:"ndcg10_all"`
}

// Difference is the first model less the second. NDCG10 and HR10 are those of Next; NDCG10All is NDCG10 under the name it had before.
type Difference struct {
	NDCG10           Number `json:"ndcg10"`
	NDCG10CI         Range  `json:"ndcg10_ci"`
	HR10             Number `json:"hr10"`
	HR10CI           Range  `json:"hr10_ci"`
	AUC              Number `json:"auc"`
	AUCCI            Range  `json:"auc_ci"`
	UAUC             Number `json:"uauc"`
	UAUCCI           Range  `json:"uauc_ci"`
	UAUCNoUserBias   Number `json:"uauc_no_user_bias"`
	UAUCNoUserBiasCI Range  `json:"uauc_no_user_bias_ci"`
	NDCG10All        Number `json:"ndcg10_all"`
	NDCG10AllCI      Range  `json:"ndcg10_all_ci"`
	// Slices are the differences within parts of the split.
	Slices map[string]SliceDifference `json:"slices,omitempty"`
}

// SliceDifference is a Difference within a slice.
type SliceDifference struct {
	AUC    Number `json:"auc"`
	AUCCI  Range  `json:"auc_ci"`
	UAUC   Number `json:"uauc"`
	UAUCCI Range  `json:"uauc_ci"`
}

// worthComparing says which pairs get a difference: every model against the yardsticks, mix and cora against every model, and the CF
// model on one content against the same on another.
func worthComparing(a, b string, order func(string) int) bool {
	switch {
	case a == b:
		return false
	case b == Mix && (isList(a) || steered(a)), a == All && (b == Cora || b == Words), a == Cora && b == Words:
		return true
	case strings.HasPrefix(a, Cora) && a != Cora:
		return false
	case b == Words || b == All:
		return false
	case a == Mix:
		return !steered(b)
	case a == Cora:
		return true
	case b == Mix:
		return false
	case b == Cora || b == LLM:
		return a == Stack && b == LLM
	case contentOf(a) != "" && contentOf(b) != "":
		return order(a) < order(b)
	case a == Bias || a == CF && contentOf(b) == "":
		return a == CF && b == Bias
	}
	return b == Bias || b == CF || b == Popularity
}

// report judges all scores, split by split.
func (c Config) report(data Data, d Deps, rows []row, outcomes map[string]outcome) *Report {
	r := &Report{Mode: c.Mode, Manifest: c.manifest(data, d)}
	var paired map[string]Difference
	if c.Sharding.Shards > 1 {
		r.Cluster = &Cluster{c.Sharding, c.Sharding.SyncEvery.String(), c.Sharding.Staleness()}
		r.Manifest["sharding"] = c.Sharding.String()
	}
	if len(data.Valid) > 0 {
		d.progress("judge valid", 0, c.Bootstraps)
		r.Valid, paired = c.judgeSplit(rows, outcomes, false)
		r.Paired = paired
	}
	if len(data.Test) > 0 {
		d.progress("judge test", 0, c.Bootstraps)
		r.PairedValid = paired
		r.Test, r.Paired = c.judgeSplit(rows, outcomes, true)
	}
	return r
}

// part is the rows of one split.
type part struct {
	rows     []row
	at       []int // their places among all rows
	test     bool
	user     []int32
	users    int
	positive []bool
	both     bool // the rows have both labels
	slices   map[string][]int
	// nextSlices are those of the next-item figures.
	nextSlices map[string][]int
}

// judges says whether there is something to judge a model's scores by.
func (p part) judges(o outcome) bool { return p.both && !o.silent }

func partOf(all []row, test bool) part {
	p := part{test: test}
	for i := range all {
		if all[i].test == test {
			p.rows, p.at = append(p.rows, all[i]), append(p.at, i)
		}
	}
	p.user, p.users = numbered(p.rows)
	p.positive = make([]bool, len(p.rows))
	for i := range p.rows {
		p.positive[i] = p.rows[i].Positive()
	}
	p.both = slices.Contains(p.positive, true) && slices.Contains(p.positive, false)
	p.slices, p.nextSlices = slicesOf(p.rows), nextSlicesOf(p.rows)
	return p
}

// of cuts an outcome down to the part's rows.
func (p part) of(o outcome) outcome {
	cut := func(v []float64) []float64 {
		if v == nil {
			return nil
		}
		out := make([]float64, len(p.at))
		for i, from := range p.at {
			out[i] = v[from]
		}
		return out
	}
	return outcome{score: cut(o.score), alone: cut(o.alone), gain: cut(o.gain), hit: cut(o.hit), ranks: o.ranks.of(p.at, p.test), logit: o.logit, silent: o.silent}
}

// figures of one model, intervals aside.
func (p part) figures(o outcome, j measured) Figures {
	f := Figures{
		Rows: len(p.rows), Users: p.users, AUC: nan, LogLoss: nan, NDCG10: nan, UAUCNoUserBias: nan, OneLabel: !p.both, Next: p.next(o, j),
		Slices: map[string]Slice{},
	}
	if p.judges(o) {
		f.AUC, f.NDCG10 = Number(AUC(o.score, p.positive)), Number(NDCG(o.score, p.positive, p.user, 10))
	}
	uauc, n := meanOf(j.auc)
	f.UAUC, f.UAUCUsers = Number(uauc), n
	if j.plain != nil {
		uauc, _ = meanOf(j.plain)
		f.UAUCNoUserBias = Number(uauc)
	}
	if o.logit && p.judges(o) {
		f.LogLoss = Number(LogLoss(o.score, p.positive))
	}
	ndcg, ranked := meanOf(o.gain)
	hr, _ := meanOf(o.hit)
	f.NDCG10All, f.HR10All, f.Ranked = Number(ndcg), Number(hr), ranked
	for name, members := range p.slices {
		f.Slices[name] = p.slice(o, members)
	}
	return f
}

func (c Config) judgeSplit(all []row, outcomes map[string]outcome, test bool) (map[string]Figures, map[string]Difference) {
	p := partOf(all, test)
	figures := map[string]Figures{}
	judgements := make([]measured, len(c.Models))
	for i, m := range c.Models {
		o := p.of(outcomes[m])
		judgements[i] = measure(o, p)
		f := p.figures(o, judgements[i])
		f.Quality = p.quality(o)
		figures[m] = f
	}
	draws := bootstrap(judgements, p.user, c.Bootstraps, c.Seed)
	for i, m := range c.Models {
		f := figures[m]
		d := draws[i]
		f.AUCCI, f.UAUCCI, f.UAUCNoUserBiasCI, f.NDCG10AllCI = interval(d.auc), interval(d.uauc), interval(d.plain), interval(d.ndcg)
		f.Next.within(d)
		for name, s := range d.slices {
			v := f.Slices[name]
			auc, uauc := interval(s.auc), interval(s.uauc)
			v.AUCCI, v.UAUCCI = &auc, &uauc
			f.Slices[name] = v
		}
		figures[m] = f
	}
	order := func(m string) int { return slices.Index(c.Models, m) }
	paired := map[string]Difference{}
	for a, first := range c.Models {
		for b, second := range c.Models {
			if worthComparing(first, second, order) {
				paired[first+"-"+second] = difference(figures[first], figures[second], draws[a], draws[b])
			}
		}
	}
	return figures, paired
}

func difference(a, b Figures, da, db drawn) Difference {
	d := Difference{
		AUC: a.AUC - b.AUC, AUCCI: interval(minus(da.auc, db.auc)),
		UAUC: a.UAUC - b.UAUC, UAUCCI: interval(minus(da.uauc, db.uauc)),
		UAUCNoUserBias: a.UAUCNoUserBias - b.UAUCNoUserBias, UAUCNoUserBiasCI: interval(minus(da.plain, db.plain)),
		NDCG10All: a.NDCG10All - b.NDCG10All, NDCG10AllCI: interval(minus(da.ndcg, db.ndcg)),
		HR10: a.HR10All - b.HR10All, HR10CI: interval(minus(da.hit, db.hit)),
	}
	d.NDCG10, d.NDCG10CI = d.NDCG10All, d.NDCG10AllCI
	for name, s := range da.slices {
		if db.slices[name] == nil {
			continue
		}
		if d.Slices == nil {
			d.Slices = map[string]SliceDifference{}
		}
		x, y := a.Slices[name], b.Slices[name]
		d.Slices[name] = SliceDifference{
			AUC: x.AUC - y.AUC, AUCCI: interval(minus(s.auc, db.slices[name].auc)),
			UAUC: x.UAUC - y.UAUC, UAUCCI: interval(minus(s.uauc, db.slices[name].uauc)),
		}
	}
	return d
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
		"models": strings.Join(c.Models, ","), "content": c.Content, "dev": strconv.FormatFloat(c.Dev, 'g', -1, 64), "label_delay": c.LabelDelay.String(), "epochs": strconv.Itoa(c.Epochs),
		"bootstraps": strconv.Itoa(c.Bootstraps), "seed": strconv.FormatUint(c.Seed, 10),
		"task": c.Task, "rank_rows": strconv.Itoa(c.RankRows), "rank_llm": strconv.Itoa(c.RankLLM),
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

// models in the order they were asked for.
func (r *Report) models() []string { return strings.Split(r.Manifest["models"], ",") }

// Table is the report for a terminal: a line for each split and model, then the ablations, then how much was tried.
func (r *Report) Table() string {
	var b strings.Builder
	if s := r.sentence(); s != "" {
		fmt.Fprintln(&b, s)
	}
	r.nextTable(&b)
	r.labelTable(&b)
	if r.Cluster != nil {
		fmt.Fprintln(&b, r.Cluster.Sharding)
	}
	r.freshTable(&b)
	r.seedTable(&b)
	fmt.Fprintf(&b, "Configurations scored on these rows: %d\n", r.Configurations)
	return b.String()
}

// labelTable holds the figures that are about rows of both labels, or says why they are left out.
func (r *Report) labelTable(b *strings.Builder) {
	if why := r.oneLabel(); why != "" {
		fmt.Fprintln(b, why)
		return
	}
	fmt.Fprintf(b, "%-6s %-15s %6s %5s  %-24s %-24s %8s %8s\n", r.Mode[:min(6, len(r.Mode))], "model", "rows", "users", "AUC [95%]", "UAUC [95%]", "no b_u", "logloss")
	r.eachSplit(func(name string, figures map[string]Figures) {
		for _, m := range r.models() {
			if f, ok := figures[m]; ok && !isList(m) && !(steered(m) && math.IsNaN(float64(f.AUC))) {
				fmt.Fprintf(b, "%-6s %-15s %6d %5d  %-24s %-24s %8s %8s\n", name, m, f.Rows, f.Users,
					withRange(f.AUC, f.AUCCI), withRange(f.UAUC, f.UAUCCI), f.UAUCNoUserBias, f.LogLoss)
			}
		}
	})
}

// String has four decimals, a dash when the figure is not defined.
func (n Number) String() string {
	if math.IsNaN(float64(n)) {
		return "-"
	}
	return strconv.FormatFloat(float64(n), 'f', 4, 64)
}

func withRange(n Number, ci Range) string { return fmt.Sprintf("%v [%v, %v]", n, ci[0], ci[1]) }

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
