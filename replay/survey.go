package replay

import (
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/corastream/corastream"
)

// Levels of a finding. An error keeps the data from being of use; a warning deserves a look; a note is for information.
const (
	LevelError   = "error"
	LevelWarning = "warning"
	LevelNote    = "note"
)

// Finding is something a survey noticed.
type Finding struct {
	Level string `json:"level"`
	What  string `json:"what"`
	Where string `json:"where,omitempty"` // the first place: file:line:column, or topic/partition/offset
	Fix   string `json:"fix,omitempty"`
	Count int    `json:"count,omitempty"`
}

// surveyLimit bounds the ids, rows and kinds that a survey tells apart; beyond it counts are lower bounds.
const (
	surveyLimit = 4 << 20
	surveyKinds = 100
)

// Survey says what events or a catalogue hold, without learning them: what `validate` and `replay --dry-run` print.
type Survey struct {
	Source string `json:"source"`
	Format string `json:"format,omitempty"`
	Holds  string `json:"holds"` // "events", "catalogue", "both" or "nothing"

	Events    int            `json:"events"`
	Records   int            `json:"catalogue_records"`
	Bad       int            `json:"bad"`
	Users     int            `json:"users"`
	Items     int            `json:"items"` // that events name
	Positive  int            `json:"positive"`
	Negative  int            `json:"negative"`
	Implicit  int            `json:"implicit"`
	Kinds     map[string]int `json:"kinds,omitempty"`
	First     *time.Time     `json:"first,omitempty"`
	Last      *time.Time     `json:"last,omitempty"`
	Repeats   int            `json:"repeats"`      // rows that say what an earlier one said, at the same second
	RepeatIDs int            `json:"repeated_ids"` // event ids, or catalogue items, that came before
	Unordered int            `json:"out_of_order"`
	Untitled  int            `json:"untitled"`
	Findings  []Finding      `json:"findings"`

	seed         maphash.Seed
	users, items map[string]struct{}
	records      map[string]struct{}
	rows, ids    map[uint64]struct{}
	titles       map[string]int
	bad          map[string]*Finding
	previous     time.Time
	epoch        int         // events of time 0, as where a time was never set
	early        int         // others before 1990
	ahead        int         // events after now
	years        int         // catalogue records with a year
	widths       map[int]int // records with a vector of that many numbers of their own
	width        int         // of the first
	repeated     string
}

// NewSurvey begins one.
func NewSurvey(source, format string) *Survey {
	return &Survey{
		Source: source, Format: format, Kinds: map[string]int{}, seed: maphash.MakeSeed(), users: map[string]struct{}{}, items: map[string]struct{}{},
		records: map[string]struct{}{}, rows: map[uint64]struct{}{}, ids: map[uint64]struct{}{}, titles: map[string]int{}, bad: map[string]*Finding{},
		Findings: []Finding{},
	}
}

func note[K comparable](set map[K]struct{}, key K) (new bool) {
	if _, ok := set[key]; ok {
		return false
	}
	if len(set) < surveyLimit {
		set[key] = struct{}{}
	}
	return true
}

// Event takes in one event; now is the moment against which its time is in the future.
func (s *Survey) Event(ev corastream.Event, now time.Time) {
	s.Events++
	note(s.users, ev.User)
	if ev.OfUser() {
		s.Kinds[ev.Kind]++
		return
	}
	note(s.items, ev.Item)
	if _, ok := s.Kinds[ev.Kind]; ok || len(s.Kinds) < surveyKinds {
		s.Kinds[ev.Kind]++
	}
	switch {
	case ev.Implicit:
		s.Implicit++
		s.Positive++
	case ev.Positive():
		s.Positive++
	default:
		s.Negative++
	}
	if s.First == nil || ev.Time.Before(*s.First) {
		s.First = &ev.Time
	}
	if s.Last == nil || ev.Time.After(*s.Last) {
		s.Last = &ev.Time
	}
	if ev.Time.Before(s.previous) {
		s.Unordered++
	}
	s.previous = ev.Time
	if ev.Time.Unix() == 0 {
		s.epoch++
	} else if ev.Time.Year() < 1990 {
		s.early++
	}
	if ev.Time.After(now.Add(5 * time.Minute)) {
		s.ahead++
	}
	if !note(s.rows, maphash.String(s.seed, fmt.Sprintf("%q%q%q%v%d", ev.User, ev.Item, ev.Kind, ev.Label, ev.Time.Unix()))) {
		s.Repeats++
	}
	if ev.ID != "" && !note(s.ids, maphash.String(s.seed, ev.ID)) {
		s.RepeatIDs++
		s.repeated = ev.ID
	}
}

// Item takes in one catalogue record.
func (s *Survey) Item(it corastream.Item) {
	s.Records++
	first := note(s.records, it.ID)
	if !first {
		s.RepeatIDs++
		s.repeated = it.ID
	}
	if strings.TrimSpace(it.Title) == "" && (it.Withdrawn || it.Keep.Title && !first) {
		// A removal, or a change of something else.
	} else if strings.TrimSpace(it.Title) == "" {
		s.Untitled++
	} else if _, ok := s.titles[it.Title]; ok || len(s.titles) < surveyLimit {
		s.titles[it.Title]++
	}
	if it.Fields["year"] != "" {
		s.years++
	}
	if n := len(corastream.UnpackEmbedding(it.Fields[corastream.FieldEmbedding])); n > 0 {
		if s.width == 0 {
			s.width, s.widths = n, map[int]int{}
		}
		s.widths[n]++
	}
}

// Reject takes in a record that can not be used. Those of one reason are one finding, with the first's place.
func (s *Survey) Reject(reason, where, what, fix string) {
	s.Bad++
	f := s.bad[reason]
	if f == nil {
		f = &Finding{Level: LevelError, What: reason + ": " + what, Where: where, Fix: fix}
		s.bad[reason] = f
	}
	f.Count++
}

// Add puts a finding in.
func (s *Survey) Add(level, fix, format string, args ...any) {
	s.Findings = append(s.Findings, Finding{Level: level, What: fmt.Sprintf(format, args...), Fix: fix})
}

// Conclude fills in what follows from all records. s must not be fed any more.
func (s *Survey) Conclude() {
	s.Users, s.Items = len(s.users), len(s.items)
	s.Holds = "nothing"
	switch {
	case s.Events > 0 && s.Records > 0:
		s.Holds = "both"
	case s.Events > 0:
		s.Holds = "events"
	case s.Records > 0:
		s.Holds = "catalogue"
	}
	for _, reason := range slices.Sorted(maps.Keys(s.bad)) {
		s.Findings = append(s.Findings, *s.bad[reason])
	}
	s.Findings = joinKinds(s.Findings)
	if s.Holds == "nothing" && s.Bad == 0 {
		s.Add(LevelError, "see that this is the file, topic or range you mean", "there is nothing in it")
	}
	if s.Events > 0 {
		s.concludeEvents()
	}
	if s.Records > 0 {
		s.concludeItems()
	}
	rank := map[string]int{LevelError: 0, LevelWarning: 1, LevelNote: 2}
	slices.SortStableFunc(s.Findings, func(a, b Finding) int { return rank[a.Level] - rank[b.Level] })
}

func (s *Survey) concludeEvents() {
	switch {
	case s.Positive == 0:
		s.Add(LevelError, "lower kafka.rating_threshold to what counts as liked, or give the kinds that are positive label: 1 under kafka.kinds",
			"no event is positive, so there is nothing to recommend by")
	case s.Negative == 0 && s.Implicit == 0:
		fix := "set implicit: true for its kinds under kafka.kinds, so that negatives are drawn; or send impressions too"
		if s.Kinds["rating"] > 0 {
			fix = "raise kafka.rating_threshold to the lowest rating that means liked"
		} else if s.Kinds["label"] > 0 {
			fix = "write the events of label 0 too, or leave label out and name a type that is implicit under kafka.kinds"
		}
		s.Add(LevelWarning, fix, "every event is an explicit positive: a model that sees no negatives learns only what is popular")
	case s.Positive*100 < s.Events:
		s.Add(LevelWarning, "see that the labels or kafka.rating_threshold are what you mean", "%.2f %% of the events are positive", 100*float64(s.Positive)/float64(s.Events))
	}
	if s.early > 0 {
		s.Add(LevelWarning, "say what moment 0 stands for, and what is counted, as in kafka: {time_origin: 2016-06-14T04:00:00Z, time_unit: ms}; or write unix times or RFC 3339",
			"%d events are from before 1990, and all from %s to %s: do their times count from a moment of their own?", s.early, s.First.Format(time.DateOnly), s.Last.Format(time.DateOnly))
	}
	if s.epoch > 0 {
		s.Add(LevelWarning, "write unix seconds, unix milliseconds or RFC 3339 into timestamp", "%d events are from the start of 1970: times that were never set?", s.epoch)
	}
	if s.ahead > 0 {
		s.Add(LevelWarning, "correct the producer's clock or unit; beyond kafka.max_ahead events become dead letters", "%d events are in the future, up to %s", s.ahead, s.Last.Format(time.RFC3339))
	}
	if s.Events > 1 && s.First.Equal(*s.Last) {
		s.Add(LevelWarning, "map the column that tells when an event happened (kafka.fields.events.timestamp)", "all events have the same time, so neither order nor replay means anything")
	}
	if s.Unordered > 0 {
		s.Add(LevelNote, "", "%d events are earlier than the one before them: replay sorts them, a stream is learnt as it comes", s.Unordered)
	}
	if s.Repeats > 0 {
		s.Add(LevelWarning, "give each event an id, so that repeats are dropped (store.dedupe_limit)", "%d rows repeat an earlier one: same user, item, kind, label and second", s.Repeats)
	}
	if s.RepeatIDs > 0 && s.Records == 0 {
		s.Add(LevelWarning, "ids must be an event's own; the repeats are dropped", "%d events have an id that came before, such as %.60q", s.RepeatIDs, s.repeated)
	}
	if s.Users == 1 {
		s.Add(LevelWarning, "see that user_id is the right column or field", "all events are of one user")
	}
	if s.Items == 1 {
		s.Add(LevelWarning, "see that item_id is the right column or field", "all events are about one item")
	}
}

func (s *Survey) concludeItems() {
	if s.RepeatIDs > 0 && s.Events == 0 {
		s.Add(LevelWarning, "keep one, unless the later ones are changes: each changes what it names", "%d records name an item that came before, such as %.60q", s.RepeatIDs, s.repeated)
	}
	switch {
	case s.Untitled > 0 && len(s.titles) == 0:
		s.Add(LevelNote, "give items a title where the language model is to read them", "no item has a title: lists are learnt from events alone")
	case s.Untitled > 0:
		s.Add(LevelWarning, "give each item a title: it is what the language model reads", "%d items have no title", s.Untitled)
	}
	twins, most, name := 0, 0, ""
	for title, n := range s.titles {
		if n > 1 {
			twins += n
		}
		if n > most || n == most && title < name {
			most, name = n, title
		}
	}
	if twins > 0 && most*10 > s.Records && most > 1 {
		s.Add(LevelWarning, "put what tells items apart into the title", "%d of %d items share the title %.60q", most, s.Records, name)
	} else if twins > 0 {
		s.Add(LevelNote, "", "%d items share a title with another one, such as %.60q", twins, name)
	}
	if s.width > 0 {
		with := 0
		for n, count := range s.widths {
			if with += count; n != s.width {
				s.Add(LevelWarning, "make all vectors with one model", "%d items have an embedding of %d numbers, the first has %d: they count as without", count, n, s.width)
			}
		}
		s.Add(LevelNote, "", "%d of %d records have an embedding of their own", with, s.Records)
	}
	if s.years == 0 {
		s.Add(LevelNote, "", "no item has a year (a column year, or a title that ends in (1994)): on films it is worth having")
	}
}

// Against adds what only shows between events and a catalogue.
func (s *Survey) Against(catalogue *Survey) {
	unknown := 0
	var one string
	for id := range s.items {
		if _, ok := catalogue.records[id]; !ok {
			if unknown++; one == "" || id < one {
				one = id
			}
		}
	}
	switch {
	case len(s.items) == 0 || len(catalogue.records) == 0 || unknown == 0:
	case unknown == len(s.items):
		s.Add(LevelError, "see that events and catalogue use the same ids", "no item of the events is in the catalogue, %.60q for one", one)
	default:
		level := LevelNote
		if unknown*5 > len(s.items) {
			level = LevelWarning
		}
		s.Add(level, "send their catalogue records: an item without a title is never shown", "%d of %d items of the events are not in the catalogue, %.60q for one", unknown, len(s.items), one)
	}
}

// Errors is how many findings are errors, and Warnings how many are warnings.
func (s *Survey) Errors() int   { return s.count(LevelError) }
func (s *Survey) Warnings() int { return s.count(LevelWarning) }

func (s *Survey) count(level string) (n int) {
	for _, f := range s.Findings {
		if f.Level == level {
			n++
		}
	}
	return n
}

// String is the survey for a person.
func (s *Survey) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", s.Source, s.Holds)
	if s.Format != "" {
		fmt.Fprintf(&b, " (%s)", s.Format)
	}
	b.WriteByte('\n')
	if s.Events > 0 {
		fmt.Fprintf(&b, "  %d events of %d users on %d items, %s to %s\n", s.Events, s.Users, s.Items, s.First.Format(time.RFC3339), s.Last.Format(time.RFC3339))
		fmt.Fprintf(&b, "  %d positive (%d of them implicit), %d negative; kinds:", s.Positive, s.Implicit, s.Negative)
		for _, k := range slices.Sorted(maps.Keys(s.Kinds)) {
			fmt.Fprintf(&b, " %s %d", k, s.Kinds[k])
		}
		b.WriteByte('\n')
	}
	if s.Records > 0 {
		fmt.Fprintf(&b, "  %d catalogue records of %d items, %d with a year\n", s.Records, len(s.records), s.years)
	}
	if s.Bad > 0 {
		fmt.Fprintf(&b, "  %d records can not be used\n", s.Bad)
	}
	for _, f := range s.Findings {
		fmt.Fprintf(&b, "  %-8s %s", f.Level, f.What)
		if f.Count > 1 {
			fmt.Fprintf(&b, " (%d times)", f.Count)
		}
		if f.Where != "" {
			fmt.Fprintf(&b, "\n           first at %s", f.Where)
		}
		if f.Fix != "" {
			fmt.Fprintf(&b, "\n           fix: %s", f.Fix)
		}
		b.WriteByte('\n')
	}
	if len(s.Findings) == 0 {
		b.WriteString("  ok\n")
	}
	return b.String()
}
