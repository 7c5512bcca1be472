package datafile

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/replay"
)

// maxLine bounds a line of a JSON lines file.
const maxLine = 16 << 20

// ReadOptions returns options by which a data file's rows mean what records of the topics mean.
func ReadOptions(d *ingest.Decoder) replay.ReadOptions {
	return replay.ReadOptions{Decoder: d, Remedy: Remedy}
}

// IsJSONLines says by its name whether a file holds JSON lines or arrays. "-" is standard input.
func IsJSONLines(path string) bool {
	path = strings.TrimSuffix(strings.ToLower(path), ".gz")
	return path == "-" || strings.HasSuffix(path, ".jsonl") || strings.HasSuffix(path, ".ndjson") || strings.HasSuffix(path, ".json")
}

// Events reads a log from CSV, MovieLens' formats or JSON lines, and says on stderr what it had to assume. The first bad
// row ends it.
func Events(c ingest.Config, path, name string) ([]corastream.Event, error) {
	if !IsJSONLines(path) {
		events, err := ReadOptions(ingest.NewDecoder(c)).Events(path, name)
		return slices.DeleteFunc(events, corastream.Event.OfUser), err
	}
	var events []corastream.Event
	d := ingest.NewDecoder(c)
	err := EachJSONLine(d, path, c.Topics.Interactions, func(place string, b corastream.Batch) error {
		if len(b.Bad) > 0 {
			return badLine(path, place, b.Bad[0])
		}
		for _, ev := range b.Events {
			ev.Pos, ev.Appended = corastream.Position{Topic: name, Offset: int64(len(events))}, time.Time{} // no broker appended it
			events = append(events, ev)
		}
		return nil
	})
	if n := d.Counts.NoTime(); err == nil && n > 0 { // a column of times would be asked for too
		return nil, corastream.Usagef(path, "write timestamp, or map kafka.fields.events.timestamp; `corastream validate "+path+"` says more", "%d events have no time of their own", n)
	}
	return slices.DeleteFunc(events, corastream.Event.OfUser), err
}

// Items reads a catalogue from CSV, MovieLens' formats or JSON lines, as whole records.
func Items(c ingest.Config, path string) ([]corastream.Item, error) {
	if !IsJSONLines(path) {
		items, err := ReadOptions(ingest.NewDecoder(c)).Items(path)
		for i, it := range items {
			items[i] = it.Onto(corastream.Item{})
		}
		return items, err
	}
	var items []corastream.Item
	at := map[string]int{}
	err := EachJSONLine(ingest.NewDecoder(c), path, c.Topics.Items, func(place string, b corastream.Batch) error {
		if len(b.Bad) > 0 {
			return badLine(path, place, b.Bad[0])
		}
		for _, it := range b.Items { // a later record of an item changes what it names, as on the topic
			it.Pos = corastream.Position{}
			if n, ok := at[it.ID]; ok {
				items[n] = it.Onto(items[n])
				continue
			}
			at[it.ID] = len(items)
			items = append(items, it.Onto(corastream.Item{}))
		}
		return nil
	})
	return items, err
}

func badLine(path, place string, l corastream.DeadLetter) error {
	_, fix := Remedy(l)
	if fix != "" {
		fix += "; "
	}
	return corastream.Usagef(place, fix+"`corastream validate "+path+"` lists all such records", "%s: %s", l.Reason, l.Detail)
}

// EachJSONLine decodes a file's records as those of a topic.
func EachJSONLine(d *ingest.Decoder, path, topic string, visit func(place string, b corastream.Batch) error) error {
	return eachJSONLine(d, openFile, path, topic, visit)
}

// opener opens a data file by its path.
type opener = func(path string) (io.ReadCloser, error)

func openFile(path string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, corastream.Usagef(path, "check the path", "%v", err)
	}
	return f, nil
}

func eachJSONLine(d *ingest.Decoder, open opener, path, topic string, visit func(place string, b corastream.Batch) error) error {
	in, err := open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	now := time.Now()
	return JSONRecords(in, path, func(place string, value []byte) error {
		var b corastream.Batch
		d.Decode(&b, ingest.Record{Pos: corastream.Position{Topic: topic}, Value: value, Time: now}, now)
		return visit(place, b)
	})
}

// JSONRecords hands on the records of a file, which are its lines or, where it begins with a bracket, the elements of its arrays of any
// length. place is where a record lies. A file packed by gzip is unpacked.
func JSONRecords(in io.Reader, path string, visit func(place string, value []byte) error) error {
	r := bufio.NewReaderSize(in, 64<<10)
	if head, _ := r.Peek(2); string(head) == "\x1f\x8b" {
		z, err := gzip.NewReader(r)
		if err != nil {
			return corastream.Usagef(path, "check the file", "%v", err)
		}
		r = bufio.NewReaderSize(z, 64<<10)
	}
	head, _ := r.Peek(3)
	switch {
	case string(head) == "\xef\xbb\xbf":
		if _, err := r.Discard(3); err != nil {
			return err
		}
	case len(head) > 1 && (head[0] == 0xff && head[1] == 0xfe || head[0] == 0xfe && head[1] == 0xff || head[0] == 0 && head[1] != 0 || head[1] == 0 && head[0] != 0):
		return corastream.Usagef(path, "write it as UTF-8, as with iconv -f UTF-16 -t UTF-8", "this looks like UTF-16")
	}
	for {
		c, err := r.ReadByte()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return corastream.Usagef(path, "check the file", "%v", err)
		}
		if c == ' ' || c == '\t' {
			continue
		}
		if err := r.UnreadByte(); err != nil {
			return err
		}
		break
	}
	// A first line that holds a whole array, with others behind it, is a line like them.
	first, err := r.ReadSlice('\n')
	lone := err == nil && path != "-" && onlyBlank(r)
	all := io.MultiReader(bytes.NewReader(bytes.Clone(first)), r)
	if first = bytes.TrimSpace(first); len(first) > 0 && first[0] == '[' && (err != nil || lone || !json.Valid(first)) {
		return jsonElements(all, path, visit)
	}
	lines := bufio.NewScanner(all)
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		if value := bytes.TrimSpace(lines.Bytes()); len(value) > 0 {
			if err := visit(fmt.Sprintf("%s:%d", path, n), value); err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return corastream.Usagef(path, "one JSON object a line, at most 16 MiB", "%v", err)
	}
	return nil
}

// onlyBlank says that nothing but blanks is left of a file's first portion.
func onlyBlank(r *bufio.Reader) bool {
	rest, err := r.Peek(max(1, r.Buffered()))
	return errors.Is(err, io.EOF) && len(bytes.TrimSpace(rest)) == 0
}

// jsonElements hands on the elements of one array after another.
func jsonElements(r io.Reader, path string, visit func(place string, value []byte) error) error {
	d := json.NewDecoder(r)
	broken := func(n int, err error) error {
		return corastream.Usagef(fmt.Sprintf("%s[%d]", path, n), "write one array of JSON objects, or one object a line", "%v", err)
	}
	for n := 0; ; {
		if open, err := d.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil || open != json.Delim('[') {
			return broken(n, fmt.Errorf("no array begins here: %v", cmp.Or[any](err, open)))
		}
		for d.More() {
			var value json.RawMessage
			if err := d.Decode(&value); err != nil {
				return broken(n, err)
			}
			if err := visit(fmt.Sprintf("%s[%d]", path, n), value); err != nil {
				return err
			}
			n++
		}
		if _, err := d.Token(); err != nil {
			return broken(n, err)
		}
	}
}

// JSONTopic guesses which topic a JSON lines file is for: the first record that one of them takes without complaint decides,
// interactions first.
func JSONTopic(c ingest.Config, path string) (string, error) { return jsonTopic(c, openFile, path) }

func jsonTopic(c ingest.Config, open opener, path string) (string, error) {
	f, err := open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	errEnough := errors.New("enough")
	topic, tried, d := c.Topics.Interactions, 0, ingest.NewDecoder(c)
	err = JSONRecords(f, path, func(_ string, value []byte) error {
		if tried++; tried > 100 {
			return errEnough
		}
		for _, t := range []string{c.Topics.Interactions, c.Topics.Items} {
			var b corastream.Batch
			d.Decode(&b, ingest.Record{Pos: corastream.Position{Topic: t}, Value: value, Time: time.Now()}, time.Now())
			if len(b.Bad) == 0 {
				topic = t
				return errEnough
			}
		}
		var members map[string]json.RawMessage
		if json.Unmarshal(value, &members) == nil {
			if _, catalogue := d.Columns(slices.Collect(maps.Keys(members))); catalogue { // a bad one of these
				topic = c.Topics.Items
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return "", err
	}
	return topic, nil
}

// Bounds parses the values of --from and --to.
func Bounds(from, to string) (a, b ingest.Bound, err error) {
	if a, err = ingest.ParseBound("--from", from); err != nil {
		return a, b, err
	}
	if from == "latest" {
		a = ingest.FromEnd()
	}
	if b, err = ingest.ParseBound("--to", to); err == nil && to == "earliest" {
		b = ingest.AtOffset(0)
	}
	return a, b, err
}

// Range hands each batch of a range of topics on. No group, no offset and no record is written.
func Range(ctx context.Context, c ingest.Config, topics []string, from, to ingest.Bound, bar func(done, total int), visit func(corastream.Batch) error) ([]ingest.Extent, error) {
	extents, _, err := RangeCounted(ctx, c, topics, from, to, bar, visit)
	return extents, err
}

// RangeCounted does as Range does, and returns the decoder's counts too.
func RangeCounted(ctx context.Context, c ingest.Config, topics []string, from, to ingest.Bound, bar func(done, total int), visit func(corastream.Batch) error) ([]ingest.Extent, *ingest.Counts, error) {
	r, err := ingest.NewRange(ctx, c, topics, from, to)
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	done := int64(0)
	for {
		b, err := r.Next(ctx)
		if errors.Is(err, corastream.ErrEnd) {
			return r.Extents(), r.Counts(), nil
		}
		if err == nil {
			err = visit(b)
		}
		if err != nil {
			return nil, nil, err
		}
		for _, sp := range b.Spans {
			done += sp.To - sp.From
		}
		bar(int(done), int(r.Len()))
	}
}
