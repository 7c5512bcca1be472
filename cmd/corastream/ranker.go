package main

import (
	"context"
	"path/filepath"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream/mix"
	"github.com/corastream/corastream/replay"
	"github.com/corastream/corastream/store"
)

// newMix makes an empty list model.
func newMix(cfg Config) (*mix.Model, error) { return mix.New(cfg.Mix) }

// newRanker makes the empty list model of that name for replay; all says whether users may be listed what they have had.
func newRanker(cfg Config, model string, all bool) (corastream.Ranker, error) {
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
	return newMix(cfg)
}

// openStore opens the store of a data folder with its list model.
func openStore(cfg Config, log zerolog.Logger) (*store.Store, *mix.Model, error) {
	m, err := newMix(cfg)
	if err != nil {
		return nil, nil, err
	}
	s, err := store.Open(filepath.Join(cfg.Data, "store"), cfg.Store, store.WithLogger(log), store.WithDerived(m))
	return s, m, err
}

// openList opens the store, or a replica's copy, with the list model.
func (e *engine) openList(ctx context.Context) error {
	var m *mix.Model
	var err error
	if e.replica != nil {
		e.store, m, err = e.replica.Open(e.cfg.host(), e.log)
	} else {
		e.store, m, err = openStore(e.cfg, e.log)
	}
	if err != nil {
		return err
	}
	e.onClose(e.store.Close)
	if e.ranker == nil {
		e.ranker = m
		e.newRanker = func() (corastream.Ranker, error) { return newMix(e.cfg) }
	}
	if err := e.store.Bind(ctx, "mix", e.cfg.Mix.String(), "set mix in the configuration back, or start with another --data folder"); err != nil {
		return corastream.Usagef(e.cfg.Data, "", "%v", err)
	}
	return nil
}
