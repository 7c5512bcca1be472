package store

import (
	"context"
	"fmt"

	"github.com/corastream/corastream"
)

// Code tells the list model the codes of catalogue items, with a journal line of its own. The store keeps no code itself: the list
// model's table and its step records hold them, so that a later start and a re-run come to the same lists. An item that is
// unknown, not of the catalogue or removed is left out.
func (s *Store) Code(ctx context.Context, items []corastream.Item) error {
	for i := range items {
		if _, err := appendContent(nil, items[i].Code); err != nil {
			return fmt.Errorf("code of item %q: %w", items[i].ID, err)
		}
	}
	return s.update(ctx, func(w *work) error {
		var coded []corastream.Item
		for i := range items {
			in := &items[i]
			known, err := w.s.item(w.sn, in.ID)
			if err != nil {
				return err
			}
			if known == nil || !known.listed || known.Removed {
				continue
			}
			if w.steps != nil && w.s.derived.Derived != nil {
				told := known.Item
				told.Code = in.Code
				w.chargeSteps(w.steps.item(&told))
			}
			coded = append(coded, corastream.Item{ID: in.ID, Content: in.Code})
			w.charge(0, len(in.ID)+2*len(in.Code)+8)
			if w.full() {
				if err := w.close(&Line{Kind: KindCodes, Items: coded}, nil); err != nil {
					return err
				}
				coded = nil
				w.reopen()
			}
		}
		if len(coded) == 0 {
			return nil
		}
		return w.close(&Line{Kind: KindCodes, Items: coded}, nil)
	})
}

// Recode repeats a Code from its journal line.
func (s *Store) Recode(ctx context.Context, line Line) error {
	items := make([]corastream.Item, len(line.Items))
	for i, it := range line.Items {
		items[i] = corastream.Item{ID: it.ID, Code: it.Content}
	}
	return s.Code(ctx, items)
}
