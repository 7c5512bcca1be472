package main

import (
	"context"
	"errors"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/cluster"
)

// openReplica opens the stages of an answering process. Its state comes from the changelogs, wherever the group's offsets are; what it
// has to do, from the group.
func openReplica(ctx context.Context, cfg Config, log zerolog.Logger, beside *cluster.ShardHost) (e *engine, err error) {
	e = &engine{cfg: cfg, log: log, began: time.Now(), replica: &cluster.Replica{}, learner: beside}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
			e = nil
		}
	}()
	if err = e.openStages(ctx); err != nil {
		return e, err
	}
	r := e.replica
	if e.source, err = r.Connect(ctx, cfg.host(), log, e.onClose); err != nil {
		return e, err
	}
	e.pipeline.Source, e.pipeline.Store, e.pipeline.Behind = e.source, r, r.Behind
	if e.tracer != nil {
		e.pipeline.Store = e.tracer.Store(r)
	}
	return e, nil
}

// runReplica follows and answers until ctx ends.
func (e *engine) runReplica(ctx context.Context) error {
	e.monitor.Start()
	defer e.judged()
	bury := func(ctx context.Context, bad []corastream.DeadLetter) error {
		if err := e.pipeline.DeadLetters.Bury(ctx, bad); err != nil {
			return err
		}
		e.pipeline.Stats.DeadLetters.Add(int64(len(bad)))
		return nil
	}
	return e.run(ctx, func(ctx context.Context) error {
		return e.replica.Work(ctx, bury, e.pipeline.Wake)
	})
}
