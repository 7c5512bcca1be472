package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/datafile"
	"github.com/corastream/corastream/ingest"
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
			for _, path := range args {
				s, err := surveyFile(cfg, path)
				if err != nil {
					return err
				}
				surveys = append(surveys, s)
			}
			if topic != "" {
				s, err := surveyTopic(cmd.Context(), cfg, log, topic, from, to)
				if err != nil {
					return err
				}
				surveys = append(surveys, s)
			}
			result := concludeAll(surveys)
			for _, s := range surveys {
				say(cmd.OutOrStdout(), s.String())
			}
			if !terminal(cmd.OutOrStdout()) {
				if err := jsonLine(cmd.OutOrStdout(), result); err != nil {
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

// validation is validate's summary.
type validation struct {
	OK       bool             `json:"ok"`
	Errors   int              `json:"errors"`
	Warnings int              `json:"warnings"`
	Sources  []*replay.Survey `json:"sources"`
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

func surveyFile(cfg Config, path string) (*replay.Survey, error) {
	d := ingest.NewDecoder(cfg.Kafka)
	if !datafile.IsJSONLines(path) {
		s, err := datafile.Reading(d).Survey(path)
		if err == nil {
			surveyCounts(s, cfg, d.Counts)
		}
		return s, err
	}
	topic, err := datafile.JSONTopic(cfg.Kafka, path)
	if err != nil {
		return nil, err
	}
	s := replay.NewSurvey(path, "json lines")
	now := time.Now()
	err = datafile.EachJSONLine(d, path, topic, func(place string, b corastream.Batch) error {
		surveyBatch(s, b, now, func(corastream.Position) string { return place })
		return nil
	})
	surveyCounts(s, cfg, d.Counts)
	return s, err
}

// surveyCounts adds what only the decoder knows: what no event says, and what nothing reads.
func surveyCounts(s *replay.Survey, cfg Config, c *ingest.Counts) {
	switch implied := c.Implied(); {
	case implied == 0:
	case implied == int64(s.Events):
		s.Add(replay.LevelWarning, "set kafka.default_kind to what they are, or to \"\" so that they are refused",
			"no record says what happened: this is read as a log of implicit positives, each a %s", cfg.Kafka.DefaultKind)
	default:
		s.Add(replay.LevelWarning, "name type, label or rating in each, or set kafka.default_kind",
			"%d of %d events do not say what happened, and are taken for a %s", implied, s.Events, cfg.Kafka.DefaultKind)
	}
	if n := c.NoTime(); n > 0 {
		fix := "write timestamp, or map kafka.fields.events.timestamp"
		if name := ingest.NewDecoder(cfg.Kafka).Likely(slices.Sorted(maps.Keys(c.Unread())))["timestamp"]; name != "" {
			fix += fmt.Sprintf(", as in kafka: {fields: {events: {timestamp: %s}}}", name)
		}
		s.Add(replay.LevelWarning, fix, "%d events have no time of their own: they are taken to happen when they are read", n)
	}
	surveyRatings(s, cfg.Kafka.RatingThreshold, c)
	unread := c.Unread()
	if s.Events == 0 {
		return // of a catalogue, every name is a field
	}
	for _, name := range slices.Sorted(maps.Keys(unread)) {
		s.Add(replay.LevelNote, "", "nothing reads %.60q (%d times)", name, unread[name])
	}
}

// surveyRatings looks at the scale: the threshold is of scales from 1 to 5, where none is set.
func surveyRatings(s *replay.Survey, threshold float64, c *ingest.Counts) {
	lo, hi, n, zeros := c.Ratings()
	if n == 0 {
		return
	}
	fix := fmt.Sprintf("set kafka.rating_threshold to the lowest rating that means liked, such as %g", math.Round(lo+0.7*(hi-lo)))
	switch {
	case lo >= threshold:
		s.Add(replay.LevelWarning, fix, "all %d ratings, from %g to %g, are liked at kafka.rating_threshold %g", n, lo, hi, threshold)
	case hi < threshold:
		s.Add(replay.LevelWarning, fix, "no rating, from %g to %g, is liked at kafka.rating_threshold %g", lo, hi, threshold)
	case hi > 5 && threshold <= 5:
		s.Add(replay.LevelWarning, fix, "ratings go from %g to %g, and are liked from %g on", lo, hi, threshold)
	}
	switch {
	case lo < 0:
		s.Add(replay.LevelWarning, "leave such rows out, or give them a type of their own", "ratings go down to %g: if that means \"not rated\", it is learnt as a dislike", lo)
	case zeros > 0 && lo == 0 && hi >= 5:
		s.Add(replay.LevelWarning, "leave such rows out, or give them a type of their own", "%d ratings are 0: if that means \"not rated\", it is learnt as a dislike", zeros)
	}
}

func surveyTopic(ctx context.Context, cfg Config, log zerolog.Logger, topic, from, to string) (*replay.Survey, error) {
	begin, end, err := datafile.Bounds(from, to)
	if err != nil {
		return nil, err
	}
	done, err := dial(&cfg, true, log)
	if err != nil {
		return nil, err
	}
	s := replay.NewSurvey(topic, "kafka")
	bar := newProgress(log, "read "+topic)
	_, counts, err := datafile.RangeCounted(ctx, cfg.Kafka, []string{topic}, begin, end, bar.Set, func(b corastream.Batch) error {
		surveyBatch(s, b, time.Now(), func(p corastream.Position) string {
			return fmt.Sprintf("%s/%d offset %d", p.Topic, p.Partition, p.Offset)
		})
		return nil
	})
	if err == nil {
		surveyCounts(s, cfg, counts)
	}
	return s, errors.Join(err, done())
}

func surveyBatch(s *replay.Survey, b corastream.Batch, now time.Time, place func(corastream.Position) string) {
	for _, ev := range b.Events {
		s.Event(ev, now)
	}
	for _, it := range b.Items {
		s.Item(it)
	}
	for _, l := range b.Bad {
		reason, fix := datafile.Remedy(l)
		s.Reject(reason, place(l.Pos), l.Detail, fix)
	}
}
