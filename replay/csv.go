package replay

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
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
)

// DefaultRatingThreshold is the lowest rating that counts as liked where a configuration says nothing else.
const DefaultRatingThreshold = 4

// Decoder says what the rows of a table mean. Each function takes the header once and then row by row; it adds to the batch what a
// row makes, an event, an item or a dead letter, and gives the column at fault, -1 where no column alone is.
type Decoder interface {
	EventRows(columns []string) func(b *corastream.Batch, cells []string, pos corastream.Position, now time.Time) (column int)
	ItemRows(columns []string) func(b *corastream.Batch, cells []string, pos corastream.Position, now time.Time) (column int)
	// Columns says which of our fields the columns give, and whether they are a catalogue's.
	Columns(columns []string) (given map[string]bool, catalogue bool)
	// Mapping is the setting by which foreign columns are read as ours, where some look like ours; "": none do.
	Mapping(part string, columns []string) string
}

// ReadOptions say how a data file is understood.
type ReadOptions struct {
	// Decoder gives the rows the meaning that records have.
	Decoder Decoder
	// Remedy says of a dead letter how it is counted and what to do; nil: by its reason, and nothing.
	Remedy func(corastream.DeadLetter) (reason, fix string)
	// Forgive, when not nil, is told of each bad row, which is then left out; otherwise the first one ends the reading.
	Forgive func(BadRow)
	// Untimed lets a log have no column of times: its events happen when they are read, as records without one do.
	Untimed bool
}

// BadRow is a row that can not be used.
type BadRow struct {
	Reason string // of the dead letter, or "line"
	Err    *corastream.UsageError
}

// Events reads a log: columns user_id, item_id (or items), timestamp, and what says what happened, in any order. Comma-separated,
// tab-separated with RecBole's typed header (user_id:token), or MovieLens' u.data and ratings.dat. Events keep the file's order;
// Pos is {name, 0, event from 0}. Errors are corastream.UsageError.
func (r ReadOptions) Events(path, name string) ([]corastream.Event, error) {
	var events []corastream.Event
	err := r.EachEvent(path, name, func(ev corastream.Event) { events = append(events, ev) })
	return events, err
}

// EachEvent is Events without keeping them.
func (r ReadOptions) EachEvent(path, name string, visit func(corastream.Event)) error {
	t, err := openTable(path)
	if err != nil {
		return err
	}
	t.forgive = r.Forgive
	defer t.close()
	given, _ := r.Decoder.Columns(t.header)
	names := []string{"user_id", "item_id", "timestamp"}
	if r.Untimed {
		names = names[:2]
	}
	if err := t.need(r.Decoder, given, names...); err != nil {
		return err
	}
	row, now, n := r.Decoder.EventRows(t.header), time.Now(), int64(0)
	var b corastream.Batch
	for t.next() {
		b.Events, b.Bad = b.Events[:0], b.Bad[:0]
		column := row(&b, t.record, corastream.Position{Topic: name}, now)
		t.refuse(r, b.Bad, column)
		if !t.good() {
			continue
		}
		for _, ev := range b.Events {
			ev.Pos.Offset, ev.Appended = n, time.Time{} // no broker appended it
			ev.User, ev.Item, ev.Kind = t.intern(ev.User), t.intern(ev.Item), t.intern(ev.Kind)
			n++
			visit(ev)
		}
	}
	return t.err
}

// Items reads a catalogue: columns item_id and, where there is one, title; all others go into Fields by name. An item listed twice is refused.
// Records are as they came: where a column is missing, Item.Keep says so.
// MovieLens' u.item and movies.dat are understood.
func (r ReadOptions) Items(path string) ([]corastream.Item, error) {
	t, err := openTable(path)
	if err != nil {
		return nil, err
	}
	t.forgive = r.Forgive
	defer t.close()
	given, _ := r.Decoder.Columns(t.header)
	given["item_id"] = given["item_id"] || given["id"]
	if err := t.need(r.Decoder, given, "item_id"); err != nil {
		return nil, err
	}
	row, now := r.Decoder.ItemRows(t.header), time.Now()
	var items []corastream.Item
	var b corastream.Batch
	seen := map[string]bool{}
	for t.next() {
		b.Items, b.Bad = b.Items[:0], b.Bad[:0]
		column := row(&b, t.record, corastream.Position{}, now)
		t.refuse(r, b.Bad, column)
		for _, it := range b.Items {
			if seen[it.ID] {
				t.fail(0, "item_id", "keep one line for each item", "item %q is listed twice", it.ID)
			}
			seen[it.ID] = true
		}
		if t.good() {
			items = append(items, b.Items...)
		}
	}
	return items, t.err
}

// refuse makes a complaint of a row's dead letter.
func (t *table) refuse(r ReadOptions, bad []corastream.DeadLetter, column int) {
	if len(bad) == 0 {
		return
	}
	reason, fix := bad[0].Reason, ""
	if r.Remedy != nil {
		reason, fix = r.Remedy(bad[0])
	}
	if fix == "" {
		fix = "correct the row"
	}
	if column < 0 || column >= len(t.header) {
		t.fail(0, reason, fix, "%s", bad[0].Detail)
		return
	}
	t.fail(column, reason, fix, "column %s: %s", t.header[column], bad[0].Detail)
}

// IsCatalogue says whether a data file holds items rather than events: a title column, or an item column without a time, and no
// user column.
func (r ReadOptions) IsCatalogue(path string) (bool, error) {
	t, err := openTable(path)
	if err != nil {
		return false, err
	}
	defer t.close()
	given, catalogue := r.Decoder.Columns(t.header)
	return catalogue || (given["item_id"] || given["id"]) && !given["user_id"] && !given["timestamp"], nil
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
	reason  string       // of err
	fatal   bool         // nothing can be read after err
}

func openTable(path string) (*table, error) {
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
	if len(first) > 1 && (first[0] == 0xff && first[1] == 0xfe || first[0] == 0xfe && first[1] == 0xff || bytes.IndexByte(first[:2], 0) >= 0) {
		return corastream.Usagef(t.path, "write it as UTF-8, as with iconv -f UTF-16 -t UTF-8", "this looks like UTF-16")
	}
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
	} else if !strings.Contains(line, ",") {
		for _, c := range ";|" {
			if strings.ContainsRune(line, c) {
				t.csv.Comma, t.csv.LazyQuotes, t.layout = c, true, fmt.Sprintf("csv with %q", c)
			}
		}
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
		name, typed, _ := strings.Cut(strings.Trim(h, " \t\ufeff"), ":")
		if !recBole[typed] {
			name = strings.Trim(h, " \t\ufeff")
		}
		if slices.ContainsFunc(t.header, func(other string) bool { return name != "" && strings.EqualFold(other, name) }) {
			return corastream.Usagef(t.path+":1", "rename one of the two", "column %q occurs twice", name)
		}
		t.header = append(t.header, name)
	}
	return nil
}

// recBole are the types that its headers give columns, as in user_id:token.
var recBole = map[string]bool{"token": true, "token_seq": true, "float": true, "float_seq": true}

func (t *table) need(d Decoder, given map[string]bool, names ...string) error {
	var missing []string
	for _, name := range names {
		if !given[name] && !(name == "item_id" && given["items"]) {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return corastream.Usagef(t.path+":1", t.proposal(d, missing), "missing column %s", strings.Join(missing, ", "))
}

// proposal says how a header that lacks columns can be read.
func (t *table) proposal(d Decoder, missing []string) string {
	if slices.ContainsFunc(t.header, func(h string) bool { _, err := strconv.ParseFloat(h, 64); return err == nil }) {
		return "the first line looks like data: write a header line before it, for example user_id,item_id,rating,timestamp"
	}
	header := "the header must name them; it has " + strings.Join(t.header, ",")
	if set := d.Mapping("events", t.header); set != "" {
		return "set " + set + "; " + header
	}
	return header + " (kafka.fields in the configuration maps names)"
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
		t.forgive(BadRow{Reason: t.reason, Err: u})
		t.err = nil
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

// fail keeps the first complaint about a row, with the place of a column.
func (t *table) fail(column int, reason, fix, format string, args ...any) {
	if t.err == nil {
		line, col := t.csv.FieldPos(column)
		t.reason = reason
		t.err = corastream.Usagef(fmt.Sprintf("%s:%d:%d", t.path, line, col), fix, format, args...)
	}
}

// intern keeps each id once.
func (t *table) intern(v string) string {
	if known, ok := t.ids[v]; ok {
		return known
	}
	t.ids[v] = v
	return v
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
