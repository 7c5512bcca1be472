package training

import (
	"context"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/generator/train"
	"github.com/corastream/corastream/serve/llm"
)

// BlankTitle is what cora-blank reads in place of every item's title.
const BlankTitle = "An item"

// Blank is what cora-blank is trained with: the checkpoint's own settings, LLM and basis, on the same log.
type Blank struct {
	Train      train.Config
	Stage      generator.StageConfig
	CF         cfstream.Spec
	Checkpoint *generator.Checkpoint
	LLM        *llm.Model
	Log        []corastream.Event
	Items      []corastream.Item
	Progress   func(step string, done, total int)
}

// Refit trains the checkpoint's generator anew with every prompt being the same, BlankTitle, and returns it with that prompt.
func (b Blank) Refit(ctx context.Context) (corastream.Generator, corastream.Prompt, error) {
	tc := b.Train
	tc.Spec, tc.Out, tc.Blank = b.Checkpoint.Model.Spec, "", BlankTitle
	deps := Deps(b.CF, b.LLM)
	deps.Basis = b.Checkpoint.Basis
	blank, _, err := train.Run(ctx, tc, train.Data{Train: b.Log, Items: b.Items}, deps, func(p train.Progress) { b.Progress("cora-blank: "+p.Phase, p.Done, p.Total) })
	if err != nil {
		return nil, corastream.Prompt{}, err
	}
	stage, err := generator.NewStage(blank, b.Stage)
	return stage, corastream.Prompt{Title: BlankTitle}, err
}

// RowsKnown counts the scored rows that are not newer than what the checkpoint was trained on, of all; 0 where it does not say.
func RowsKnown(ck *generator.Checkpoint, splits ...[]corastream.Event) (known, of int) {
	until, ok := ck.Figures[generator.TrainedUntil]
	for _, scored := range splits {
		of += len(scored)
		for _, ev := range scored {
			if ok && !ev.Time.IsZero() && ev.Time.Unix() <= int64(until) {
				known++
			}
		}
	}
	return known, of
}
