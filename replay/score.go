package replay

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/corastream/corastream"
)

// llm runs the frozen LLM over all rows: logit(Yes) - logit(No).
func (e *evaluation) llm(ctx context.Context, model string, seen []sight) (outcome, error) {
	pairs, prompts := make([]corastream.Pair, len(seen)), make([]corastream.Prompt, len(seen))
	for i := range seen {
		pairs[i], prompts[i] = seen[i].pair, seen[i].prompt
	}
	generator := e.deps.Generator
	switch model {
	case LLM:
		generator = corastream.Unadapted{}
	case CoraShuffled:
		shuffle(prompts, e.rows, e.Seed)
	case CoraBlank:
		blank, constant, err := e.deps.Blank(ctx)
		if err != nil {
			return outcome{}, fmt.Errorf("refit with one prompt: %w", err)
		}
		generator = blank
		for i := range prompts {
			prompts[i] = constant
		}
	}
	o := outcome{logit: true}
	var err error
	if o.score, err = e.scoreAll(ctx, "score "+model, generator, pairs, prompts); err != nil {
		return o, err
	}
	if e.RankLLM > 0 && (model == LLM || model == Cora) {
		err = e.rankChoices(ctx, model, generator, seen, &o)
	}
	return o, err
}

// rankChoices places each ranked row's item among CF's best candidates; outside them it is missed.
func (e *evaluation) rankChoices(ctx context.Context, model string, generator corastream.Generator, seen []sight, o *outcome) error {
	var pairs []corastream.Pair
	var prompts []corastream.Prompt
	for i := range seen {
		for _, k := range seen[i].choice {
			pairs, prompts = append(pairs, k.pair), append(prompts, k.prompt)
		}
	}
	scores, err := e.scoreAll(ctx, "rank by "+model, generator, pairs, prompts)
	if err != nil {
		return err
	}
	o.gain, o.hit, o.ranks = make([]float64, len(seen)), make([]float64, len(seen)), newRanks(len(seen), len(e.universe.ids), e.log.task)
	for i := range seen {
		n := len(seen[i].choice)
		if n == 0 {
			o.gain[i], o.hit[i] = math.NaN(), math.NaN()
			continue
		}
		own := scores[:n]
		scores = scores[n:]
		o.ranks.above[i] = missed
		var list []int32
		for _, k := range topOf(own) {
			list = append(list, e.universe.number[seen[i].choice[k].prompt.ItemID])
		}
		o.ranks.show(e.rows[i].test, e.log.users[e.rows[i].User], list)
		o.gain[i], o.hit[i] = 0, 0
		for t, k := range seen[i].choice {
			if !k.target {
				continue
			}
			above, level := 0, -1
			for _, s := range own {
				if s > own[t] {
					above++
				} else if s == own[t] {
					level++
				}
			}
			o.ranks.above[i], o.ranks.level[i] = int32(above), int32(level)
			o.gain[i], o.hit[i] = gainAt(o.ranks.place(i)), hitAt(o.ranks.place(i), rankDepth)
		}
	}
	return nil
}

func (e *evaluation) scoreAll(ctx context.Context, step string, g corastream.Generator, pairs []corastream.Pair, prompts []corastream.Prompt) ([]float64, error) {
	out := make([]float64, 0, len(prompts))
	for from := 0; from < len(prompts); from += e.BatchRows {
		to := min(from+e.BatchRows, len(prompts))
		logits, err := scoreBatch(ctx, g, e.deps.Scorer, pairs[from:to], prompts[from:to])
		if err != nil {
			return nil, fmt.Errorf("rows %d to %d: %w", from+1, to, err)
		}
		out = append(out, logits...)
		e.deps.progress(step, to, len(prompts))
	}
	return out, nil
}

// scoreBatch gives logit(Yes)-logit(No) of each pair.
func scoreBatch(ctx context.Context, g corastream.Generator, s corastream.Scorer, pairs []corastream.Pair, prompts []corastream.Prompt) ([]float64, error) {
	logits, err := corastream.ScorePairs(ctx, g, s, pairs, prompts)
	if err != nil {
		return nil, err
	}
	out := make([]float64, len(logits))
	for i, l := range logits {
		out[i] = float64(l.Yes) - float64(l.No)
	}
	return out, nil
}

// shuffle gives each row another row's prompt: all rows of a split in one seeded ring, each taking its neighbour's.
func shuffle(prompts []corastream.Prompt, rows []row, seed uint64) {
	for _, test := range []bool{false, true} {
		var ring []int
		for i := range rows {
			if rows[i].test == test {
				ring = append(ring, i)
			}
		}
		rng := rand.New(rand.NewPCG(seed, 0x5f0e))
		rng.Shuffle(len(ring), func(i, j int) { ring[i], ring[j] = ring[j], ring[i] })
		if len(ring) == 0 {
			continue
		}
		first := prompts[ring[0]]
		for i := range len(ring) - 1 {
			prompts[ring[i]] = prompts[ring[i+1]]
		}
		prompts[ring[len(ring)-1]] = first
	}
}
