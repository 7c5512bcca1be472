package datafile

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/ingest"
)

// Dumped counts what a dump wrote and what it left out.
type Dumped struct {
	Records int `json:"records"`
	Erased  int `json:"erased"` // events of users who have been erased since
	Bad     int `json:"bad"`    // records that can not be read, and are dead letters
}

// DumpEvents writes a range of the interactions topic as JSON lines that `produce` reads back: one event a line, in the flat form, with
// its label where it has one. Events for which gone is true are left out.
func DumpEvents(ctx context.Context, c ingest.Config, from, to ingest.Bound, w io.Writer, gone func(corastream.Event) bool, bar func(done, total int)) (out Dumped, err error) {
	_, err = Range(ctx, c, []string{c.Topics.Interactions}, from, to, bar, func(b corastream.Batch) error {
		out.Bad += len(b.Bad)
		for _, ev := range b.Events {
			if gone(ev) {
				out.Erased++
				continue
			}
			line, err := ingest.EncodeEvent(ev)
			if err != nil {
				return err
			}
			if _, err := w.Write(append(line, '\n')); err != nil {
				return err
			}
			out.Records++
		}
		return nil
	})
	return out, err
}

// DumpItems writes the catalogue as it stands, one item a line, in the order in which items first came. What was removed is left out.
func DumpItems(ctx context.Context, c ingest.Config, w io.Writer, bar func(done, total int)) (out Dumped, err error) {
	at, items := map[string]int{}, []corastream.Item{}
	if _, err = Range(ctx, c, []string{c.Topics.Items}, ingest.AtOffset(0), ingest.Bound{}, bar, func(b corastream.Batch) error {
		out.Bad += len(b.Bad)
		for _, it := range b.Items {
			if n, known := at[it.ID]; known {
				items[n] = it.Onto(items[n])
				continue
			}
			at[it.ID] = len(items)
			items = append(items, it)
		}
		return nil
	}); err != nil {
		return out, err
	}
	for _, it := range items {
		line, err := ingest.EncodeItem(it)
		if err != nil {
			return out, err
		}
		if line == nil {
			continue
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return out, err
		}
		out.Records++
	}
	return out, nil
}

// WriteWhole writes a file whole or not at all: what fill writes goes beside it first. "-" is out.
func WriteWhole(path string, out io.Writer, fill func(io.Writer) error) (err error) {
	if path == "-" {
		b := bufio.NewWriter(out)
		return errors.Join(fill(b), b.Flush())
	}
	if !IsJSONLines(path) {
		return corastream.Usagef("--out", "name it FILE.jsonl, so that `produce` knows what it is", "%q is no name of JSON lines", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return corastream.Usagef("--out", "name a file in a folder that can be written", "%v", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
			if gone := os.Remove(f.Name()); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
				err = errors.Join(err, gone)
			}
		}
	}()
	b := bufio.NewWriterSize(f, 1<<20)
	if err = errors.Join(fill(b), b.Flush()); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err = f.Close(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}
