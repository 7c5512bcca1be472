package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/console"
	"github.com/corastream/corastream/cmd/internal/datafile"
	"github.com/corastream/corastream/cmd/internal/node"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/replay"
)

func produceCommand() *cobra.Command {
	var f common
	var topic string
	var rate float64
	var skip bool
	c := &cobra.Command{
		Use:   "produce FILE",
		Short: "Put events or a catalogue from a file into Kafka",
		Long: `Produce reads CSV (user_id,item_id,timestamp and label, rating or type: events; item_id,title: a catalogue), MovieLens' own
files (u.data, u.item, ratings.dat, movies.dat, ratings.csv, movies.csv) or JSON lines (sent as they are, in any dialect the
topic takes; "-" is standard input). Beside a running ` + "`up`" + ` it uses that process's broker. ` + "`corastream validate FILE`" + ` says beforehand
what would go wrong.`,
		Example: `  corastream produce items.csv
  corastream produce clicks.csv --rate 500
  tail -f clicks.jsonl | corastream produce - --bootstrap-server kafka:9092`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, log, err := f.load()
			if err != nil {
				return err
			}
			done, err := node.Dial(&cfg, true, log)
			if err != nil {
				return err
			}
			bad := &badRecords{skip: skip}
			n, err := produceFile(cmd.Context(), cfg, log, args[0], topic, rate, cmd.InOrStdin(), bad)
			if err = errors.Join(err, done()); err != nil {
				return err
			}
			err = console.Summary(cmd.OutOrStdout(), map[string]any{"produced": n, "file": args[0], "bad": bad.n})
			return errors.Join(err, bad.err(args[0]))
		},
	}
	f.add(c, "data", "bootstrap")
	c.Flags().StringVar(&topic, "topic", "", "topic for JSON lines: interactions, items or requests (default: told by the first lines; of standard input, interactions)")
	c.Flags().BoolVar(&skip, "skip-bad", false, "leave out records that can only become dead letters, and go on")
	c.Flags().Float64Var(&rate, "rate", 0, "events per second; 0: as fast as they go")
	return c
}

// badRecords counts what can only become a dead letter.
type badRecords struct {
	skip  bool
	n     int
	first string
}

func (b *badRecords) add(where, why string) {
	if b.n++; b.n == 1 {
		b.first = where + ": " + why
	}
}

func (b *badRecords) err(path string) error {
	if b.n == 0 || b.skip {
		return nil
	}
	return fmt.Errorf("%d records can only become dead letters, the first at %s (fix: `corastream validate %s` lists them; --skip-bad leaves them out)", b.n, b.first, path)
}

func produceFile(ctx context.Context, cfg node.Config, log zerolog.Logger, path, topic string, rate float64, stdin io.Reader, bad *badRecords) (int, error) {
	if err := ingest.EnsureTopics(ctx, cfg.Kafka); err != nil {
		return 0, fmt.Errorf("topics: %w", err)
	}
	p, err := ingest.NewProducer(cfg.Kafka, log)
	if err != nil {
		return 0, err
	}
	defer p.Close()
	if datafile.IsJSONLines(path) {
		return produceLines(ctx, cfg, p, path, topic, rate, stdin, bad)
	}
	read := datafile.ReadOptions(ingest.NewDecoder(cfg.Kafka))
	read.Untimed = true
	if bad.skip {
		read.Forgive = func(b replay.BadRow) { bad.add(b.Err.Where, b.Err.What) }
	}
	catalogue, err := read.IsCatalogue(path)
	if err != nil {
		return 0, err
	}
	if catalogue {
		items, err := read.Items(path)
		if err != nil {
			return 0, err
		}
		return len(items), p.Items(ctx, items)
	}
	events, err := read.Events(path, "file")
	if err != nil {
		return 0, err
	}
	bar := console.NewProgress(log, "produce")
	return paced(ctx, events, rate, p.Events, func(n int) { bar.Set(n, len(events)) })
}

// paced sends records in slices, at the given rate if one is set.
func paced[T any](ctx context.Context, all []T, rate float64, send func(context.Context, []T) error, tell func(int)) (int, error) {
	const slice = 5000
	began := time.Now()
	for sent := 0; sent < len(all); {
		n := min(slice, len(all)-sent)
		if rate > 0 {
			n = min(n, max(1, int(time.Since(began).Seconds()*rate)-sent))
			if wait := time.Duration(float64(sent+n)/rate*float64(time.Second)) - time.Since(began); wait > 0 {
				select {
				case <-ctx.Done():
					return sent, ctx.Err()
				case <-time.After(wait):
				}
			}
		}
		if err := send(ctx, all[sent:sent+n]); err != nil {
			return sent, err
		}
		sent += n
		tell(sent)
	}
	return len(all), nil
}

func produceLines(ctx context.Context, cfg node.Config, p *ingest.Producer, path, topic string, rate float64, stdin io.Reader, skipped *badRecords) (int, error) {
	name := cfg.Kafka.Topics.Interactions
	switch topic {
	case "":
		if path == "-" {
			break
		}
		var err error
		if name, err = datafile.JSONTopic(cfg.Kafka, path); err != nil {
			return 0, err
		}
	case "interactions":
	case "items":
		name = cfg.Kafka.Topics.Items
	case "requests":
		name = cfg.Kafka.Topics.Requests
	default:
		return 0, corastream.Usagef("--topic", "choose interactions, items or requests", "%q is not a topic to write to", topic)
	}
	in := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return 0, corastream.Usagef(path, "check the file's name", "%v", err)
		}
		defer f.Close()
		in = f
	}
	var records []ingest.Record
	total := 0
	flush := func() error {
		_, err := paced(ctx, records, rate, func(ctx context.Context, r []ingest.Record) error { return p.Raw(ctx, name, r) }, func(int) {})
		total += len(records)
		records = records[:0]
		return err
	}
	decoder := ingest.NewDecoder(cfg.Kafka)
	err := datafile.JSONRecords(in, path, func(place string, value []byte) error {
		r := ingest.Record{Pos: corastream.Position{Topic: name}, Value: bytes.Clone(value), Time: time.Now()}
		var bad *corastream.DeadLetter
		if r.Key, bad = keyOf(decoder, r); bad != nil && name == cfg.Kafka.Topics.Items && !skipped.skip {
			// Bad events go out as they are and become dead letters; but a compacted topic takes no record without a key.
			return corastream.Usagef(place, "write one catalogue record a line: {\"item_id\": ..., \"title\": ...}", "%s: %s", bad.Reason, bad.Detail)
		}
		if bad != nil {
			if skipped.add(place, bad.Reason+": "+bad.Detail); skipped.skip {
				return nil
			}
		}
		if records = append(records, r); len(records) == 1000 || path == "-" && rate == 0 {
			return flush()
		}
		return nil
	})
	if err != nil {
		return total, err
	}
	err = flush()
	return total, err
}

// keyOf finds the record's key (user or item), so that one user's events stay in order; a bad record gets none.
func keyOf(d *ingest.Decoder, r ingest.Record) ([]byte, *corastream.DeadLetter) {
	var b corastream.Batch
	d.Decode(&b, r, time.Now())
	var bad *corastream.DeadLetter
	if len(b.Bad) > 0 {
		bad = &b.Bad[0]
	}
	switch {
	case len(b.Events) > 0:
		return []byte(b.Events[0].User), bad
	case len(b.Items) > 0:
		return []byte(b.Items[0].ID), bad
	case len(b.Requests) > 0:
		return []byte(b.Requests[0].User), bad
	}
	return nil, bad
}
