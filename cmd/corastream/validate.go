package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/console"
	"github.com/corastream/corastream/cmd/internal/datafile"
	"github.com/corastream/corastream/cmd/internal/itemcodes"
	"github.com/corastream/corastream/cmd/internal/node"
	"github.com/corastream/corastream/replay"
)

func validateCommand() *cobra.Command {
	var f common
	var topic, from, to string
	var strict bool
	c := &cobra.Command{
		Use:   "validate [FILE...]",
		Short: "Look through events and catalogues, in files or a topic, and say what would go wrong and what to set",
		Long: `Validate reads CSV, tab-separated files, JSON lines in any dialect that the topics take, and MovieLens' own formats
(u.data, u.item, ratings.dat, movies.dat, ratings.csv, movies.csv), or a range of a topic, with the configuration in use. It
learns, commits and writes nothing. Events and catalogue given together are compared.

Found are: rows that can not be used, with place and fix; kinds of events that the configuration does not know; data without
positives or without negatives; times that are missing, in the future or all alike; repeated rows, event ids and items; items
without a title; events on items that the catalogue lacks. Exit code 0: no error (warnings are allowed unless --strict);
1: there are errors; 2: a file can not be read at all.`,
		Example: `  corastream validate clicks.csv items.csv
  corastream validate clicks.jsonl -c configs/default.yaml --strict
  corastream validate --topic corastream.interactions --from last=2h --bootstrap-server 127.0.0.1:9092`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, log, err := f.load()
			if err != nil {
				return err
			}
			if len(args) == 0 && topic == "" {
				return corastream.Usagef("", "see --help", "name files, or a topic with --topic")
			}
			var surveys []*replay.Survey
			var prompts []string
			for _, path := range args {
				s, err := datafile.SurveyFile(cfg.Kafka, path)
				if err != nil {
					return err
				}
				surveys = append(surveys, s)
				if s.Records > 0 && prompts == nil { // a catalogue; what is wrong with it the survey says
					if items, err := datafile.Items(cfg.Kafka, path); err == nil {
						prompts = itemcodes.Prompts(items, 3)
					}
				}
			}
			if topic != "" {
				s, err := surveyTopic(cmd.Context(), cfg, log, topic, from, to)
				if err != nil {
					return err
				}
				surveys = append(surveys, s)
			}
			result := concludeAll(surveys)
			result.Prompts = prompts
			for _, s := range surveys {
				console.Say(cmd.OutOrStdout(), s.String())
			}
			if len(prompts) > 0 {
				console.Say(cmd.OutOrStdout(), fmt.Sprintf("What the language model reads of an item, for lists (title and fields are cut at 48 tokens each):\n  %s\n",
					strings.Join(quoted(prompts), "\n  ")))
			}
			if !console.IsTerminal(cmd.OutOrStdout()) {
				if err := console.JSONLine(cmd.OutOrStdout(), result); err != nil {
					return err
				}
			}
			if result.Errors > 0 || strict && result.Warnings > 0 {
				return fmt.Errorf("%d errors, %d warnings", result.Errors, result.Warnings)
			}
			return nil
		},
	}
	f.add(c, "data", "bootstrap")
	fl := c.Flags()
	fl.StringVar(&topic, "topic", "", "look through this topic too")
	fl.StringVar(&from, "from", "earliest", "where to begin: earliest, latest, an offset, a time (RFC 3339) or last=2h")
	fl.StringVar(&to, "to", "latest", "where to end, in the same words")
	fl.BoolVar(&strict, "strict", false, "let warnings fail too")
	return c
}

// quoted shows texts of a catalogue without letting them steer a terminal.
func quoted(texts []string) []string {
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = strconv.Quote(t)
	}
	return out
}

// validation is validate's summary.
type validation struct {
	OK       bool             `json:"ok"`
	Errors   int              `json:"errors"`
	Warnings int              `json:"warnings"`
	Sources  []*replay.Survey `json:"sources"`
	Prompts  []string         `json:"prompts,omitempty"` // three of a catalogue: what the LLM reads for lists
}

// concludeAll ends the surveys and compares every log with the catalogue beside it, when there is just one.
func concludeAll(surveys []*replay.Survey) validation {
	var catalogue *replay.Survey
	for _, s := range surveys {
		s.Conclude()
		if s.Records > 0 {
			if catalogue != nil {
				catalogue = nil
				break
			}
			catalogue = s
		}
	}
	out := validation{Sources: surveys}
	for _, s := range surveys {
		if catalogue != nil {
			s.Against(catalogue)
		}
		out.Errors += s.Errors()
		out.Warnings += s.Warnings()
	}
	out.OK = out.Errors == 0
	return out
}

func surveyTopic(ctx context.Context, cfg node.Config, log zerolog.Logger, topic, from, to string) (*replay.Survey, error) {
	begin, end, err := datafile.Bounds(from, to)
	if err != nil {
		return nil, err
	}
	done, err := node.Dial(&cfg, true, log)
	if err != nil {
		return nil, err
	}
	s := replay.NewSurvey(topic, "kafka")
	bar := console.NewProgress(log, "read "+topic)
	_, counts, err := datafile.RangeCounted(ctx, cfg.Kafka, []string{topic}, begin, end, bar.Set, func(b corastream.Batch) error {
		datafile.SurveyBatch(s, b, time.Now(), func(p corastream.Position) string {
			return fmt.Sprintf("%s/%d offset %d", p.Topic, p.Partition, p.Offset)
		})
		return nil
	})
	if err == nil {
		datafile.SurveyCounts(s, cfg.Kafka, counts)
	}
	return s, errors.Join(err, done())
}
