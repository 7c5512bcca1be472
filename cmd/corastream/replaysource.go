package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/console"
	"github.com/corastream/corastream/cmd/internal/datafile"
	"github.com/corastream/corastream/cmd/internal/node"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/replay"
)

// origin says where the rows are from; it goes into the report.
type origin struct {
	manifest map[string]string
	extents  []ingest.Extent
	bad      int
	survey   *replay.Survey
}

// read gathers rows and catalogue.
func (r *replaying) read(ctx context.Context, cfg node.Config, log zerolog.Logger) (replay.Data, origin, error) {
	o := origin{manifest: map[string]string{}}
	var d replay.Data
	var err error
	switch {
	case r.topic != "":
		d, err = r.readTopic(ctx, cfg, log, &o)
	case r.log != "":
		d, err = r.readLog(ctx, cfg, &o)
	default:
		if d, err = r.files.read(cfg); err == nil {
			o.survey = replay.NewSurvey("files", "")
			for _, ev := range slices.Concat(d.Train, d.Valid, d.Test) {
				o.survey.Event(ev, time.Now())
			}
		}
	}
	if err == nil && r.lists != "" {
		d.Lists, d.Plain, err = replay.ReadLists(r.lists)
	}
	if err != nil {
		return d, o, err
	}
	for name, path := range map[string]string{"train": r.files.train, "valid": r.files.valid, "test": r.files.test, "items": r.files.items, "log": r.log, "lists": r.lists} {
		if path != "" {
			if o.manifest[name], err = fileDigest(path); err != nil {
				return d, o, err
			}
		}
	}
	return d, o, nil
}

func (r *replaying) readLog(ctx context.Context, cfg node.Config, o *origin) (d replay.Data, err error) {
	if r.files.items != "" {
		if d.Items, err = datafile.Items(cfg.Kafka, r.files.items); err != nil {
			return d, err
		}
	}
	events, err := datafile.Events(cfg.Kafka, r.log, "log")
	if err != nil {
		return d, err
	}
	o.survey = replay.NewSurvey(r.log, "")
	tick, err := r.pace()
	if err != nil {
		return d, err
	}
	for _, ev := range events {
		if err := tick(ctx, ev.Time); err != nil {
			return d, err
		}
		o.survey.Event(ev, time.Now())
	}
	return d, r.cut(&d, events)
}

func (r *replaying) readTopic(ctx context.Context, cfg node.Config, log zerolog.Logger, o *origin) (d replay.Data, err error) {
	from, to, err := datafile.Bounds(r.from, r.to)
	if err != nil {
		return d, err
	}
	tick, err := r.pace()
	if err != nil {
		return d, err
	}
	done, err := node.Dial(&cfg, true, log)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, done()) }()
	o.survey = replay.NewSurvey(r.topic, "kafka")
	items := map[string]corastream.Item{}
	var order []string
	take := func(b corastream.Batch) {
		for _, it := range b.Items {
			if _, ok := items[it.ID]; !ok {
				order = append(order, it.ID)
			}
			it.Pos = corastream.Position{}
			items[it.ID] = it.Onto(items[it.ID])
		}
	}
	if r.files.items != "" {
		if d.Items, err = datafile.Items(cfg.Kafka, r.files.items); err != nil {
			return d, err
		}
	} else if _, err = datafile.Range(ctx, cfg.Kafka, []string{cfg.Kafka.Topics.Items}, ingest.Bound{}, ingest.Bound{}, console.NewProgress(log, "read catalogue topic").Set,
		func(b corastream.Batch) error { take(b); return nil }); err != nil {
		return d, err
	}
	var events []corastream.Event
	if o.extents, err = datafile.Range(ctx, cfg.Kafka, []string{r.topic}, from, to, console.NewProgress(log, "read "+r.topic).Set, func(b corastream.Batch) error {
		datafile.SurveyBatch(o.survey, b, time.Now(), func(p corastream.Position) string {
			return fmt.Sprintf("%s/%d offset %d", p.Topic, p.Partition, p.Offset)
		})
		o.bad += len(b.Bad)
		take(b)
		for _, ev := range slices.DeleteFunc(b.Events, corastream.Event.OfUser) {
			if err := tick(ctx, ev.Time); err != nil {
				return err
			}
			events = append(events, ev)
		}
		return nil
	}); err != nil {
		return d, err
	}
	for _, id := range order {
		d.Items = append(d.Items, items[id])
	}
	var parts []string
	for _, x := range o.extents {
		parts = append(parts, fmt.Sprintf("%s/%d [%d, %d)", x.Topic, x.Partition, x.From, x.To))
	}
	o.manifest["range"], o.manifest["dead_letters"] = strings.Join(parts, ", "), strconv.Itoa(o.bad)
	return d, r.cut(&d, events)
}

// cut splits a log in time: rows of one moment stay on one side.
func (r *replaying) cut(d *replay.Data, events []corastream.Event) error {
	slices.SortStableFunc(events, func(a, b corastream.Event) int { return a.Time.Compare(b.Time) })
	n := int(float64(len(events)) * r.warmup)
	together := func(n int) bool { return n > 0 && n < len(events) && events[n].Time.Equal(events[n-1].Time) }
	early, late := n, n
	for together(late) {
		late++
	}
	for together(early) {
		early--
	}
	// Where all that follows is of one moment, as in a log of days, that moment is scored.
	if n = late; late == len(events) && early > 0 {
		n = early
	}
	d.Train, d.Test = events[:n], events[n:]
	if r.dryRun || len(d.Train) > 0 && len(d.Test) > 0 {
		return nil
	}
	one := len(events) > 0 && events[0].Time.Equal(events[len(events)-1].Time)
	switch {
	case one && len(events) > 1:
		return corastream.Usagef("", "map the column that tells when an event happened (kafka.fields.events.timestamp), or give --train and --test as files of their own",
			"all %d events have the time %s, so that no part of them is later than another", len(events), events[0].Time.Format(time.RFC3339))
	case r.log != "":
		return corastream.Usagef("", "give a longer log, or change --warmup (see --dry-run)", "%d events, of which %d are learnt and %d scored", len(events), len(d.Train), len(d.Test))
	}
	return corastream.Usagef("", "widen --from and --to, or change --warmup (see --dry-run)", "%d events, of which %d are learnt and %d scored", len(events), len(d.Train), len(d.Test))
}

// pace is what holds reading back to a multiple of the log's own speed.
func (r *replaying) pace() (func(context.Context, time.Time) error, error) {
	speed := r.opt.study["speed"]
	if speed == "max" || speed == "" {
		return func(context.Context, time.Time) error { return nil }, nil
	}
	times, err := strconv.ParseFloat(strings.TrimSuffix(speed, "x"), 64)
	if err != nil || !(times > 0) || math.IsInf(times, 0) {
		return nil, corastream.Usagef("--study speed", "write max, or a number above 0: 60 is a minute in a second", "%q is not a speed", speed)
	}
	var first, began time.Time
	return func(ctx context.Context, at time.Time) error {
		if first.IsZero() {
			first, began = at, time.Now()
		}
		wait := time.Duration(float64(at.Sub(first))/times) - time.Since(began)
		if wait <= 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
			return nil
		}
	}, nil
}
