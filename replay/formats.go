package replay

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/corastream/corastream"
)

// layout is a data file without a header line: MovieLens' own formats, told by their first line.
type layout struct {
	name   string
	first  *regexp.Regexp
	sep    string
	header []string
	// flags names what the fields from header's end on are: a 1 in the n-th says that flags[n] holds. They become the last
	// column.
	flags []string
}

var layouts = []layout{
	{name: "MovieLens u.data", first: regexp.MustCompile(`^\d+\t\d+\t\d(\.\d+)?\t\d+$`), sep: "\t", header: []string{"user_id", "item_id", "rating", "timestamp"}},
	{name: "MovieLens ratings.dat", first: regexp.MustCompile(`^\d+::\d+::\d(\.\d+)?::\d+$`), sep: "::", header: []string{"user_id", "item_id", "rating", "timestamp"}},
	{name: "MovieLens movies.dat", first: regexp.MustCompile(`^\d+::.+::[^:]*$`), sep: "::", header: []string{"item_id", "title", "genres"}},
	{
		name: "MovieLens u.item", first: regexp.MustCompile(`^\d+\|[^|]+\|[^|]*\|[^|]*\|[^|]*(\|[01]){19}$`), sep: "|",
		header: []string{"item_id", "title", "release_date", "video_date", "url", "genres"},
		flags: []string{
			"", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy", "Film-Noir",
			"Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
		},
	},
}

// layoutOf finds the layout of a file by its first line; nil: the line is a header.
func layoutOf(line string) *layout {
	line = strings.TrimRight(line, "\r")
	for i := range layouts {
		if layouts[i].first.MatchString(line) {
			return &layouts[i]
		}
	}
	return nil
}

// relined hands a layout's lines on as CSV, one line for one, so that line numbers stay true. Bytes that are not UTF-8 are
// taken for Latin-1, in which the older MovieLens sets are written.
type relined struct {
	from *bufio.Reader
	l    *layout
	out  bytes.Buffer
	err  error
}

func (r *relined) Read(p []byte) (int, error) {
	for r.out.Len() == 0 {
		if r.err != nil {
			return 0, r.err
		}
		var line string
		line, r.err = r.from.ReadString('\n') // the reader under it bounds a line
		if r.err != nil && !errors.Is(r.err, io.EOF) {
			return 0, r.err
		}
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			if r.err == nil {
				r.out.WriteByte('\n')
			}
			continue
		}
		w := csv.NewWriter(&r.out)
		if err := w.Write(r.l.fields(line)); err != nil {
			return 0, err
		}
		w.Flush()
	}
	return r.out.Read(p)
}

func (l *layout) fields(line string) []string {
	if !utf8.ValidString(line) {
		b := make([]rune, len(line))
		for i := range len(line) {
			b[i] = rune(line[i])
		}
		line = string(b)
	}
	fields := strings.Split(line, l.sep)
	if n := len(l.header) - 1; l.flags != nil && len(fields) > n {
		var set []string
		for i, f := range fields[n:] {
			if i < len(l.flags) && f == "1" && l.flags[i] != "" {
				set = append(set, l.flags[i])
			}
		}
		fields = append(fields[:n], strings.Join(set, ", "))
	}
	return fields
}

// Survey looks through one data file of events or a catalogue and says what it holds; bad rows are findings. An error is
// that of a file which can not be read at all.
func (r ReadOptions) Survey(path string) (*Survey, error) {
	catalogue, err := r.IsCatalogue(path)
	if err != nil {
		return nil, err
	}
	t, err := openTable(path)
	if err != nil {
		return nil, err
	}
	t.close()
	s := NewSurvey(path, t.layout)
	r.Untimed = true
	r.Forgive = func(bad BadRow) {
		s.Reject(bad.Reason, bad.Err.Where, bad.Err.What, bad.Err.Fix)
	}
	now := time.Now()
	if catalogue {
		var items []corastream.Item
		if items, err = r.Items(path); err == nil {
			for _, it := range items {
				s.Item(it)
			}
		}
	} else {
		err = r.EachEvent(path, "file", func(ev corastream.Event) { s.Event(ev, now) })
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}
