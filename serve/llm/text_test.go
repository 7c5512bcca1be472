package llm

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"github.com/corastream/corastream"
)

func TestRawTextScoresAsTheSamePromptDoes(t *testing.T) {
	m := tinyLlama.open(t)
	ctx := context.Background()
	yes, ok1 := m.Token(" Yes")
	no, ok2 := m.Token(" No")
	if bare, ok := m.Token("Yes"); !ok1 || !ok2 || !ok || bare == yes {
		t.Fatalf(" Yes %d %v, No %d %v, Yes %d %v", yes, ok1, no, ok2, bare, ok)
	}
	if _, ok := m.Token("more than one"); ok {
		t.Error("a text of several tokens is one")
	}
	texts := []string{"F Rain\n#A:", "F Snow\n#A:", "F Rain\n#A:"}
	ps := make([]corastream.Prompt, len(texts))
	for i, s := range texts {
		ps[i].Title = s[2:6]
	}
	_, ws := pairs(m, len(texts), 1, 3, false, 5)
	for _, adapt := range []corastream.Adapt{"", corastream.AdaptAll, corastream.AdaptSuffix, corastream.AdaptLast} {
		w, p := ws, project(m, 3, adapt, 2, attention, 5)
		if adapt == "" {
			w, p = nil, nil
		}
		got, count, err := m.LabelLogits(ctx, texts, []int{no, yes}, w, p)
		if err != nil {
			t.Fatal(err)
		}
		if want := 3 * (1 + len(texts[0])); count != want { // every byte is a token, and a BOS
			t.Errorf("%d tokens, want %d", count, want)
		}
		if adapt == corastream.AdaptSuffix { // of the prompt from its title on; of a raw text all
			p = project(m, 3, corastream.AdaptAll, 2, attention, 5)
		}
		want, err := m.Score(ctx, ps, w, p)
		if err != nil {
			t.Fatal(err)
		}
		for i, l := range want {
			if !closeBy(got[i][0], l.No, 1e-4) || !closeBy(got[i][1], l.Yes, 1e-4) {
				t.Errorf("%s: prompt %d: %v, want %v", adapt, i, got[i], l)
			}
		}
		if adapt == "" && !reflect.DeepEqual(got[0], got[2]) {
			t.Errorf("equal texts: %v and %v", got[0], got[2])
		}
	}
}

func closeBy(a, b, by float32) bool { return a-b < by && b-a < by }

func TestRawTextIsRefusedByName(t *testing.T) {
	m := tinyLlama.open(t)
	for where, call := range map[string]func() error{
		"prompts[1]": func() error {
			_, _, err := m.LabelLogits(context.Background(), []string{"a", strings.Repeat("x", 300)}, []int{1}, nil, nil)
			return err
		},
		"prompts[0]": func() error {
			_, _, err := m.LabelLogits(context.Background(), []string{strings.Repeat("x", 1<<20)}, []int{1}, nil, nil)
			return err
		},
		"labels[1]": func() error {
			_, _, err := m.LabelLogits(context.Background(), []string{"a"}, []int{1, m.arch.vocab}, nil, nil)
			return err
		},
	} {
		var usage *corastream.UsageError
		if err := call(); !asUsage(err, &usage) || usage.Where != where {
			t.Errorf("%s: %v", where, err)
		}
	}
}
