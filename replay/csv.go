package replay

import (
	"bufio"
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

// ReadEvents reads a log: columns user_id, item_id, timestamp (unix seconds or milliseconds, or RFC 3339) and label (0 to 1) or
// rating (liked from threshold on), in any order, others ignored. Comma-separated, or tab-separated with RecBole's typed
// header (user_id:token). Events keep the file's order; Pos is {name, 0, row from 0}. Errors are corastream.UsageError.
func ReadEvents(path, name string, threshold float64) ([]corastream.Event, error) {
	t, err := openTable(path)
	if err != nil {
		return nil, err
	}
	defer t.close()
	user, item, at := t.column("user_id"), t.column("item_id"), t.column("timestamp")
	label, rating := t.column("label"), t.column("rating")
	if err := t.need(map[string]int{"user_id": user, "item_id": item, "timestamp": at, "label": max(label, rating)}); err != nil {
		return nil, err
	}
	var events []corastream.Event
	for t.next() {
		ev := corastream.Event{
			Pos: corastream.Position{Topic: name, Offset: int64(len(events))}, User: t.id(user), Item: t.id(item),
			Kind: "rating", Weight: 1, Time: t.time(at),
		}
		if label >= 0 {
			ev.Label = float32(t.number(label, 0, 1))
		} else if t.number(rating, -1e9, 1e9) >= threshold {
			ev.Label = 1
		}
		events = append(events, ev)
	}
	if t.err != nil {
		return nil, t.err
	}
	return events, nil
}

var trailingYear = regexp.MustCompile(`\((\d{4})\)\s*$`)

// ReadItems reads a catalogue: columns item_id and title (or movie_title), all others go into Fields by name. Without a
// column "year" (or release_year), a title's trailing "(1994)" gives Fields["year"]. An item listed twice is refused.
func ReadItems(path string) ([]corastream.Item, error) {
	t, err := openTable(path)
	if err != nil {
		return nil, err
	}
	defer t.close()
	id, title, year := t.column("item_id"), max(t.column("title"), t.column("movie_title")), max(t.column("year"), t.column("release_year"))
	if err := t.need(map[string]int{"item_id": id, "title": title}); err != nil {
		return nil, err
	}
	var items []corastream.Item
	seen := map[string]bool{}
	for t.next() {
		it := corastream.Item{ID: t.id(id), Title: t.record[title]}
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
		items = append(items, it)
	}
	if t.err != nil {
		return nil, t.err
	}
	return items, nil
}

// table reads one data file, record by record. The first error stays in err and ends next.
type table struct {
	path   string
	file   *os.File
	limit  *recordLimit
	csv    *csv.Reader
	header []string
	record []string
	line   int // the last good record's
	ids    map[string]string
	err    error
}

func openTable(path string) (*table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, corastream.Usagef(path, "check the path", "%v", err)
	}
	t := &table{path: path, file: f, ids: map[string]string{}}
	if err := t.readHeader(); err != nil {
		f.Close()
		return nil, err
	}
	return t, nil
}

func (t *table) close() { t.file.Close() }

func (t *table) readHeader() error {
	t.limit = &recordLimit{r: bufio.NewReader(t.file), left: maxRecord}
	in := bufio.NewReader(t.limit)
	if bom, _ := in.Peek(3); string(bom) == "\xef\xbb\xbf" {
		in.Discard(3)
	}
	t.csv = csv.NewReader(in)
	t.csv.ReuseRecord = true
	if first, _ := in.Peek(512); strings.Contains(strings.SplitN(string(first), "\n", 2)[0], "\t") {
		t.csv.Comma, t.csv.LazyQuotes = '\t', true
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
	return corastream.Usagef(t.path+":1", "the header must name them; it has "+strings.Join(t.header, ","),
		"missing column %s", strings.Join(missing, ", "))
}

// next reads a record; false at the end or after an error.
func (t *table) next() bool {
	if t.err != nil {
		return false
	}
	t.limit.left = maxRecord
	var err error
	if t.record, err = t.csv.Read(); err == nil {
		t.line, _ = t.csv.FieldPos(len(t.record) - 1)
		return true
	}
	if !errors.Is(err, io.EOF) {
		t.err = t.unreadable(err)
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
