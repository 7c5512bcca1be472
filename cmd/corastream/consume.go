package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/console"
	"github.com/corastream/corastream/cmd/internal/node"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/store"
)

func consumeCommand() *cobra.Command {
	var f common
	var follow, letters, vectors, latest bool
	var from string
	var limit int
	c := &cobra.Command{
		Use:   "consume",
		Short: "Print recommendations (or dead letters, or a cluster's vectors) as JSON lines",
		Example: `  corastream consume --follow
  corastream consume --dead-letters --from earliest
  corastream consume --embeddings --follow -c configs/cluster.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := f.load()
			if err != nil {
				return err
			}
			if _, err := node.Dial(&cfg, false, log); err != nil {
				return err
			}
			bound, err := ingest.ParseBound("--from", from)
			if err != nil {
				return err
			}
			if latest = from == "latest"; latest {
				bound = ingest.FromEnd()
			}
			topic := cfg.Kafka.Topics.Recommendations
			switch {
			case letters && vectors:
				return corastream.Usagef("--embeddings", "choose one of them", "dead letters and embeddings are two topics")
			case letters:
				topic = cfg.Kafka.Topics.DeadLetters
			case vectors && cfg.Kafka.Shards == 0:
				return corastream.Usagef("kafka.shards", "give the cluster's configuration with -c", "only a cluster tells its vectors")
			case vectors:
				topic = cfg.Kafka.Topics.Embeddings
			}
			r, err := ingest.NewConsumer(cmd.Context(), cfg.Kafka, topic, bound, follow, log)
			if err != nil {
				return err
			}
			defer r.Close()
			for n := 0; limit == 0 || n < limit; n++ {
				rec, err := r.Next(cmd.Context())
				if errors.Is(err, corastream.ErrEnd) || cmd.Context().Err() != nil {
					return nil
				}
				if err != nil {
					return err
				}
				if vectors {
					told, err := printVector(cmd.OutOrStdout(), rec)
					if err != nil {
						return err
					}
					if !told {
						n--
					}
					continue
				}
				if err := printRecord(cmd.OutOrStdout(), rec, letters); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f.add(c, "data", "bootstrap")
	fl := c.Flags()
	fl.BoolVar(&follow, "follow", false, "wait for more")
	fl.BoolVar(&letters, "dead-letters", false, "the dead-letter topic")
	fl.BoolVar(&vectors, "embeddings", false, "a cluster's vectors: users, items and what all share, as they change")
	fl.StringVar(&from, "from", "earliest", "earliest, latest, an offset or a time (RFC 3339)")
	fl.IntVar(&limit, "limit", 0, "end after so many; 0: no limit")
	return c
}

// printVector prints a record of the embeddings topic; told is false for what is of use to the shards alone.
func printVector(w io.Writer, r ingest.Record) (told bool, err error) {
	c, err := ingest.DecodeChange(r)
	if err != nil {
		return false, err
	}
	t, ok, err := store.Describe(c)
	if err != nil || !ok {
		return false, err
	}
	line := map[string]any{"kind": t.Kind, "partition": r.Pos.Partition, "offset": r.Pos.Offset, "epoch": c.Epoch, "seq": c.Seq}
	if t.Kind != "shared" {
		line[t.Kind+"_id"] = t.ID
	}
	if t.Gone {
		line["gone"] = true
		return true, console.JSONLine(w, line)
	}
	line["version"], line["count"], line["bias"], line["vec"], line["acc"] = t.Version, t.Count, t.Bias, t.Vec, t.Acc
	if t.Kind == "item" {
		line["title"], line["content"] = t.Title, t.Content
	}
	if t.Kind == "user" {
		line["interactions"] = t.Interactions
	}
	return true, console.JSONLine(w, line)
}

func printRecord(w io.Writer, r ingest.Record, letters bool) error {
	if !letters {
		_, err := fmt.Fprintf(w, "%s\n", bytes.TrimSpace(r.Value))
		return err
	}
	l := ingest.DecodeLetter(r)
	return console.JSONLine(w, map[string]any{
		"reason": l.Reason, "detail": l.Detail, "topic": l.Pos.Topic, "partition": l.Pos.Partition, "offset": l.Pos.Offset,
		"key": string(l.Key), "value": string(l.Value),
	})
}
