package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/replay"
)

// maxLine bounds a line of a JSON lines file.
const maxLine = 16 << 20

// reading says how data files are understood: as the same configuration understands records.
func reading(d *ingest.Decoder) replay.Reading { return replay.Reading{Decoder: d, Remedy: remedy} }

func isJSONLines(path string) bool {
	path = strings.ToLower(path)
	return path == "-" || strings.HasSuffix(path, ".jsonl") || strings.HasSuffix(path, ".ndjson") || strings.HasSuffix(path, ".json")
}

// readEvents reads a log from CSV, MovieLens' formats or JSON lines. The first bad row ends it.
func readEvents(c ingest.Config, path, name string) ([]corastream.Event, error) {
	if !isJSONLines(path) {
		return reading(ingest.NewDecoder(c)).Events(path, name)
	}
	var events []corastream.Event
	err := eachJSONLine(ingest.NewDecoder(c), path, c.Topics.Interactions, func(line int, b corastream.Batch) error {
		if len(b.Bad) > 0 {
			return badLine(path, line, b.Bad[0])
		}
		for _, ev := range b.Events {
			ev.Pos, ev.Appended = corastream.Position{Topic: name, Offset: int64(len(events))}, time.Time{} // no broker appended it
			events = append(events, ev)
		}
		return nil
	})
	return events, err
}

// readItems reads a catalogue from CSV, MovieLens' formats or JSON lines.
func readItems(c ingest.Config, path string) ([]corastream.Item, error) {
	if !isJSONLines(path) {
		return reading(ingest.NewDecoder(c)).Items(path)
	}
	var items []corastream.Item
	at := map[string]int{}
	err := eachJSONLine(ingest.NewDecoder(c), path, c.Topics.Items, func(line int, b corastream.Batch) error {
		if len(b.Bad) > 0 {
			return badLine(path, line, b.Bad[0])
		}
		for _, it := range b.Items { // the last record of an item counts, as on the topic
			it.Pos = corastream.Position{}
			if n, ok := at[it.ID]; ok {
				items[n] = it
				continue
			}
			at[it.ID] = len(items)
			items = append(items, it)
		}
		return nil
	})
	return items, err
}

func badLine(path string, line int, l corastream.DeadLetter) error {
	return corastream.Usagef(fmt.Sprintf("%s:%d", path, line), "`corastream validate "+path+"` lists all of them", "%s: %s", l.Reason, l.Detail)
}

// eachJSONLine decodes a file's lines as records of a topic.
func eachJSONLine(d *ingest.Decoder, path, topic string, visit func(line int, b corastream.Batch) error) error {
	in, err := os.Open(path)
	if err != nil {
		return corastream.Usagef(path, "check the path", "%v", err)
	}
	defer in.Close()
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	now := time.Now()
	for n := 1; lines.Scan(); n++ {
		value := bytes.TrimSpace(bytes.TrimPrefix(lines.Bytes(), []byte("\xef\xbb\xbf")))
		if len(value) == 0 {
			continue
		}
		var b corastream.Batch
		d.Decode(&b, ingest.Record{Pos: corastream.Position{Topic: topic, Offset: int64(n)}, Value: value, Time: now}, now)
		if err := visit(n, b); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return corastream.Usagef(path, "one JSON object a line, at most 16 MiB", "%v", err)
	}
	return nil
}

// jsonTopic guesses which topic a JSON lines file is for: the first line that one of them takes without complaint decides,
// interactions first.
func jsonTopic(c ingest.Config, path string) (string, error) {
	errFound := errors.New("found")
	topic := c.Topics.Interactions
	tried := 0
	d := ingest.NewDecoder(c)
	f, err := os.Open(path)
	if err != nil {
		return "", corastream.Usagef(path, "check the path", "%v", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxLine)
	for err = nil; err == nil && tried < 100 && lines.Scan(); {
		value := bytes.TrimSpace(lines.Bytes())
		if len(value) == 0 {
			continue
		}
		tried++
		for _, t := range []string{c.Topics.Interactions, c.Topics.Items} {
			var b corastream.Batch
			d.Decode(&b, ingest.Record{Pos: corastream.Position{Topic: t}, Value: value, Time: time.Now()}, time.Now())
			if len(b.Bad) == 0 {
				topic, err = t, errFound
				break
			}
		}
	}
	return topic, nil
}

// bounds reads --from and --to.
func bounds(from, to string) (a, b ingest.Bound, err error) {
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

// readRange hands each batch of a range of topics on. No group, no offset and no record is written.
func readRange(ctx context.Context, c ingest.Config, topics []string, from, to ingest.Bound, bar func(done, total int), visit func(corastream.Batch) error) ([]ingest.Extent, error) {
	extents, _, err := readRangeCounted(ctx, c, topics, from, to, bar, visit)
	return extents, err
}

// readRangeCounted is readRange with what the decoder counted.
func readRangeCounted(ctx context.Context, c ingest.Config, topics []string, from, to ingest.Bound, bar func(done, total int), visit func(corastream.Batch) error) ([]ingest.Extent, *ingest.Counts, error) {
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

// say prints what a person reads: to standard output on a terminal, else to standard error, where it is out of a program's way.
func say(out io.Writer, text string) {
	if !terminal(out) {
		out = os.Stderr
	}
	fmt.Fprint(out, text)
}
