package llm

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/corastream/corastream"
)

// realPairs makes prompts about made-up films: n candidates of each user.
func realPairs(m *Model, n, users, rank int) ([]corastream.Prompt, []corastream.Weights) {
	rng := rand.New(rand.NewPCG(1, 1))
	matrix := func() []float32 {
		v := make([]float32, m.arch.hidden*rank)
		for i := range v {
			v[i] = float32(.01 * rng.NormFloat64())
		}
		return v
	}
	item := matrix()
	words := []string{"Lighthouse", "Rain", "Winter", "Captain", "Letters", "Clockwork", "Street", "Daughter", "Silver", "Whale"}
	var ps []corastream.Prompt
	var ws []corastream.Weights
	for u := range users {
		a := matrix()
		for i := range n {
			title := fmt.Sprintf("%s of the %s %s (%d)", words[i%10], words[(i/10+u)%10], words[(i+3*u)%10], 1950+i%60)
			ps = append(ps, corastream.Prompt{ItemID: title, Title: title})
			ws = append(ws, corastream.Weights{Hidden: m.arch.hidden, Rank: rank, User: a, Item: item, ItemScale: .5})
		}
	}
	return ps, ws
}

var attention = []corastream.Target{corastream.TargetQ, corastream.TargetK, corastream.TargetV, corastream.TargetO}

var numerics = []string{"f32", "bf16", "int8"}

// One click: 20 candidates of one user from the item cache, top 4 layers.
func BenchmarkCachedCandidates(b *testing.B) {
	for _, n := range numerics {
		for _, c := range [][2]int{{1, 1}, {1, 16}, {2, 16}} {
			threads, users := c[0], c[1]
			b.Run(fmt.Sprintf("%s/threads=%d/users=%d", n, threads, users), func(b *testing.B) {
				m := realModel(b, func(o *Options) { o.Threads, o.Numerics = threads, n })
				ps, ws := realPairs(m, 20, users, 16)
				p := project(m, 16, corastream.AdaptLast, 26, attention, 1)
				scoreOnce(b, m, ps, ws, p)
				b.ReportAllocs()
				b.ResetTimer()
				for range b.N {
					scoreOnce(b, m, ps, ws, p)
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(ps)), "us/candidate")
			})
		}
	}
}

func scoreOnce(b *testing.B, m *Model, ps []corastream.Prompt, ws []corastream.Weights, p *corastream.Projection) {
	if _, err := m.Score(context.Background(), ps, ws, p); err != nil {
		b.Fatal(err)
	}
}

// Whole prompts of about 110 tokens through all layers.
func BenchmarkWholePrompt(b *testing.B) {
	for _, n := range numerics {
		b.Run(n, func(b *testing.B) {
			m := realModel(b, func(o *Options) { o.Threads, o.Numerics = 1, n })
			rng := rand.New(rand.NewPCG(1, 1))
			ids := make([]int32, 110)
			for i := range ids {
				ids[i] = int32(rng.IntN(40000))
			}
			b.ResetTimer()
			out := make([]corastream.Logits, 1)
			for range b.N {
				if err := m.scoreWhole(context.Background(), []tokens{{ids: ids}}, []int{0}, nil, out); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*len(ids))/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}

// 32 candidates of 30 tokens behind a shared beginning of 80.
func BenchmarkSharedPrefix(b *testing.B) {
	for _, n := range numerics {
		b.Run(n, func(b *testing.B) {
			m := realModel(b, func(o *Options) { o.Threads, o.Numerics, o.BatchTokens = 1, n, 4096 })
			rng := rand.New(rand.NewPCG(1, 1))
			ids := make([][]int32, 32)
			for i := range ids {
				for j := range 110 {
					if i > 0 && j < 80 {
						ids[i] = append(ids[i], ids[0][j])
					} else {
						ids[i] = append(ids[i], int32(rng.IntN(40000)))
					}
				}
			}
			b.ResetTimer()
			for range b.N {
				if _, err := m.ScoreTokens(context.Background(), ids); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*len(ids))/b.Elapsed().Seconds(), "prompts/s")
		})
	}
}

// Items read from nothing.
func BenchmarkEncode(b *testing.B) {
	m := realModel(b)
	ps, _ := realPairs(m, 64, 1, 1)
	for i := range b.N {
		items := make([]corastream.Item, len(ps))
		for j, p := range ps {
			items[j] = corastream.Item{Title: fmt.Sprintf("%s %d", p.Title, 100+i)}
		}
		if _, err := m.Encode(context.Background(), items); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(m.forward.Load())/b.Elapsed().Seconds(), "tokens/s")
}

// One training step of 32 rows from the item cache, top 4 layers.
func BenchmarkBackward(b *testing.B) {
	for _, n := range numerics {
		b.Run(n, func(b *testing.B) { benchBackward(b, n) })
	}
}

func benchBackward(b *testing.B, n string) {
	m := realModel(b, func(o *Options) { o.Threads, o.Numerics = 1, n })
	ps, ws := realPairs(m, 1, 32, 16)
	p := project(m, 16, corastream.AdaptLast, 26, attention, 1)
	labels := make([]float32, len(ps))
	step := func() {
		if _, err := m.Backward(context.Background(), ps, ws, p, labels); err != nil {
			b.Fatal(err)
		}
	}
	step()
	b.ResetTimer()
	for range b.N {
		step()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(ps)), "us/row")
}

// Opening the model: packed from the file, and mapped from what an earlier start packed.
func BenchmarkOpen(b *testing.B) {
	for _, n := range numerics {
		b.Run(n+"/packed", func(b *testing.B) {
			for range b.N {
				realModel(b, func(o *Options) { o.Numerics = n })
			}
		})
		b.Run(n+"/mapped", func(b *testing.B) {
			dir := b.TempDir()
			for i := range b.N + 1 {
				if i == 1 {
					b.ResetTimer()
				}
				realModel(b, func(o *Options) { o.Numerics, o.CacheDir = n, dir })
			}
		})
	}
}
