package bench

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/cfstream/mix"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/serve/llm"
	"github.com/corastream/corastream/store"
)

// Deps are the configured stages that the benchmarks measure.
type Deps struct {
	CF    cfstream.Spec
	Store store.Config
	Kafka ingest.Config
	LLM   llm.Options // as configured; bench llm varies some of it
	File  string      // of the LLM

	// OpenStore opens the store of a data folder with its list model.
	OpenStore func(dir string) (*store.Store, *mix.Model, error)
	// OpenLLM opens the file with the options given, and refuses where there is none.
	OpenLLM func(llm.Options) (*llm.Model, error)
	// OpenStage opens the checkpoint for a model, and refuses where there is none.
	OpenStage func(*llm.Model) (*generator.Stage, error)
	// Progress shows how far a phase of a long benchmark is.
	Progress func(phase string) func(done, total int)
}

// syntheticLog draws users and items by Zipf's law, so that some are hot, as in real logs.
func syntheticLog(n, users, items int) []corastream.Event {
	r := rand.New(rand.NewPCG(1, 2))
	zu, zi := rand.NewZipf(r, 1.1, 8, uint64(users-1)), rand.NewZipf(r, 1.1, 8, uint64(items-1))
	now := time.Now()
	out := make([]corastream.Event, n)
	for i := range out {
		out[i] = corastream.Event{
			Pos: corastream.Position{Topic: "bench", Partition: int32(i % 4), Offset: int64(i / 4)}, User: fmt.Sprint("u", zu.Uint64()),
			Item: fmt.Sprint("i", zi.Uint64()), Kind: "rating", Label: float32(r.IntN(2)), Weight: 1, Time: now, Appended: now,
		}
	}
	return out
}

// Learn measures events per second through one transaction for each micro-batch, by size of the batch. log gives the events; nil
// ones are made up.
func Learn(ctx context.Context, d Deps, w io.Writer, length time.Duration, log func() ([]corastream.Event, error)) error {
	events, err := log()
	if err != nil {
		return err
	}
	if events == nil {
		events = syntheticLog(400_000, 200_000, 50_000)
	}
	for _, batch := range []int{256, 1024, 4000} {
		dir, err := os.MkdirTemp("", "corastream-bench")
		if err != nil {
			return err
		}
		err = learnBatch(ctx, d, w, dir, batch, length, events)
		if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
			return err
		}
	}
	return nil
}

func learnBatch(ctx context.Context, d Deps, w io.Writer, dir string, batch int, length time.Duration, log []corastream.Event) error {
	s, model, err := d.OpenStore(dir)
	if err != nil {
		return err
	}
	defer s.Close()
	cf, err := cfstream.New(d.CF)
	if err != nil {
		return err
	}
	began, done := time.Now(), 0
	var slowest time.Duration
	for done+batch <= len(log) && time.Since(began) < length {
		part := slices.Clone(log[done : done+batch]) // a batch holds one partition after the other, as its spans do
		slices.SortStableFunc(part, func(a, b corastream.Event) int { return cmp.Compare(a.Pos.Partition, b.Pos.Partition) })
		b := corastream.Batch{Events: part}
		for p := range int32(4) {
			from, to := int64((done+3-int(p))/4), int64((done+batch+3-int(p))/4)
			b.Spans = append(b.Spans, corastream.Span{Partition: corastream.Partition{Topic: "bench", ID: p}, From: from, To: to})
		}
		t := time.Now()
		if _, err := s.Commit(ctx, b, cf.Learn); err != nil {
			return err
		}
		slowest = max(slowest, time.Since(t))
		done += batch
	}
	took := time.Since(began)
	return line(w, map[string]any{
		"bench": "learn", "cf": d.CF.String(), "batch": batch, "events": done, "events_per_s": float64(done) / took.Seconds(),
		"slowest_commit_ms": ms(slowest), "mix": model.Spec().String(), "sync_writes": d.Store.SyncWrites,
	})
}

// Repeat runs f until length is over and returns how often it ran and the median time of a run.
func Repeat(length time.Duration, f func() error) (int, time.Duration, error) {
	if err := f(); err != nil { // warm-up
		return 0, 0, err
	}
	var times []time.Duration
	for began := time.Now(); time.Since(began) < length || len(times) < 3; {
		t := time.Now()
		if err := f(); err != nil {
			return 0, 0, err
		}
		times = append(times, time.Since(t))
	}
	slices.Sort(times)
	return len(times), times[len(times)/2], nil
}

// InventedTitles are of no real film: benchmarks need text of a title's length alone.
func InventedTitles(n int) []corastream.Prompt {
	first := []string{"The Last", "A Quiet", "Return of the", "Midnight", "Seven", "The Painted", "Northern", "Her Brother's"}
	second := []string{"Harbour", "Witness", "Cartographers", "Orchard", "Telegram", "Winter", "Accord", "Lighthouse"}
	out := make([]corastream.Prompt, n)
	for i := range out {
		part := ""
		if i >= 64 {
			part = fmt.Sprintf(" %d", i/64)
		}
		out[i] = corastream.Prompt{
			ItemID: fmt.Sprint("bench-", i),
			Title:  fmt.Sprintf("%s %s%s (%d)", first[i%8], second[i/8%8], part, 1950+i%60),
		}
	}
	return out
}

// RandomWeights are one user's W_A and a projection of the given spec, for timing.
func RandomWeights(spec generator.Spec, m *llm.Model, n int) ([]corastream.Weights, *corastream.Projection) {
	r := rand.New(rand.NewPCG(3, 4))
	noise := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(r.NormFloat64() * .02)
		}
		return v
	}
	user, item := noise(spec.Size()), noise(spec.Size())
	ws := make([]corastream.Weights, n)
	for i := range ws {
		ws[i] = corastream.Weights{Hidden: spec.Hidden, Rank: spec.Rank, User: user, Item: item, ItemScale: float32(i%7) * .1}
	}
	p := &corastream.Projection{Rank: spec.Rank, Alpha: float32(spec.Alpha), Adapt: spec.Adapt, P: map[corastream.Slot][]float32{}}
	widths := m.TargetWidths()
	for _, slot := range spec.Slots(m.Info().Layers) {
		p.P[slot] = noise(spec.Rank * widths[slot.Target][1])
	}
	return ws, p
}

// Generator measures how many users' weights a checkpoint makes a second.
func Generator(ctx context.Context, d Deps, w io.Writer, length time.Duration) error {
	m, err := d.OpenLLM(d.LLM)
	if err != nil {
		return err
	}
	defer m.Close()
	stage, err := d.OpenStage(m)
	if err != nil {
		return err
	}
	ck := stage.Checkpoint()
	width := ck.Model.Spec.Factors + ck.Model.Spec.Taste
	r := rand.New(rand.NewPCG(5, 6))
	pairs := make([]corastream.Pair, 256)
	version := uint64(0)
	_, took, err := Repeat(length, func() error {
		version++ // every user moved: nothing comes from the cache
		for i := range pairs {
			pairs[i] = corastream.Pair{UserID: fmt.Sprint(i), ItemID: "i", User: corastream.Embedding{Vec: make([]float32, width), Version: version}, Item: corastream.Embedding{Vec: make([]float32, width)}}
			for j := range width {
				pairs[i].User.Vec[j] = float32(r.NormFloat64())
			}
		}
		_, _, err := stage.Weights(ctx, pairs)
		return err
	})
	if err != nil {
		return err
	}
	return line(w, map[string]any{
		"bench": "generator", "spec": string(ck.Model.Spec.Kind), "weights_per_s": float64(len(pairs)) / took.Seconds(), "batch": len(pairs),
		"bytes_each": 4 * ck.Model.Spec.Size(),
	})
}

// line writes one line of JSON.
func line(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }

// ms gives a time in milliseconds with two decimals.
func ms(d time.Duration) float64 { return math.Round(float64(d)/1e4) / 100 }
