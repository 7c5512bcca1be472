package datafile

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/replay"
)

// SurveyFile looks through one file, as what it is: a table, or JSON lines of the topic that they are for.
func SurveyFile(cfg ingest.Config, path string) (*replay.Survey, error) {
	d := ingest.NewDecoder(cfg)
	if !IsJSONLines(path) {
		s, err := ReadOptions(d).Survey(path)
		if err == nil {
			SurveyCounts(s, cfg, d.Counts)
		}
		return s, err
	}
	topic, err := JSONTopic(cfg, path)
	if err != nil {
		return nil, err
	}
	s := replay.NewSurvey(path, "json lines")
	now := time.Now()
	err = EachJSONLine(d, path, topic, func(place string, b corastream.Batch) error {
		SurveyBatch(s, b, now, func(corastream.Position) string { return place })
		return nil
	})
	SurveyCounts(s, cfg, d.Counts)
	return s, err
}

// SurveyCounts adds what only the decoder knows: what no event says, and what nothing reads.
func SurveyCounts(s *replay.Survey, cfg ingest.Config, c *ingest.Counts) {
	switch implied := c.Implied(); {
	case implied == 0:
	case implied == int64(s.Events):
		s.Add(replay.LevelWarning, "set kafka.default_kind to what they are, or to \"\" so that they are refused",
			"no record says what happened: this is read as a log of implicit positives, each a %s", cfg.DefaultKind)
	default:
		s.Add(replay.LevelWarning, "name type, label or rating in each, or set kafka.default_kind",
			"%d of %d events do not say what happened, and are taken for a %s", implied, s.Events, cfg.DefaultKind)
	}
	if n := c.NoTime(); n > 0 {
		fix := "write timestamp, or map kafka.fields.events.timestamp"
		if name := ingest.NewDecoder(cfg).Likely(slices.Sorted(maps.Keys(c.Unread())))["timestamp"]; name != "" {
			fix += fmt.Sprintf(", as in kafka: {fields: {events: {timestamp: %s}}}", name)
		}
		s.Add(replay.LevelWarning, fix, "%d events have no time of their own: they are taken to happen when they are read", n)
	}
	surveyRatings(s, cfg.RatingThreshold, c)
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

// SurveyBatch adds what was decoded; place names where a bad record was.
func SurveyBatch(s *replay.Survey, b corastream.Batch, now time.Time, place func(corastream.Position) string) {
	for _, ev := range b.Events {
		s.Event(ev, now)
	}
	for _, it := range b.Items {
		s.Item(it)
	}
	for _, l := range b.Bad {
		reason, fix := Remedy(l)
		s.Reject(reason, place(l.Pos), l.Detail, fix)
	}
}
