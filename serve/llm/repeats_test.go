package llm

import (
	"context"
	"fmt"
	"reflect"
	"testing"

	"github.com/corastream/corastream"
)

// TestEqualTextsAreAnsweredEach: texts that are equal share every row, so that there are more answers than rows.
func TestEqualTextsAreAnsweredEach(t *testing.T) {
	for _, n := range []int{2, 3, 40} {
		answeredEach(t, tinyLlama.open(t), make([]byte, n))
	}
}

// FuzzRepeats: texts of a small alphabet, many of them equal or each other's beginnings, as text, as titles, as candidates behind a history,
// as rows of training and as token sequences.
func FuzzRepeats(f *testing.F) {
	f.Add([]byte{0, 0})
	f.Add(make([]byte, 40))
	f.Add([]byte{0, 1, 0, 2, 1, 1, 5})
	m := tinyLlama.open(f)
	f.Fuzz(func(t *testing.T, picks []byte) {
		if len(picks) > 0 && len(picks) <= 64 {
			answeredEach(t, m, picks)
		}
	})
}

func answeredEach(t *testing.T, m *Model, picks []byte) {
	t.Helper()
	ctx := context.Background()
	alphabet := []string{"a", "ab", "b", "abc", "a b", "ba"}
	texts, items, ids := make([]string, len(picks)), make([]corastream.Item, len(picks)), make([][]int32, len(picks))
	for i, pick := range picks {
		texts[i] = alphabet[int(pick)%len(alphabet)]
		items[i] = corastream.Item{ID: fmt.Sprint(i), Title: texts[i]}
		ids[i] = m.TextTokens(texts[i])
	}
	got, _, err := m.LabelLogits(ctx, texts, []int{1, 2}, nil, nil)
	if err != nil || len(got) != len(texts) {
		t.Fatalf("%d answers, %v", len(got), err)
	}
	for _, adapt := range []corastream.Adapt{corastream.AdaptAll, corastream.AdaptLast} {
		_, w := pairs(m, len(texts), 1, 3, false, 5)
		if _, _, err := m.LabelLogits(ctx, texts, []int{1, 2}, w, project(m, 3, adapt, 2, attention, 5)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.ScoreTokens(ctx, ids); err != nil {
		t.Fatal(err)
	}
	slate := func(history []string) []corastream.Prompt {
		ps := make([]corastream.Prompt, len(texts))
		for i := range ps {
			ps[i] = corastream.Prompt{ItemID: "i", Title: texts[i], History: history}
		}
		return ps
	}
	labels := make([]float32, len(texts))
	for _, history := range [][]string{nil, {"a", "a"}} {
		for _, adapt := range []corastream.Adapt{"", corastream.AdaptAll, corastream.AdaptSuffix, corastream.AdaptLast} {
			var w []corastream.Weights
			var p *corastream.Projection
			if adapt != "" {
				_, w = pairs(m, 1, 1, 3, false, 5) // the same weights for all: equal prompts are equal to the last bit
				for len(w) < len(texts) {
					w = append(w, w[0])
				}
				p = project(m, 3, adapt, 2, attention, 5)
			}
			scores, err := m.Score(ctx, slate(history), w, p)
			if err != nil {
				t.Fatalf("%q: %v", adapt, err)
			}
			for i := range texts {
				for j := range i {
					if texts[i] == texts[j] && scores[i] != scores[j] {
						t.Errorf("%q with adapt %q: scores %d and %d are %v and %v", texts[i], adapt, j, i, scores[j], scores[i])
					}
				}
			}
			if adapt == "" {
				continue
			}
			if g, err := m.Backward(ctx, slate(history), w, p, labels); err != nil || len(g.DW) != len(texts) || len(g.Scores) != len(texts) {
				t.Fatalf("%q: gradients of %d rows, %v", adapt, len(g.DW), err)
			}
		}
	}
	states, err := m.Encode(ctx, items)
	if err != nil {
		t.Fatal(err)
	}
	for i := range texts {
		for j := range i {
			if texts[i] == texts[j] && (!reflect.DeepEqual(got[i], got[j]) || !reflect.DeepEqual(states[i], states[j])) {
				t.Errorf("%q: answers %d and %d differ", texts[i], j, i)
			}
		}
	}
}
