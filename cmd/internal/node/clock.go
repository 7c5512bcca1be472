package node

import (
	"context"
	"time"
)

// The store keeps how far the log's time lies behind the wall clock, so that another process asks for lists at the same time.
const (
	clockMeta  = "log_behind"
	clockEvery = 10 * time.Second // between two looks whether it has moved by as much
)

// restoreClock reads what an earlier process kept.
func (e *Node) restoreClock() error {
	if e.Ranker == nil {
		return nil
	}
	text, err := e.Store.Meta(clockMeta)
	if err != nil || text == "" {
		return err
	}
	behind, err := time.ParseDuration(text)
	if err != nil {
		return err
	}
	e.Pipeline.Clock.Restore(behind)
	return nil
}

// keepClock writes it now and then, and once more when ctx ends.
func (e *Node) keepClock(ctx context.Context) {
	var kept time.Duration
	keep := func(least time.Duration) {
		behind, known := e.Pipeline.Clock.Behind()
		if !known || (behind-kept).Abs() < least {
			return
		}
		if err := e.Store.SetMeta(context.WithoutCancel(ctx), clockMeta, behind.String()); err != nil {
			e.Log.Warn().Err(err).Msg("keep the log's time")
			return
		}
		kept = behind
	}
	tick := time.NewTicker(clockEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			keep(time.Second)
			return
		case <-tick.C:
			keep(clockEvery)
		}
	}
}
