package replay_test

import (
	"slices"
	"testing"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/replay"
)

// listener is a list model that notes the codes it was told.
type listener struct {
	*counted
	codes *[]float32
}

func (l listener) Describe(it corastream.Item) {
	if it.Code != nil {
		*l.codes = append(*l.codes, it.Code[0])
	}
	l.counted.Describe(it)
}

// Without a checkpoint cora, all and cora-shuffled are list models with codes; mix and words hear of none. The control has the same
// codes at other items. Each of them is paired with mix.
func TestListModelsHearOfTheirOwnCodes(t *testing.T) {
	data := makeLog(1, 1000)
	d, _ := deps(data)
	d.Generator, d.Scorer, d.Blank = nil, nil, nil
	told := map[string]*[]float32{}
	d.NewRanker = func(model string, all bool) (corastream.Ranker, error) {
		told[model] = &[]float32{}
		return listener{newCounted(all), told[model]}, nil
	}
	r := run(t, quick(replay.Prequential, replay.Mix, replay.Words, replay.Cora, replay.All, replay.CoraShuffled), data, d)
	for _, pair := range []string{"cora-mix", "words-mix", "all-mix", "cora-shuffled-mix"} {
		if _, ok := r.Paired[pair]; !ok {
			t.Errorf("no pair %s", pair)
		}
	}
	if len(*told[replay.Mix])+len(*told[replay.Words]) != 0 {
		t.Error("a model of words was told codes")
	}
	cora, shuffled := *told[replay.Cora], *told[replay.CoraShuffled]
	if len(cora) != len(data.Items) || !slices.Equal(cora, *told[replay.All]) {
		t.Errorf("cora was told %d codes", len(cora))
	}
	if slices.Equal(cora, shuffled) {
		t.Error("the control's codes stand at their own items")
	}
	slices.Sort(cora)
	slices.Sort(shuffled)
	if !slices.Equal(cora, shuffled) {
		t.Error("the control has other codes")
	}
}
