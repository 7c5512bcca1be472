package replay

import (
	"bufio"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/corastream/corastream"
)

// Limits of a data file: a record over maxRecord bytes or a table over maxColumns is refused before it is kept.
const (
	maxRecord  = 1 << 20
	maxColumns = 1000
	maxID      = 1024
)

// DefaultRatingThreshold is the lowest rating that counts as liked where a file has ratings instead of labels.
const DefaultRatingThreshold = 4

// Reading says how a data file is understood. The zero value takes labels and ratings (liked from 4 on) under our own names.
type Reading struct {
	// RatingThreshold is the lowest rating that counts as liked; 0 is DefaultRatingThreshold.
	RatingThreshold float64
	// Kinds say what a row of a file with neither label nor rating means, by its type; DefaultKind what one whose type is blank means.
	Kinds       map[string]Meaning
	DefaultKind string
	// EventColumns and ItemColumns map our columns to the names that a file gives them.
	EventColumns, ItemColumns map[string]string
	// Notice, when not nil, is told once of a log that is understood by an assumption.
	Notice func(what string)
	// Forgive, when not nil, is told of each bad row, which is then left out; otherwise the first one ends the reading.
	Forgive func(BadRow)
}

// Meaning is what a kind of event stands for.
type Meaning struct {
	Label, Weight float32
	Implicit      bool
}

// BadRow is a row that can not be used.
type BadRow struct {
	Reason string // the column, or "line"
	Kind   string // the event's type, where no kind is of that name
	Err    *corastream.UsageError
}

// ReadEvents reads a log: columns user_id, item_id, timestamp (unix seconds or milliseconds, or RFC 3339) and label (0 to 1) or
// rating (liked from threshold on), in any order, others ignored. Comma-separated, tab-separated with RecBole's typed
// header (user_id:token), or MovieLens' u.data and ratings.dat. Events keep the file's order; Pos is {name, 0, row from 0}.
// Errors are corastream.UsageError.
func ReadEvents(path, name string, threshold float64) ([]corastream.Event, error) {
	return Reading{RatingThreshold: threshold}.Events(path, name)
}

// Events reads a log as ReadEvents does. A file without label and rating is one of clicks and the like: each row means what
// its type means, DefaultKind where that is blank. A file of user, item and time alone is a log of implicit positives, of
// kind click.
func (r Reading) Events(path, name string) ([]corastream.Event, error) {
	var events []corastream.Event
	err := r.EachEvent(path, name, func(ev corastream.Event) { events = append(events, ev) })
	return events, err
}

// EachEvent is Events without keeping them.
func (r Reading) EachEvent(path, name string, visit func(corastream.Event)) error {
	t, err := openTable(path, r.EventColumns)
	if err != nil {
		return err
	}
	t.forgive = r.Forgive
	defer t.close()
	user, item, at := t.column("user_id"), t.column("item_id"), t.column("timestamp")
	label, rating, kind := t.column("label"), t.column("rating"), t.column("type")
	says := max(label, rating)
	if r.Kinds != nil && kind >= 0 {
		says = max(says, kind)
	}
	// A fourth column may be a misspelt label, which must not pass for clicks.
	bare := says < 0 && len(t.header) == 3 && min(user, item, at) >= 0
	if bare {
		says = at
		if r.Notice != nil {
			r.Notice(path + ": there is no column label, rating or type, so each row is taken as an implicit positive")
		}
	}
	if err := t.need(map[string]int{"user_id": user, "item_id": item, "timestamp": at, "label": says}); err != nil {
		return err
	}
	threshold := r.RatingThreshold
	if threshold == 0 {
		threshold = DefaultRatingThreshold
	}
	for n := int64(0); t.next(); {
		ev := corastream.Event{
			Pos: corastream.Position{Topic: name, Offset: n}, User: t.id(user), Item: t.id(item),
			Kind: "rating", Weight: 1, Time: t.time(at),
		}
		switch {
		case bare:
			ev.Kind, ev.Label, ev.Implicit = "click", 1, true
		case label >= 0:
			ev.Label = float32(t.number(label, 0, 1))
		case rating >= 0:
			if t.number(rating, -1e9, 1e9) >= threshold {
				ev.Label = 1
			}
		default:
			if ev.Kind = t.record[kind]; ev.Kind == "" {
				ev.Kind = r.DefaultKind
			}
			m, ok := r.Kinds[ev.Kind]
			if !ok {
				t.kind = strings.Clone(ev.Kind)
				t.fail(kind, fmt.Sprintf("name it in the configuration, as kafka: {kinds: {%s: {label: 1, weight: 1, implicit: true}}}", ev.Kind),
					"%.40q is not in kinds, and the file has neither label nor rating", ev.Kind)
			}
			ev.Kind = t.intern(ev.Kind)
			ev.Label, ev.Weight, ev.Implicit = m.Label, m.Weight, m.Implicit
		}
		if t.good() {
			n++
			visit(ev)
		}
	}
	return t.err
}

var trailingYear = regexp.MustCompile(`\((\d{4})\)\s*$`)

// ReadItems reads a catalogue: columns item_id and, where there is one, title (or movie_title); all others go into Fields by name. Without a
// column "year" (or release_year), a title's trailing "(1994)" gives Fields["year"]. An item listed twice is refused.
// MovieLens' u.item and movies.dat are understood.
func ReadItems(path string) ([]corastream.Item, error) { return Reading{}.Items(path) }

// Items reads a catalogue as ReadItems does.
func (r Reading) Items(path string) ([]corastream.Item, error) {
	t, err := openTable(path, r.ItemColumns)
	if err != nil {
		return nil, err
	}
	t.forgive = r.Forgive
	defer t.close()
	id, title, year := t.column("item_id"), max(t.column("title"), t.column("movie_title")), max(t.column("year"), t.column("release_year"))
	if err := t.need(map[string]int{"item_id": id}); err != nil {
		return nil, err
	}
	var items []corastream.Item
	seen := map[string]bool{}
	for t.next() {
		it := corastream.Item{ID: t.id(id)}
		if title >= 0 {
			it.Title = t.record[title]
		}
		if seen[it.ID] {
			t.fail(id, "keep one line for each item", "item %q is listed twice", it.ID)
		}
		seen[it.ID] = true
		it.Fields = map[string]string{}
		for c, name := range t.header {
			if v := t.record[c]; c != id && c != title && c != year && v != "" {
				it.Fields[name] = v
			}
		}
		if year >= 0 && t.record[year] != "" {
			it.Fields["year"] = t.record[year]
		} else if m := trailingYear.FindStringSubmatch(it.Title); m != nil {
			it.Fields["year"] = m[1]
		}
		if t.good() {
			items = append(items, it)
		}
	}
	return items, t.err
}

// IsCatalogue says whether a data file holds items rather than events: a title column, or an item column without a time, and no
// user column.
func (r Reading) IsCatalogue(path string) (bool, error) {
	t, err := openTable(path, r.ItemColumns)
	if err != nil {
		return false, err
	}
	defer t.close()
	titled := max(t.column("title"), t.column("movie_title")) >= 0
	return t.column("user_id") < 0 && (titled || t.column("item_id") >= 0 && t.column("timestamp") < 0), nil
}

// table reads one data file, record by record. The first error stays in err and ends next.
type table struct {
	path   string
	file   *os.File
	from   io.Reader // file, unzipped where it is in gzip's format
	limit  *recordLimit
	csv    *csv.Reader
	header []string
	record []string
	line   int // the last good record's
	ids    map[string]string
	layout string // "csv", "tsv" or what a headless layout is called
	err    error

	forgive func(BadRow) // see Reading.Forgive
	reason  string       // of err: its column
	kind    string
	fatal   bool // nothing can be read after err
}

func openTable(path string, columns map[string]string) (*table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, corastream.Usagef(path, "check the path", "%v", err)
	}
	t := &table{path: path, file: f, ids: map[string]string{}}
	if t.from, err = unzipped(f); err != nil {
		f.Close()
		return nil, corastream.Usagef(path, "check the file, or unpack it", "read gzip: %v", err)
	}
	if err := t.readHeader(); err != nil {
		f.Close()
		return nil, err
	}
	t.header = ours(t.header, columns)
	return t, nil
}

// unzipped reads through gzip where the file begins as one does, whatever its name.
func unzipped(f *os.File) (io.Reader, error) {
	in := bufio.NewReader(f)
	if magic, _ := in.Peek(2); string(magic) == "\x1f\x8b" {
		return gzip.NewReader(in)
	}
	return in, nil
}

func (t *table) close() { t.file.Close() }

func (t *table) readHeader() error {
	t.limit = &recordLimit{r: bufio.NewReader(t.from), left: maxRecord}
	in := bufio.NewReader(t.limit)
	if bom, _ := in.Peek(3); string(bom) == "\xef\xbb\xbf" {
		in.Discard(3)
	}
	first, _ := in.Peek(1024)
	line, _, _ := strings.Cut(string(first), "\n")
	if l := layoutOf(line); l != nil {
		t.csv, t.header, t.layout = csv.NewReader(&relined{from: in, l: l}), l.header, l.name
		t.csv.ReuseRecord, t.csv.FieldsPerRecord = true, len(l.header)
		return nil
	}
	t.csv, t.layout = csv.NewReader(in), "csv"
	t.csv.ReuseRecord = true
	if strings.Contains(line, "\t") {
		t.csv.Comma, t.csv.LazyQuotes, t.layout = '\t', true, "tsv"
	}
	header, err := t.csv.Read()
	if errors.Is(err, io.EOF) {
		return corastream.Usagef(t.path, "write a header line, for example user_id,item_id,label,timestamp", "the file is empty")
	}
	if err != nil {
		return t.unreadable(err)
	}
	if len(header) > maxColumns {
		return corastream.Usagef(t.path+":1", "is this a data file?", "%d columns, at most %d", len(header), maxColumns)
	}
	for _, h := range header {
		name, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(h)), ":")
		if slices.Contains(t.header, name) {
			return corastream.Usagef(t.path+":1", "rename one of the two", "column %q occurs twice", name)
		}
		t.header = append(t.header, name)
	}
	return nil
}

// column is the index of a column, -1 when it is absent.
func (t *table) column(name string) int { return slices.Index(t.header, name) }

func (t *table) need(columns map[string]int) error {
	var missing []string
	for name, at := range columns {
		if at < 0 {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return corastream.Usagef(t.path+":1", "the header must name them (or map its names with kafka.fields in the configuration); it has "+strings.Join(t.header, ","),
		"missing column %s", strings.Join(missing, ", "))
}

// next reads a record; false at the end or after an error.
func (t *table) next() bool {
	for t.err == nil {
		t.limit.left = maxRecord
		var err error
		if t.record, err = t.csv.Read(); err == nil {
			t.line, _ = t.csv.FieldPos(len(t.record) - 1)
			return true
		}
		if errors.Is(err, io.EOF) {
			break
		}
		var bad *csv.ParseError
		t.err, t.reason, t.fatal = t.unreadable(err), "line", !errors.As(err, &bad)
		t.good() // forgiven, the next line may be whole
	}
	return false
}

// good says whether the row had nothing to complain about. A complaint that is forgiven is passed on and dropped.
func (t *table) good() bool {
	if t.err == nil {
		return true
	}
	var u *corastream.UsageError
	if t.forgive != nil && !t.fatal && errors.As(t.err, &u) {
		t.forgive(BadRow{Reason: t.reason, Kind: t.kind, Err: u})
		t.err, t.kind = nil, ""
	}
	return false
}

func (t *table) unreadable(err error) error {
	var p *csv.ParseError
	if errors.As(err, &p) {
		where := fmt.Sprintf("%s:%d:%d", t.path, p.Line, p.Column)
		if p.StartLine != p.Line { // a quote left open: what matters is where
			where = fmt.Sprintf("%s:%d", t.path, p.StartLine)
		}
		return corastream.Usagef(where, "each line needs the header's columns; quote fields that hold commas or quotes", "%v", p.Err)
	}
	return corastream.Usagef(fmt.Sprintf("%s:%d", t.path, t.line+1), "check this line", "%v", err)
}

// fail keeps the first complaint about a field.
func (t *table) fail(column int, fix, format string, args ...any) {
	if t.err == nil {
		line, col := t.csv.FieldPos(column)
		t.reason = t.header[column]
		t.err = corastream.Usagef(fmt.Sprintf("%s:%d:%d", t.path, line, col), fix, "column %s: "+format,
			append([]any{t.header[column]}, args...)...)
	}
}

// id is a field that must be there. Each id is kept once: a field alone would hold its whole record in memory.
func (t *table) id(column int) string {
	v := t.record[column]
	if v == "" || len(v) > maxID {
		t.fail(column, fmt.Sprintf("give 1 to %d bytes", maxID), "an id of %d bytes", len(v))
		return ""
	}
	return t.intern(v)
}

func (t *table) intern(v string) string {
	if known, ok := t.ids[v]; ok {
		return known
	}
	v = strings.Clone(v)
	t.ids[v] = v
	return v
}

func (t *table) number(column int, lo, hi float64) float64 {
	v, err := strconv.ParseFloat(strings.TrimSpace(t.record[column]), 64)
	if err != nil || !(v >= lo && v <= hi) {
		t.fail(column, fmt.Sprintf("write a number from %g to %g", lo, hi), "%.40q", t.record[column])
		return lo
	}
	return v
}

// maxMS is the year 9999 in unix milliseconds; from 1e11 on a number is taken as milliseconds, as the ingest does.
const maxMS = 253402300799999

func (t *table) time(column int) time.Time {
	s := strings.TrimSpace(t.record[column])
	if at, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return at.UTC()
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v >= 0 && v <= maxMS) {
		t.fail(column, "write unix seconds, unix milliseconds or RFC 3339", "%.40q is not a time", s)
		return time.Time{}
	}
	if v < 1e11 {
		v *= 1000
	}
	return time.UnixMilli(int64(math.Round(v))).UTC()
}

// recordLimit refuses to feed more than `left` bytes (and a buffer's worth) into one record.
type recordLimit struct {
	r    io.Reader
	left int
}

func (l *recordLimit) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, fmt.Errorf("a record is longer than %d bytes (is a quote left open?)", maxRecord)
	}
	n, err := l.r.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}
