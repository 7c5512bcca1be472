package replay_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/replay"
)

const contentWidth = 8

// makeLog draws a small world: users and items with their own leaning, items with content that all users weigh alike.
func makeLog(seed uint64, rows int) replay.Data {
	rng := rand.New(rand.NewPCG(seed, 1))
	const users, items = 40, 1500
	var d replay.Data
	var worth [items]float64
	for i := range items {
		it := corastream.Item{ID: fmt.Sprint("i", i), Title: fmt.Sprintf("Item %d", i), Content: make([]float32, contentWidth)}
		for j := range it.Content {
			it.Content[j] = float32(rng.NormFloat64() * 0.6)
		}
		corastream.QuantizeContent(it.Content)
		worth[i] = 1.6*float64(it.Content[0]) - 1.2*float64(it.Content[1]) + 0.4*rng.NormFloat64()
		d.Items = append(d.Items, it)
	}
	var leaning [users]float64
	for u := range users {
		leaning[u] = rng.NormFloat64()
	}
	at := time.Unix(1e9, 0).UTC()
	for n := range rows {
		u, i := rng.IntN(users), rng.IntN(items)
		at = at.Add(time.Duration(rng.IntN(3)) * time.Minute)
		ev := corastream.Event{
			Pos: corastream.Position{Topic: "log", Offset: int64(n)}, User: fmt.Sprint("u", u), Item: fmt.Sprint("i", i),
			Kind: "rating", Weight: 1, Time: at,
		}
		if rng.Float64() < 1/(1+math.Exp(-leaning[u]-worth[i])) {
			ev.Label = 1
		}
		switch {
		case n < rows*6/10:
			d.Train = append(d.Train, ev)
		case n < rows*8/10:
			d.Valid = append(d.Valid, ev)
		default:
			d.Test = append(d.Test, ev)
		}
	}
	return d
}

func newModel(kind string, seed uint64) (replay.Model, error) {
	if kind == replay.CF {
		kind = cfstream.Hybrid
	}
	s := cfstream.DefaultFor(kind)
	s.Content, s.Seed = contentWidth, seed
	return cfstream.New(s)
}

// weigher and reader stand for a checkpoint and its LLM: the weights carry e_u and the biases, the "LLM" knows the content of
// the item its prompt names, and the answer is their product, so that what reaches it can be told from the score.
type weigher struct{ calls *[]int }

func (w weigher) Weights(_ context.Context, pairs []corastream.Pair) ([]corastream.Weights, *corastream.Projection, error) {
	*w.calls = append(*w.calls, len(pairs))
	out := make([]corastream.Weights, len(pairs))
	for i, p := range pairs {
		factors := len(p.User.Vec) - contentWidth
		out[i] = corastream.Weights{Hidden: contentWidth, Rank: 1, User: p.User.Vec[factors:], ItemScale: p.Mu + p.User.Bias + p.ItemScale(factors)}
	}
	return out, &corastream.Projection{Rank: 1, Alpha: 1}, nil
}

type scorer struct{ content map[string][]float32 }

func scorerOf(items []corastream.Item) scorer {
	s := scorer{map[string][]float32{}}
	for _, it := range items {
		s.content[it.Title] = it.Content
	}
	return s
}

func (s scorer) Score(_ context.Context, prompts []corastream.Prompt, w []corastream.Weights, _ *corastream.Projection) ([]corastream.Logits, error) {
	out := make([]corastream.Logits, len(prompts))
	for i, p := range prompts {
		if w == nil {
			out[i].Yes = float32(len(p.Title) % 3)
			continue
		}
		out[i].Yes = w[i].ItemScale
		for j, c := range s.content[p.Title] {
			out[i].Yes += w[i].User[j] * c
		}
	}
	return out, nil
}

// counted is a list model that ranks by likes, the item that came first where they are equal.
type counted struct {
	all   bool
	likes map[string]int
	order []string
}

func newCounted(all bool) *counted { return &counted{all: all, likes: map[string]int{}} }

func (c *counted) Window() int { return 5 }

func (c *counted) Describe(it corastream.Item) { c.note(it.ID, 0) }

func (c *counted) Learn(st corastream.Step) {
	if st.Positive {
		c.note(st.Item, 1)
	} else {
		c.note(st.Item, 0)
	}
}

func (c *counted) note(item string, likes int) {
	if _, ok := c.likes[item]; !ok {
		c.order = append(c.order, item)
	}
	c.likes[item] += likes
}

func (c *counted) Rank(q corastream.Query) []corastream.Candidate {
	var out []corastream.Candidate
	for _, item := range c.order {
		if q.Skip == nil || !q.Skip(item) {
			out = append(out, corastream.Candidate{Item: item, Score: float32(c.likes[item])})
		}
	}
	slices.SortStableFunc(out, func(a, b corastream.Candidate) int { return int(b.Score - a.Score) })
	return out[:min(q.N, len(out))]
}

func deps(d replay.Data) (replay.Deps, *[]int) {
	calls := &[]int{}
	return replay.Deps{
		NewModel: newModel, Generator: weigher{calls}, Scorer: scorerOf(d.Items),
		Blank: func(context.Context) (corastream.Generator, corastream.Prompt, error) {
			return weigher{calls}, corastream.Prompt{Title: "blank"}, nil
		},
		NewRanker: func(_ string, all bool) (corastream.Ranker, error) { return newCounted(all), nil },
		Codes: func(context.Context) ([][]float32, error) {
			codes := make([][]float32, len(d.Items))
			for i := range codes {
				codes[i] = []float32{float32(i)}
			}
			return codes, nil
		},
		Manifest: map[string]string{"build": "test"},
	}, calls
}

func run(t *testing.T, c replay.Config, data replay.Data, d replay.Deps) *replay.Report {
	t.Helper()
	r, err := replay.Run(context.Background(), c, data, d)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func quick(mode string, models ...string) replay.Config {
	c := replay.Default()
	c.Mode, c.Models, c.Bootstraps, c.BatchRows = mode, models, 100, 100
	c.Kinds = kinds
	return c
}

// kinds are further CF models.
var kinds = []string{"mf", "lightgcn", "sasrec"}

// TestAllModelsAreJudgedOnTheSameRows: with a stand-in LLM that answers e_u.c + biases, cora is the CF score itself, a swapped
// or blank prompt loses the content, and every model has every row.
func TestAllModelsAreJudgedOnTheSameRows(t *testing.T) {
	data := makeLog(1, 4000)
	d, calls := deps(data)
	for _, mode := range []string{replay.Static, replay.Prequential} {
		*calls = nil
		r := run(t, quick(mode, slices.Concat(replay.Models, kinds)...), data, d)
		for split, figures := range map[string]map[string]replay.Figures{"valid": r.Valid, "test": r.Test} {
			for _, m := range slices.Concat(replay.Models, kinds) {
				if f := figures[m]; f.Rows != 800 || f.Users != 40 {
					t.Errorf("%s %s %s: %d rows, %d users", mode, split, m, f.Rows, f.Users)
				}
			}
			cf, cora := figures[replay.CF], figures[replay.Cora]
			if math.Abs(float64(cora.AUC-cf.AUC)) > 1e-6 || math.Abs(float64(cora.LogLoss-cf.LogLoss)) > 1e-6 {
				t.Errorf("%s %s: cora %v, cf %v", mode, split, cora.AUC, cf.AUC)
			}
			if mix, popular := figures[replay.Mix], figures[replay.Popularity]; !math.IsNaN(float64(mix.AUC)) || mix.Next == nil || mix.Next.Rows != popular.Next.Rows {
				t.Errorf("%s %s: mix %+v", mode, split, mix)
			}
			if all, mix := figures[replay.All], figures[replay.Mix]; !math.IsNaN(float64(all.AUC)) || all.Next.NDCG10 != mix.Next.NDCG10 {
				t.Errorf("%s %s: all %+v", mode, split, all)
			}
			if cora.Next == nil || cora.Next.NDCG10 != figures[replay.Mix].Next.NDCG10 {
				t.Errorf("%s %s: with a checkpoint too, cora's list is the list model's: %+v", mode, split, cora.Next)
			}
			for _, worse := range []string{replay.Bias, replay.LLM, replay.CoraShuffled, replay.CoraBlank} {
				if f := figures[worse]; f.AUC > cf.AUC-0.02 {
					t.Errorf("%s %s: %s has AUC %v, cf %v", mode, split, worse, f.AUC, cf.AUC)
				}
			}
			if f := figures[replay.Stack]; math.Abs(float64(f.AUC-cf.AUC)) > 0.02 { // the stand-in's own opinion is worth nothing
				t.Errorf("%s %s: the stack has AUC %v, cf %v", mode, split, f.AUC, cf.AUC)
			}
			if f := figures[replay.Reader]; f.AUC < figures[replay.Bias].AUC {
				t.Errorf("%s %s: the reader has AUC %v, less than bias", mode, split, f.AUC)
			}
		}
		if slices.Max(*calls) != 100 {
			t.Errorf("batches of %v rows, want at most 100", *calls)
		}
		diff := r.Paired["cora-cora-shuffled"]
		if diff.AUCCI[0] <= 0 || diff.AUCCI[0] > diff.AUC || diff.AUCCI[1] < diff.AUC {
			t.Errorf("%s: cora less cora-shuffled = %+v", mode, diff)
		}
	}
}

func TestTwoRunsGiveEqualBytesButForTiming(t *testing.T) {
	data := makeLog(2, 1500)
	d, _ := deps(data)
	var first []byte
	for range 2 {
		r := run(t, quick(replay.Prequential, slices.Concat(replay.Models, kinds)...), data, d)
		if r.Timing["events_per_s"] <= 0 {
			t.Errorf("timing %v", r.Timing)
		}
		r.Timing = nil
		b, err := r.JSON()
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = b
		} else if !bytes.Equal(b, first) {
			t.Errorf("two runs differ:\n%s\n%s", first, b)
		}
	}
}

// TestReportHasTheContractsKeys holds report.json against what scripts read.
func TestReportHasTheContractsKeys(t *testing.T) {
	data := makeLog(3, 1500)
	d, _ := deps(data)
	dir := t.TempDir()
	r := run(t, quick(replay.Static, replay.Bias, replay.CF), data, d)
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, key := range []string{"mode", "test", "valid", "paired", "manifest", "timing"} {
		i := bytes.Index(b, []byte("\n  \""+key+"\""))
		if i < at {
			t.Errorf("key %q is missing or out of order", key)
		}
		at = i
	}
	var doc struct {
		Mode   string
		Test   map[string]map[string]json.RawMessage
		Paired map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(b, &doc); err != nil || doc.Mode != "static" {
		t.Fatal(doc.Mode, err)
	}
	for _, key := range []string{"rows", "users", "auc", "auc_ci", "uauc", "uauc_ci", "logloss", "ndcg10", "slices"} {
		if doc.Test["cf"][key] == nil {
			t.Errorf("test.cf.%s is missing", key)
		}
	}
	for _, key := range []string{"auc", "auc_ci", "uauc", "uauc_ci"} {
		if doc.Paired["cf-bias"][key] == nil {
			t.Errorf("paired.cf-bias.%s is missing", key)
		}
	}
	page, err := os.ReadFile(filepath.Join(dir, "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<svg", "cf-bias", "NDCG@10", fmt.Sprintf("%.4f", r.Test["cf"].AUC)} {
		if !strings.Contains(string(page), want) {
			t.Errorf("report.html lacks %q", want)
		}
	}
	for _, never := range []string{"http://", "https://", "<script", "NaN"} {
		if strings.Contains(string(page), never) {
			t.Errorf("report.html holds %q", never)
		}
	}
	if table := r.Table(); strings.Count(table, "\n") != 12 {
		t.Errorf("table:\n%s", table)
	}
}

// witness notes in which order rows are seen and learnt.
type witness struct{ story *[]string }

func (w witness) Learn(_ corastream.State, ev corastream.Event) error {
	*w.story = append(*w.story, "learn "+ev.Item)
	return nil
}

func (w witness) UserVector(_ corastream.State, _ *corastream.UserState) (corastream.Embedding, error) {
	return corastream.Embedding{}, nil
}

func (w witness) ItemVector(_ corastream.State, it *corastream.ItemState) (corastream.Embedding, error) {
	*w.story = append(*w.story, "see "+it.ID)
	return corastream.Embedding{}, nil
}

// TestLabelsAreLearntAfterTheirDelayAndNeverBeforeTheirUsersRowsOfThatTime: a user's rows of one time are all seen before any of them is
// learnt. Without a delay they are learnt right after; with one, a label is known from its time plus the delay on.
func TestLabelsAreLearntAfterTheirDelayAndNeverBeforeTheirUsersRowsOfThatTime(t *testing.T) {
	ev := func(item string, second int64) corastream.Event {
		return corastream.Event{User: "u", Item: item, Label: float32(second % 2), Weight: 1, Time: time.Unix(second, 0)}
	}
	data := replay.Data{
		Train: []corastream.Event{ev("t", 5)},
		Valid: []corastream.Event{ev("a", 10), ev("b", 10), ev("d", 90)},
		Test:  []corastream.Event{ev("c", 30)},
	}
	for _, c := range []struct {
		mode  string
		delay time.Duration
		want  string
	}{
		{replay.Static, 0, "learn t,see a,see b,see c,see d"},
		{replay.Prequential, 0, "learn t,see a,see b,learn a,learn b,see c,learn c,see d,learn d"},
		{replay.Prequential, 20 * time.Second, "learn t,see a,see b,learn a,learn b,see c,learn c,see d"},
		{replay.Prequential, 21 * time.Second, "learn t,see a,see b,see c,learn a,learn b,learn c,see d"},
		{replay.Prequential, time.Hour, "learn t,see a,see b,see c,see d"},
	} {
		var story []string
		config := quick(c.mode, replay.CF)
		config.RankRows = 0
		config.LabelDelay, config.Epochs = c.delay, 1
		run(t, config, data, replay.Deps{NewModel: func(string, uint64) (replay.Model, error) { return witness{&story}, nil }})
		if got := strings.Join(story, ","); got != c.want {
			t.Errorf("%s, delay %v:\n got %s\nwant %s", c.mode, c.delay, got, c.want)
		}
	}
}

// titles notes the prompts a scorer is given.
type titles struct{ seen *[]corastream.Prompt }

func (s titles) Score(_ context.Context, prompts []corastream.Prompt, _ []corastream.Weights, _ *corastream.Projection) ([]corastream.Logits, error) {
	*s.seen = append(*s.seen, prompts...)
	return make([]corastream.Logits, len(prompts)), nil
}

func TestHistoryPromptsHoldEarlierLikedTitlesInBothModes(t *testing.T) {
	data := replay.Data{Items: []corastream.Item{{ID: "a", Title: "A"}, {ID: "b", Title: "B"}, {ID: "c", Title: "C"}, {ID: "d", Title: "D"}}}
	for n, item := range []string{"a", "b", "c", "d"} {
		ev := corastream.Event{User: "u", Item: item, Label: 1, Weight: 1, Time: time.Unix(int64(n), 0)}
		if item == "b" {
			ev.Label = 0
		}
		if n == 0 {
			data.Train = append(data.Train, ev)
		} else {
			data.Valid = append(data.Valid, ev)
		}
	}
	for _, mode := range []string{replay.Static, replay.Prequential} {
		var seen []corastream.Prompt
		c := quick(mode, replay.LLM)
		c.History = 10
		run(t, c, data, replay.Deps{NewModel: newModel, Scorer: titles{&seen}})
		var got []string
		for _, p := range seen {
			got = append(got, strings.Join(p.History, "+")+">"+p.Title)
		}
		if want := "A>B A>C A+C>D"; strings.Join(got, " ") != want {
			t.Errorf("%s: prompts %v, want %s", mode, got, want)
		}
	}
}

func TestModelsWithoutTheirPartsAreRefused(t *testing.T) {
	data := makeLog(4, 300)
	for model, want := range map[string]string{
		replay.LLM: "needs the LLM", replay.Cora: "needs a checkpoint", replay.CoraShuffled: "needs a checkpoint",
		replay.CoraBlank: "needs a checkpoint", "transformer": "is not a model",
	} {
		_, err := replay.Run(context.Background(), quick(replay.Static, model), data, replay.Deps{NewModel: newModel})
		var usage *corastream.UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", model, err)
		}
	}
	c := quick("live", replay.CF, replay.CF)
	c.LabelDelay, c.Epochs, c.BatchRows = -time.Hour, 0, 0
	err := c.Validate()
	for _, key := range []string{"mode", "models", "label_delay", "epochs", "batch_rows"} {
		if err == nil || !strings.Contains(err.Error(), key+":") && !strings.Contains(err.Error(), key+" (") {
			t.Errorf("Validate does not complain about %s: %v", key, err)
		}
	}
	if _, err := replay.Run(context.Background(), quick(replay.Static, replay.CF), replay.Data{}, replay.Deps{NewModel: newModel}); err == nil {
		t.Error("an empty log was evaluated")
	}
}

func TestRunStopsWhenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := replay.Run(ctx, quick(replay.Static, replay.CF), makeLog(5, 300), replay.Deps{NewModel: newModel}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
