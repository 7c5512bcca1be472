package replay

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Fresh is one line of the freshness ablation: a model that learns each label `Delay` after its row, beside the same model that
// learns nothing after train ("frozen", and it has no difference). Test is set where the rows are test's.
type Fresh struct {
	Model     string      `json:"model"`
	Delay     string      `json:"delay"`
	Test      bool        `json:"test"`
	Figures   FreshFigure `json:"figures"`
	LessFrost *Difference `json:"fresh_minus_frozen,omitempty"`
}

// FreshFigure are the figures that freshness can move.
type FreshFigure struct {
	AUC            Number `json:"auc"`
	UAUC           Number `json:"uauc"`
	UAUCNoUserBias Number `json:"uauc_no_user_bias"`
	NDCG10All      Number `json:"ndcg10_all"`
	HR10All        Number `json:"hr10_all"`
	Next           *Next  `json:"next,omitempty"`
}

// frozen names the line without learning, userLive and modelLive those of the mixture's halves.
const (
	frozen    = "frozen"
	userLive  = "user live, model frozen"
	modelLive = "model live, user frozen"
)

// name is what a freshness line calls a pass.
func (p pass) name() string {
	switch {
	case p.half == halfUser:
		return userLive
	case p.half == halfModel:
		return modelLive
	case !p.learn:
		return frozen
	}
	return delayName(p.delay)
}

// freshness replays every model once for each delay and once frozen, on the same rows and the same bootstrap draws.
func (e *evaluation) freshness(ctx context.Context) ([]Fresh, error) {
	if len(e.Freshness) == 0 {
		return nil, nil
	}
	passes := []pass{e.pass(Static, 0, 0)}
	for _, d := range e.Freshness {
		passes = append(passes, e.pass(Prequential, d, 0))
	}
	whole := len(passes)
	if slices.Contains(e.Models, Mix) {
		passes = append(passes, pass{learn: true, half: halfUser}, pass{learn: true, half: halfModel})
	}
	given := make([]map[string]outcome, len(passes))
	for i, p := range passes {
		models := e.Models
		if i >= whole {
			models = []string{Mix}
		}
		var err error
		if given[i], err = e.run(ctx, p, models); err != nil {
			return nil, fmt.Errorf("freshness %s: %w", p.name(), err)
		}
	}
	var out []Fresh
	for _, test := range []bool{false, true} {
		p := partOf(e.rows, test)
		if len(p.rows) == 0 {
			continue
		}
		for _, m := range e.Models {
			var judgements []measured
			var figures []Figures
			lines := passes
			if m != Mix {
				lines = passes[:whole]
			}
			for i := range lines {
				o := p.of(given[i][m])
				judgements = append(judgements, measure(o, p))
				figures = append(figures, p.figures(o, judgements[i]))
			}
			draws := bootstrap(judgements, p.user, e.Bootstraps, e.Config.Seed)
			for i, f := range figures {
				f.Next.within(draws[i])
				line := Fresh{Model: m, Delay: lines[i].name(), Test: test, Figures: FreshFigure{f.AUC, f.UAUC, f.UAUCNoUserBias, f.NDCG10All, f.HR10All, f.Next}}
				if i > 0 {
					d := difference(f, figures[0], draws[i], draws[0])
					line.LessFrost = &d
				}
				out = append(out, line)
			}
		}
	}
	return out, nil
}

// delayName writes 24h0m0s as 1d.
func delayName(d time.Duration) string {
	if d > 0 && d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
	s := d.String()
	s = strings.TrimSuffix(s, "0s")
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	if s == "" {
		return "0s"
	}
	return s
}

// ParseDelays reads "0s,1m,1h,1d".
func ParseDelays(list string) ([]time.Duration, error) {
	var out []time.Duration
	for _, s := range strings.Split(list, ",") {
		s = strings.TrimSpace(s)
		unit := time.Duration(1)
		if days, ok := strings.CutSuffix(s, "d"); ok {
			s, unit = days+"h", 24
		}
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 || d > 8760*time.Hour {
			return nil, fmt.Errorf("%q is not a delay like 0s, 1m, 1h or 1d, of at most 365d", s)
		}
		out = append(out, d*unit)
	}
	return out, nil
}

// Spread is a model's figures over several starts.
type Spread struct {
	Model          string `json:"model"`
	Test           bool   `json:"test"`
	Seeds          int    `json:"seeds"`
	AUC            Over   `json:"auc"`
	UAUC           Over   `json:"uauc"`
	UAUCNoUserBias Over   `json:"uauc_no_user_bias"`
	NDCG10All      Over   `json:"ndcg10_all"`
}

// Over sums up one figure over the seeds.
type Over struct {
	Mean Number `json:"mean"`
	SD   Number `json:"sd"` // of a sample: over n-1
	Min  Number `json:"min"`
	Max  Number `json:"max"`
}

func over(v []Number) Over {
	o := Over{Min: Number(math.Inf(1)), Max: Number(math.Inf(-1))}
	for _, x := range v {
		o.Mean += x / Number(len(v))
		o.Min, o.Max = min(o.Min, x), max(o.Max, x)
	}
	for _, x := range v {
		o.SD += (x - o.Mean) * (x - o.Mean) / Number(max(1, len(v)-1))
	}
	o.SD = Number(math.Sqrt(float64(o.SD)))
	return o
}

// seeds replays the CF models from several starts, in the run's own mode.
func (e *evaluation) seeds(ctx context.Context) ([]Spread, error) {
	if e.Seeds < 2 {
		return nil, nil
	}
	var models []string
	for _, m := range e.Models {
		if isLearner(m) {
			models = append(models, m)
		}
	}
	given := make([]map[string]outcome, e.Seeds)
	for s := range given {
		var err error
		if given[s], err = e.run(ctx, e.pass(e.Mode, e.LabelDelay, uint64(s)), models); err != nil {
			return nil, fmt.Errorf("seed %d: %w", s, err)
		}
	}
	var out []Spread
	for _, test := range []bool{false, true} {
		p := partOf(e.rows, test)
		if len(p.rows) == 0 {
			continue
		}
		for _, m := range models {
			var auc, uauc, plain, ndcg []Number
			for s := range given {
				o := p.of(given[s][m])
				f := p.figures(o, measure(o, p))
				auc, uauc, plain, ndcg = append(auc, f.AUC), append(uauc, f.UAUC), append(plain, f.UAUCNoUserBias), append(ndcg, f.NDCG10All)
			}
			out = append(out, Spread{m, test, e.Seeds, over(auc), over(uauc), over(plain), over(ndcg)})
		}
	}
	return out, nil
}

func (r *Report) freshTable(b *strings.Builder) {
	if len(r.Freshness) == 0 {
		return
	}
	fmt.Fprintf(b, "\nfreshness: each label learnt after a delay, less the same model frozen after train\n%-6s %-15s %-7s %7s %7s %7s %7s  %-26s %-26s %-26s\n",
		"rows", "model", "delay", "AUC", "UAUC", "no b_u", "NDCG@10", "AUC less frozen", "UAUC (without b_u)", "NDCG@10")
	for _, f := range r.Freshness {
		fmt.Fprintf(b, "%-6s %-15s %-7s %7v %7v %7v %7v", splitName(f.Test), f.Model, f.Delay, f.Figures.AUC, f.Figures.UAUC, f.Figures.UAUCNoUserBias, f.Figures.NDCG10All)
		if d := f.LessFrost; d != nil {
			within := withRange(d.UAUCNoUserBias, d.UAUCNoUserBiasCI)
			if math.IsNaN(float64(d.UAUCNoUserBias)) { // no b_u to leave out
				within = withRange(d.UAUC, d.UAUCCI)
			}
			fmt.Fprintf(b, "  %-26s %-26s %-26s", withRange(d.AUC, d.AUCCI), within, withRange(d.NDCG10All, d.NDCG10AllCI))
		}
		b.WriteByte('\n')
	}
}

func (r *Report) seedTable(b *strings.Builder) {
	if len(r.Seeds) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%d starts: mean and standard deviation\n", r.Seeds[0].Seeds)
	for _, s := range r.Seeds {
		fmt.Fprintf(b, "%-6s %-15s AUC %v +- %v  UAUC %v +- %v  NDCG@10 %v +- %v\n", splitName(s.Test), s.Model, s.AUC.Mean, s.AUC.SD,
			s.UAUC.Mean, s.UAUC.SD, s.NDCG10All.Mean, s.NDCG10All.SD)
	}
}

func splitName(test bool) string {
	if test {
		return "test"
	}
	return "valid"
}
