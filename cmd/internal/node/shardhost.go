package node

import (
	"context"
	"errors"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream/cmd/internal/closers"
	"github.com/corastream/corastream/cmd/internal/cluster"
	"github.com/corastream/corastream/cmd/internal/tracing"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/replay"
	"github.com/corastream/corastream/serve"
)

// Shards is the part of the configuration that a process needs to run shards.
func (c Config) Shards() cluster.Deps {
	return cluster.Deps{Data: c.Data, Cluster: c.Cluster, Kafka: c.Kafka, Store: c.Store, CF: c.CF, Mix: c.Mix, Pipeline: c.pipeline()}
}

// OpenShardHost opens the learning role of a process: the LLM that reads titles, traces, and the HTTP server where no replica answers.
// The function that it returns closes all of it.
func OpenShardHost(cfg Config, version string, log zerolog.Logger, member string, listen bool) (l *cluster.ShardHost, end func() error, err error) {
	var opened closers.List
	defer func() {
		if err != nil {
			err = errors.Join(err, opened.Close())
		}
	}()
	d := cfg.Shards()
	d.Member, d.Log = member, log
	traces, err := tracing.Open(context.Background(), version, log)
	if err != nil {
		return nil, nil, err
	}
	if traces != nil {
		d.Trace = traces.Tracer()
		opened.Add(traces.Close)
	}
	if d.LLM, err = OpenLLM(cfg.LLM, log); err != nil {
		return nil, nil, err
	}
	if d.LLM != nil {
		opened.Add(d.LLM.Close)
		ck, err := OpenCheckpoint(cfg, d.LLM)
		if err != nil {
			return nil, nil, err
		}
		if ck != nil {
			d.Basis = ck.Basis
		}
	}
	if d.Bias, err = NewCF(cfg, replay.Bias); err != nil {
		return nil, nil, err
	}
	if listen {
		producer, err := ingest.NewProducer(cfg.Kafka, log)
		if err != nil {
			return nil, nil, err
		}
		opened.Add(producer.Close)
		d.Listen = func(deps serve.Deps) (*serve.Server, error) {
			deps.Events = NewEventSink(producer, cfg.Kafka)
			deps.Version, deps.Log = version, log
			deps.AUC = func() map[string]float64 { return aucOf(l.Monitor()) }
			if d.Trace != nil {
				d.Trace.WrapHTTP(&deps)
			}
			return serve.New(cfg.HTTP, deps)
		}
	}
	if l, err = cluster.OpenShardHost(d); err != nil {
		return nil, nil, err
	}
	opened.Add(l.Close)
	return l, opened.Close, nil
}
