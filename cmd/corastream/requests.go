package main

import (
	"context"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/node"
	"github.com/corastream/corastream/ingest"
)

func requestsCommand() *cobra.Command {
	var f common
	var q corastream.Request
	var history []string
	var wait time.Duration
	c := &cobra.Command{
		Use:     "requests",
		Short:   "Ask for a recommendation over Kafka and print the answer",
		Example: "  corastream requests --user 42 -n 5",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := f.load()
			if err != nil {
				return err
			}
			if err := required(map[string]string{"user": q.User}); err != nil {
				return err
			}
			if q.History, err = pastLikes(history); err != nil {
				return err
			}
			if err := corastream.CheckSeen("--seen", q.Seen); err != nil {
				return err
			}
			if _, err := node.Dial(&cfg, false, log); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), wait)
			defer cancel()
			q.ID = fmt.Sprintf("cli-%d", time.Now().UnixNano())
			rec, err := answerTo(ctx, cfg, log, q)
			if ctx.Err() != nil && cmd.Context().Err() == nil {
				return fmt.Errorf("no answer within %s (fix: see that `corastream up` runs on these topics, or raise --wait): %w", wait, err)
			}
			if err != nil {
				return err
			}
			return printRecord(cmd.OutOrStdout(), rec, false)
		},
	}
	f.add(c, "data", "bootstrap")
	fl := c.Flags()
	fl.StringVar(&q.User, "user", "", "who")
	fl.IntVarP(&q.N, "items", "n", 0, "how many items (0: as configured)")
	fl.StringSliceVar(&history, "history", nil, "items liked since, oldest first, that are in no log")
	fl.StringVar(&q.Seen, "seen", "", seenHelp)
	fl.DurationVar(&wait, "wait", 30*time.Second, "how long to wait for the answer")
	return c
}

// answerTo sends a request and waits for its answer.
func answerTo(ctx context.Context, cfg node.Config, log zerolog.Logger, q corastream.Request) (ingest.Record, error) {
	r, err := ingest.NewConsumer(ctx, cfg.Kafka, cfg.Kafka.Topics.Recommendations, ingest.AtTime(time.Now().Add(-time.Second)), true, log)
	if err != nil {
		return ingest.Record{}, err
	}
	defer r.Close()
	p, err := ingest.NewProducer(cfg.Kafka, log)
	if err != nil {
		return ingest.Record{}, err
	}
	defer p.Close()
	if err := p.Requests(ctx, []corastream.Request{q}); err != nil {
		return ingest.Record{}, err
	}
	for {
		rec, err := r.Next(ctx)
		if err != nil {
			return rec, err
		}
		if got, err := ingest.DecodeRecommendation(rec); err == nil && got.RequestID == q.ID {
			return rec, nil
		}
	}
}
