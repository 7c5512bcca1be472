package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/corastream/corastream"
)

// Unread returns up to n items that wait for the frozen LLM, those first known first.
func (s *Store) Unread(n int) ([]corastream.Item, error) {
	sn, err := s.acquire()
	if err != nil {
		return nil, err
	}
	defer sn.release()
	var out []corastream.Item
	for _, seq := range s.queue.unreadItems(n) {
		if seq >= sn.shared.items {
			break // of a commit that became current after this snapshot
		}
		it, err := s.itemAt(sn, seq)
		if err != nil {
			return nil, err
		}
		if it.unread() {
			out = append(out, it.Item)
		}
	}
	return out, nil
}

// Join sets the content of items that were read, with a journal line of its own. An item whose title or fields changed
// since Unread gave it out is left out: it waits to be read again.
func (s *Store) Join(ctx context.Context, items []corastream.Item) error {
	if err := corastream.Failpoint("store.join"); err != nil {
		return err
	}
	return s.join(ctx, items, func(now, read *corastream.Item) bool {
		return now.Title == read.Title && sameFields(now.Fields, read.Fields)
	})
}

// Rejoin repeats a Join from its journal line.
func (s *Store) Rejoin(ctx context.Context, line Line) error {
	return s.join(ctx, line.Items, func(_, _ *corastream.Item) bool { return true })
}

func (s *Store) join(ctx context.Context, items []corastream.Item, fits func(now, read *corastream.Item) bool) error {
	return s.update(ctx, func(w *work) error {
		var joined []corastream.Item
		for i := range items {
			in := &items[i]
			known, err := w.s.item(w.sn, in.ID)
			if err != nil {
				return err
			}
			if known == nil {
				return fmt.Errorf("join item %q: %w", in.ID, corastream.ErrUnknown)
			}
			if !known.unread() || !fits(&known.Item, in) {
				continue
			}
			it, err := w.item(in.ID)
			if err != nil {
				return err
			}
			it.rec.Content = append(make([]float32, 0, len(in.Content)), in.Content...) // never nil: it has been read
			it.rec.Version++
			it.edited = true
			w.charge(1, 2*len(in.Content))
			joined = append(joined, corastream.Item{ID: it.rec.ID, Content: it.rec.Content})
			w.charge(0, len(in.ID)+2*len(in.Content)+8)
			if w.full() {
				if err := w.close(&Line{Kind: KindContent, Items: joined}, nil); err != nil {
					return err
				}
				joined = nil
				w.reopen()
			}
		}
		if len(joined) == 0 {
			return nil
		}
		return w.close(&Line{Kind: KindContent, Items: joined}, nil)
	})
}

// touchEvery is how far apart records that say the same are noted: a catalogue that is sent again each minute is not written each minute.
const touchEvery = time.Hour

// cleanItem is a catalogue record as it is kept: copies that hold no foreign memory; a removed one has no text.
func cleanItem(in *corastream.Item) corastream.Item {
	out := corastream.Item{Withdrawn: in.Withdrawn, Removed: in.Removed}
	if in.Removed {
		return out
	}
	out.Title = strings.Clone(in.Title)
	if len(in.Fields) > 0 {
		out.Fields = make(map[string]string, len(in.Fields))
		for k, v := range in.Fields {
			out.Fields[strings.Clone(k)] = strings.Clone(v)
		}
	}
	out.Content = slices.Clone(in.Content)
	return out
}

func sameText(a, b *corastream.Item) bool {
	return a.Title == b.Title && sameFields(a.Fields, b.Fields)
}

// sameRecord says whether two catalogue records tell the list model the same.
func sameRecord(a, b *itemRec) bool {
	return a.listed == b.listed && a.Removed == b.Removed && a.Withdrawn == b.Withdrawn && sameText(&a.Item, &b.Item)
}

func sameFields(a, b map[string]string) bool { return maps.Equal(a, b) }

func sameContent(a, b []float32) bool { return (a == nil) == (b == nil) && slices.Equal(a, b) }

func fieldsSize(fields map[string]string) int {
	n := 0
	for k, v := range fields {
		n += len(k) + len(v) + 6
	}
	return n
}
