package generator

import (
	"errors"
	"strings"
	"testing"

	"github.com/corastream/corastream"
)

func TestValidateNamesEveryProblem(t *testing.T) {
	s := DefaultSpec()
	s.Hidden = 576
	if err := s.Validate(); err != nil {
		t.Fatalf("the default: %v", err)
	}
	paper := PaperSpec(30)
	paper.Hidden = 576
	if err := paper.Validate(); err != nil {
		t.Fatalf("the paper's: %v", err)
	}
	cases := map[string]func(*Spec){
		"generator.kind":            func(s *Spec) { s.Kind = "transformer" },
		"generator.inputs":          func(s *Spec) { s.Inputs = "" },
		"generator.hidden":          func(s *Spec) { s.Hidden = 0 },
		"generator.rank":            func(s *Spec) { s.Rank = 3 }, // fewer than its 4 layers
		"generator.alpha":           func(s *Spec) { s.Alpha = 0 },
		"generator.layers":          func(s *Spec) { s.Layers = -1 },
		"\"down\"":                  func(s *Spec) { s.Targets = []corastream.Target{"q", "down"} },
		"named twice":               func(s *Spec) { s.Targets = []corastream.Target{"q", "q"} },
		"no target":                 func(s *Spec) { s.Targets = nil },
		"generator.adapt":           func(s *Spec) { s.Adapt = "first" },
		"generator.taste":           func(s *Spec) { s.Taste = 0 },
		"generator.factors":         func(s *Spec) { s.Factors = 1 << 20 },
		"generator.width":           func(s *Spec) { s.Width = 0 },
		"generator.linear":          func(s *Spec) { s.Inputs = InputsPaper },
		"generator.score":           func(s *Spec) { s.Score = "yes" },
		"generator.qformer.width":   func(s *Spec) { s.Kind, s.QFormer.Width = KindQFormer, 65 },
		"generator.qformer.queries": func(s *Spec) { s.Kind, s.QFormer.Queries = KindQFormer, 0 },
		"generator.qformer.heads":   func(s *Spec) { s.Kind, s.QFormer.Heads = KindQFormer, 0 },
	}
	for want, change := range cases {
		s := DefaultSpec()
		s.Hidden = 576
		change(&s)
		err := s.Validate()
		var usage *corastream.UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "fix: ") {
			t.Errorf("want a usage error naming %s, got %v", want, err)
		}
	}
	s.Rank, s.Alpha, s.Width = 0, -1, 0
	if err := s.Validate(); strings.Count(err.Error(), "fix: ") < 3 {
		t.Errorf("three problems at once give %q", err)
	}
}
