package training

import (
	"context"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/generator/train"
	"github.com/corastream/corastream/kernels/cuda"
	"github.com/corastream/corastream/serve/llm"
)

// Deps hands a frozen LLM and a CF model to training.
func Deps(cf cfstream.Spec, model *llm.Model) train.Deps {
	info := model.Info()
	deps := train.Deps{
		LLM: train.LLM{
			Digest: model.Digest(), Template: model.TemplateDigest(), Hidden: info.Hidden, Layers: info.Layers,
			In: map[corastream.Target]int{}, Out: map[corastream.Target]int{},
		},
		Encoder: model, Backprop: model, Scorer: model, CFDigest: cf.Digest(), OnDevice: onDevice(model),
		NewCF: func() (train.CF, error) { return cfstream.New(cf) },
	}
	for t, w := range model.TargetWidths() {
		deps.LLM.In[t], deps.LLM.Out[t] = w[0], w[1]
	}
	return deps
}

// onDevice keeps training's steps on the LLM's device. It returns nil without one.
func onDevice(m *llm.Model) *train.OnDevice {
	g := m.GPU()
	if g == nil {
		return nil
	}
	return &train.OnDevice{Device: g.Device, Fallback: g.Fallback, Learn: func(ctx context.Context, on *cuda.Learning, p *corastream.Projection) (train.DeviceBackprop, error) {
		l, err := m.Learn(ctx, on, p)
		if err != nil {
			return nil, err
		}
		return l, nil
	}}
}
