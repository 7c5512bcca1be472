package node

import (
	"context"
	"errors"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/cluster"
)

// OpenReplica opens the stages of an answering process. Its state comes from the changelogs, wherever the group's offsets are; what it
// has to do, from the group.
func OpenReplica(ctx context.Context, cfg Config, version string, log zerolog.Logger, beside *cluster.ShardHost) (e *Node, err error) {
	e = &Node{Config: cfg, Version: version, Log: log, began: time.Now(), replica: &cluster.Replica{}, shardHost: beside}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
			e = nil
		}
	}()
	if err = e.openStages(ctx); err != nil {
		return e, err
	}
	r := e.replica
	if e.source, err = r.Connect(ctx, cfg.Shards(), log, e.opened.Add); err != nil {
		return e, err
	}
	e.Pipeline.Source, e.Pipeline.Store, e.Pipeline.Behind = e.source, r, r.Behind
	if e.tracer != nil {
		e.Pipeline.Store = e.tracer.Store(r)
	}
	return e, nil
}

// RunReplica follows and answers until ctx ends.
func (e *Node) RunReplica(ctx context.Context) error {
	e.Monitor.Start()
	defer e.Judged()
	bury := func(ctx context.Context, bad []corastream.DeadLetter) error {
		if err := e.Pipeline.DeadLetters.Bury(ctx, bad); err != nil {
			return err
		}
		e.Pipeline.Stats.DeadLetters.Add(int64(len(bad)))
		return nil
	}
	return e.Run(ctx, func(ctx context.Context) error {
		return e.replica.Work(ctx, bury, e.Pipeline.Wake)
	})
}
