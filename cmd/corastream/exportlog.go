package main

import (
	"context"
	"errors"
	"io"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/corastream/corastream/cmd/internal/console"
	"github.com/corastream/corastream/cmd/internal/datafile"
	"github.com/corastream/corastream/cmd/internal/node"
	"github.com/corastream/corastream/ingest"
)

func exportEventsCommand() *cobra.Command {
	var f common
	var from, to, out string
	c := &cobra.Command{
		Use:   "events",
		Short: "Write the events of the log as JSON lines that `produce` reads back",
		Long: `Events reads the interactions topic of the running ` + "`up`" + `, of a data folder that nobody holds, or of a Kafka, and writes one event a
line. Users who have been erased are left out where nobody holds the data folder; beside a running ` + "`up`" + ` they can not be told, and a warning
says so. What a topic has lost to its retention is not there.`,
		Example: "  corastream export events --out events.jsonl\n  corastream export events --from last=24h | gzip > yesterday.jsonl.gz",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			begin, end, err := datafile.Bounds(from, to)
			if err != nil {
				return err
			}
			return dump(cmd, &f, out, func(ctx context.Context, cfg node.Config, w io.Writer, log zerolog.Logger) (datafile.Dumped, error) {
				gone, known, err := node.Erased(cfg, log)
				if err != nil {
					return datafile.Dumped{}, err
				}
				if !known {
					log.Warn().Str("data", cfg.Data).Msg("a running process holds the data folder: events of erased users may be in the export (fix: stop it first)")
				}
				return datafile.DumpEvents(ctx, cfg.Kafka, begin, end, w, gone, console.NewProgress(log, "export").Set)
			})
		},
	}
	f.add(c, "data", "bootstrap")
	c.Flags().StringVar(&from, "from", "earliest", "where to begin: earliest, an offset, a time (RFC 3339) or last=2h")
	c.Flags().StringVar(&to, "to", "latest", "where to end, in the same words")
	c.Flags().StringVar(&out, "out", "-", "file to write; -: standard output")
	return c
}

func exportItemsCommand() *cobra.Command {
	var f common
	var out string
	c := &cobra.Command{
		Use:     "items",
		Short:   "Write the catalogue as it stands as JSON lines that `produce` reads back",
		Long:    "Items reads the items topic of the running `up`, of a data folder that nobody holds, or of a Kafka, and writes each item's last record.",
		Example: "  corastream export items --out items.jsonl",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return dump(cmd, &f, out, func(ctx context.Context, cfg node.Config, w io.Writer, log zerolog.Logger) (datafile.Dumped, error) {
				return datafile.DumpItems(ctx, cfg.Kafka, w, console.NewProgress(log, "export").Set)
			})
		},
	}
	f.add(c, "data", "bootstrap")
	c.Flags().StringVar(&out, "out", "-", "file to write; -: standard output")
	return c
}

// dump finds the broker, has write fill the file, and prints what was written, unless the records go to standard output.
func dump(cmd *cobra.Command, f *common, out string, write func(context.Context, node.Config, io.Writer, zerolog.Logger) (datafile.Dumped, error)) error {
	cfg, log, err := f.load()
	if err != nil {
		return err
	}
	done, err := node.Dial(&cfg, true, log)
	if err != nil {
		return err
	}
	var n datafile.Dumped
	err = ingest.EnsureTopics(cmd.Context(), cfg.Kafka)
	if err == nil {
		err = datafile.WriteWhole(out, cmd.OutOrStdout(), func(w io.Writer) (err error) {
			n, err = write(cmd.Context(), cfg, w, log)
			return err
		})
	}
	if err = errors.Join(err, done()); err != nil || out == "-" {
		return err
	}
	return console.JSONLine(cmd.OutOrStdout(), struct {
		File string `json:"file"`
		datafile.Dumped
	}{out, n})
}
