package train

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/generator"
)

// TestFiguresEqualComparingAllPairs: AUC with ties, and the mean over users that have both labels.
func TestFiguresEqualComparingAllPairs(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var rows []row
	var scores []float64
	for range 200 {
		user := string(rune('a' + r.IntN(7)))
		x := row{label: float32(r.IntN(2)), pair: corastream.Pair{UserID: user}}
		if user == "a" {
			x.label = 1 // no negatives: not counted
		}
		rows, scores = append(rows, x), append(scores, float64(r.IntN(12)))
	}
	compare := func(in func(int) bool) (float64, bool) {
		var wins, pairs float64
		for i := range rows {
			for j := range rows {
				if in(i) && in(j) && rows[i].label == 1 && rows[j].label == 0 {
					pairs++
					if scores[i] > scores[j] {
						wins++
					} else if scores[i] == scores[j] {
						wins += 0.5
					}
				}
			}
		}
		return wins / pairs, pairs > 0
	}
	want, _ := compare(func(int) bool { return true })
	var mean, users float64
	for u := 'a'; u < 'h'; u++ {
		if a, ok := compare(func(i int) bool { return rows[i].pair.UserID == string(u) }); ok {
			mean, users = mean+a, users+1
		}
	}
	got := figuresOf(scores, rows)
	if math.Abs(got.AUC-want) > 1e-12 || math.Abs(got.UAUC-mean/users) > 1e-12 || got.Users != 6 || got.Rows != 200 {
		t.Errorf("%+v, comparing all pairs gives %v and %v of %v users", got, want, mean/users, users)
	}
}

// TestAdamWIsTheFormula follows Loshchilov and Hutter's algorithm 2 by hand for three kinds of slices.
func TestAdamWIsTheFormula(t *testing.T) {
	cfg := Default()
	cfg.Rate, cfg.LinearRate, cfg.Decay = 0.01, 0.001, 0.5
	groups := []generator.Group{generator.Weight, generator.LinearPath, generator.Scalar}
	rates, decays := []float64{0.01, 0.001, 0.01}, []float64{0.5, 0.5, 0}
	o := &adamw{}
	data, grad := make([][]float32, 3), make([][]float32, 3)
	want, m, v := []float64{1, 1, 1}, make([]float64, 3), make([]float64, 3)
	for i, g := range groups {
		data[i], grad[i] = []float32{1}, []float32{0}
		o.add("x", g, data[i], grad[i], &cfg)
	}
	for step := 1; step <= 4; step++ {
		var length float64
		gs := make([]float64, 3)
		for i := range groups {
			gs[i] = float64(i+1) * []float64{0.1, 3, -0.2, 0.05}[step-1]
			grad[i][0] = float32(gs[i])
			length += gs[i] * gs[i]
		}
		scale := math.Min(1, 1/math.Sqrt(length)) // clip 1: active in the second step alone
		o.update(0.5, 1)
		for i := range groups {
			g := gs[i] * scale
			m[i], v[i] = 0.9*m[i]+0.1*g, 0.999*v[i]+0.001*g*g
			mh, vh := m[i]/(1-math.Pow(0.9, float64(step))), v[i]/(1-math.Pow(0.999, float64(step)))
			want[i] -= 0.5 * (rates[i]*mh/(math.Sqrt(vh)+1e-8) + rates[i]*decays[i]*want[i])
			if math.Abs(float64(data[i][0])-want[i]) > 2e-6 {
				t.Errorf("step %d, slice %d: %v, the formula gives %v", step, i, data[i][0], want[i])
			}
		}
	}
}

func TestScheduleWarmsUpAndEndsAtZero(t *testing.T) {
	for step, want := range map[int]float64{0: 0.1, 9: 1, 10: 1, 60: 0.5, 110: 0} {
		if got := schedule(step, 10, 110); math.Abs(got-want) > 1e-12 {
			t.Errorf("step %d: %v, want %v", step, got, want)
		}
	}
	if got := schedule(5, 3, 2); got != 1 {
		t.Errorf("past a schedule shorter than its warm-up: %v", got)
	}
}

// TestSwappedRowsCarryTheScoreOfTheirOwnPair: distillation keeps prompt and item, takes another row's user, and asks for the
// CF score of that very pair; label epochs keep about the share asked for as they are.
func TestSwappedRowsCarryTheScoreOfTheirOwnPair(t *testing.T) {
	r := &runner{cfg: testConfig()}
	r.cfg.Batch, r.cfg.Swapped = 50, 0.5
	rnd := rand.New(rand.NewPCG(6, 6))
	var rows []row
	for i := range 500 {
		u, it := string(rune('a'+i%20)), string(rune('A'+i%23))
		rows = append(rows, row{label: float32(i % 2), prompt: corastream.Prompt{ItemID: it}, pair: corastream.Pair{
			UserID: u, ItemID: it, Mu: float32(i) / 500,
			User: corastream.Embedding{Vec: normal(rnd, 4), Bias: float32(rnd.NormFloat64())}, Item: corastream.Embedding{Vec: normal(rnd, 4), Bias: float32(rnd.NormFloat64())},
		}})
	}
	order := rnd.Perm(len(rows))
	for _, epoch := range []int{0, r.cfg.Align} {
		kept := 0
		for step := range 10 {
			at := &progress{Epoch: epoch, Step: step}
			batch := r.minibatch(rows, order, at)
			if again := r.minibatch(rows, order, at); !slices.EqualFunc(batch, again, func(a, b example) bool { return a.label == b.label && a.pair.UserID == b.pair.UserID }) {
				t.Fatal("the same step draws another batch")
			}
			for i, x := range batch {
				of := rows[order[step*50+i]]
				if x.prompt.ItemID != of.prompt.ItemID || x.pair.ItemID != of.pair.ItemID || x.pair.Item.Bias != of.pair.Item.Bias {
					t.Fatal("prompt or item left their row")
				}
				if x.pair.Mu == of.pair.Mu && x.label == of.label {
					kept++
				} else if want := 1 / (1 + math.Exp(-float64(x.pair.Logit()))); math.Abs(float64(x.label)-want) > 1e-6 {
					t.Fatalf("label %v of a swapped row, its CF score is %v", x.label, want)
				}
			}
		}
		if epoch == 0 && kept > 0 || epoch > 0 && (kept < 200 || kept > 300) {
			t.Errorf("epoch %d: %d of 500 rows kept their label", epoch, kept)
		}
	}
}

// aliasing hands out the state's own slices, as a predictor may.
type aliasing struct{ sgdCF }

func (a aliasing) UserVector(_ corastream.State, u *corastream.UserState) (corastream.Embedding, error) {
	return corastream.Embedding{Vec: a.vec(&u.Embedding), Bias: u.Bias}, nil
}

// TestRowsAreSnapshotsBeforeTheirLabel: a row's embeddings are those before its own event, and stay so while CF goes on.
func TestRowsAreSnapshotsBeforeTheirLabel(t *testing.T) {
	data, _ := world(7, 5, 10, 200)
	r := &runner{cfg: testConfig(), data: data}
	r.cfg.History = 3
	r.clock.tell = func(Progress) {}
	content := rand.New(rand.NewPCG(1, 1))
	for _, it := range data.Items {
		it.Content = normal(content, 4)
		r.items = append(r.items, it)
	}
	r.items = r.items[:9] // the tenth has no title: skipped, yet learnt
	r.deps.NewCF = func() (CF, error) { return aliasing{sgdCF{4}}, nil }
	s, err := r.snapshots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mem, cf := corastream.NewMemory(), aliasing{sgdCF{4}}
	for _, it := range r.items {
		mem.Put(it)
	}
	warm, held := split(len(data.Train), &r.cfg)
	for pass := range r.cfg.Passes {
		for _, ev := range data.Train[:warm] {
			if pass == r.cfg.Passes-1 {
				err = mem.Apply(cf, ev)
			} else {
				err = cf.Learn(mem, ev)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	rows := append(append(slices.Clone(s.train), s.holdout...), s.valid...)
	skipped := 0
	for i, ev := range slices.Concat(data.Train[warm:], data.Valid) {
		if ev.Item == "i9" {
			skipped++
		} else {
			want, err := corastream.PairOf(mem, cf, ev.User, ev.Item)
			if err != nil {
				t.Fatal(err)
			}
			u, _ := mem.User(ev.User)
			var history []string
			for _, id := range u.Liked(3) {
				if id != "i9" {
					history = append(history, "title of "+id)
				}
			}
			got := rows[i-skipped]
			if got.pair.UserID != ev.User || got.pair.Logit() != want.Logit() || !slices.Equal(got.pair.User.Vec, want.User.Vec) || got.label != ev.Label ||
				!slices.Equal(got.prompt.History, history) {
				t.Fatalf("row %d: %+v, before its label it was %+v (history %q)", i, got, want, history)
			}
		}
		if err := mem.Apply(cf, ev); err != nil {
			t.Fatal(err)
		}
	}
	if len(rows)+skipped != len(data.Train)-warm+len(data.Valid) || s.skipped != skipped || skipped == 0 {
		t.Errorf("%d rows, %d skipped (%d counted); %d were for training", len(rows), s.skipped, skipped, held-warm)
	}
}

// fading scores well for two epochs and then gives every row one score.
type fading struct {
	*linearLLM
	perEpoch, calls int
	second          []float32 // P of one slot at the end of the second epoch
	served          []float32 // and in the report
}

func (f *fading) Score(ctx context.Context, prompts []corastream.Prompt, w []corastream.Weights, p *corastream.Projection) ([]corastream.Logits, error) {
	now := slices.Clone(p.P[corastream.Slot{Layer: 4, Target: "o"}])
	f.calls++
	switch epoch := (f.calls - 1) / f.perEpoch; {
	case epoch == 1:
		f.second = now
	case epoch > 1 && f.calls <= 4*f.perEpoch:
		return make([]corastream.Logits, len(prompts)), nil
	default:
		f.served = now
	}
	return f.linearLLM.Score(ctx, prompts, w, p)
}

// TestTheBestEpochComesOut: epochs after the best are trained, found worse, and forgotten.
func TestTheBestEpochComesOut(t *testing.T) {
	data, llm := world(8, 40, 60, 2500)
	cfg := testConfig()
	cfg.Align, cfg.Labels = 3, 1
	holdout := int(float64(len(data.Train)) * cfg.Holdout)
	f := &fading{linearLLM: llm, perEpoch: (holdout + evalBatch - 1) / evalBatch}
	deps := depsFor(llm)
	deps.Scorer = f
	ckpt, report, err := Run(t.Context(), cfg, data, deps, nil)
	if err != nil {
		t.Fatal(err)
	}
	if report.Best > 2 || len(report.Epochs) != 4 {
		t.Fatalf("best %d of %+v", report.Best, report.Epochs)
	}
	for i, v := range f.second {
		// bfloat16 keeps 8 bits.
		if report.Best == 2 && math.Abs(float64(v-f.served[i])) > math.Abs(float64(v))/250 {
			t.Fatalf("P[%d] is %v in the report, %v after epoch 2", i, f.served[i], v)
		}
	}
	if report.Best != 2 {
		t.Fatalf("best epoch %d: choose a seed where the second is better than the first", report.Best)
	}
	if got := ckpt.Figures["best_epoch"]; got != 2 {
		t.Errorf("the checkpoint says epoch %v", got)
	}
}

// TestInputsCarryTheItemsBias: in training, b_i and p_u.q_i go into the linear path with mu and b_u.
func TestInputsCarryTheItemsBias(t *testing.T) {
	spec := testSpec()
	spec.Factors = 2
	m, err := generator.NewModel(spec, 1)
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{model: m}
	pair := corastream.Pair{
		Mu: 0.25, User: corastream.Embedding{Vec: []float32{3, 5, 1, 2, 3, 4}, Bias: 0.5},
		Item: corastream.Embedding{Vec: []float32{1, -0.25, 9, 9, 9, 9}, Bias: 2},
	}
	x, lin, err := r.inputs([]*corastream.Pair{&pair, &pair})
	if err != nil {
		t.Fatal(err)
	}
	if want := []float32{1, 2, 3, 4, 4.5, 1, 1, 2, 3, 4, 4.5, 1}; !slices.Equal(lin, want) {
		t.Errorf("linear inputs %v, want %v", lin, want)
	}
	if want := []float32{1, 2, 3, 4, 0.5, 1, 2, 3, 4, 0.5}; !slices.Equal(x, want) {
		t.Errorf("inputs %v, want %v", x, want)
	}
}
