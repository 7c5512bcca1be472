package node

import (
	"context"
	"path/filepath"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream/mix"
	"github.com/corastream/corastream/replay"
	"github.com/corastream/corastream/store"
)

// NewMix makes an empty list model.
func NewMix(cfg Config) (*mix.Model, error) { return mix.New(cfg.Mix) }

// NewRanker makes the empty list model of that name for replay; all says whether users may be listed what they have had.
func NewRanker(cfg Config, model string, all bool) (corastream.Ranker, error) {
	if model == replay.Mix || model == replay.Cora || model == replay.CoraShuffled {
		cfg.Mix.Text = mix.TextTitle
	}
	if model == replay.Mix || model == replay.Words {
		cfg.Mix.Codes = 0
	}
	cfg.Mix.Repeats = mix.RepeatsNo
	if all {
		cfg.Mix.Repeats = mix.RepeatsYes
	}
	return NewMix(cfg)
}

// OpenStore opens the store of a data folder with its list model.
func OpenStore(cfg Config, log zerolog.Logger, more ...store.Option) (*store.Store, *mix.Model, error) {
	m, err := NewMix(cfg)
	if err != nil {
		return nil, nil, err
	}
	s, err := store.Open(filepath.Join(cfg.Data, "store"), cfg.Store, append([]store.Option{store.WithLogger(log), store.WithDerived(m)}, more...)...)
	return s, m, err
}

// openList opens the store, or a replica's copy, with the list model.
func (e *Node) openList(ctx context.Context) error {
	var m *mix.Model
	var err error
	if e.replica != nil {
		e.Store, m, err = e.replica.Open(e.Config.Shards(), e.Log, store.WithForgotten(e.forget))
	} else {
		e.audience = corastream.NewAudience(e.Config.Pipeline.Recommendations, e.Config.Pipeline.ActiveFor, nil)
		e.Store, m, err = OpenStore(e.Config, e.Log, store.WithOwing(e.audience.Wants), store.WithNewestFirst(), store.WithForgotten(e.forget))
	}
	if err != nil {
		return err
	}
	e.opened.Add(e.Store.Close)
	if e.Ranker == nil {
		e.Ranker = m
		e.newRanker = func() (corastream.Ranker, error) { return NewMix(e.Config) }
	}
	if err := e.Store.Bind(ctx, "mix", e.Config.Mix.String(), "set mix in the configuration back, or start with another --data folder"); err != nil {
		return corastream.Usagef(e.Config.Data, "", "%v", err)
	}
	return nil
}
