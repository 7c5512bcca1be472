package itemcodes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/generator"
)

// How a running process reads its catalogue for lists.
const (
	keepEvery = 2 * time.Second // it looks for items that are new or changed
	fewest    = 50              // items: fewer span no codes
	Most      = 50_000          // items: of a larger catalogue the others have no code; a state takes 2 to 6 KB
	perCommit = 256             // items that one transaction codes
)

// coding is how codes are made. It is kept in the data folder, so that codes of one list model always come from one basis.
type coding struct {
	LLM      string           `json:"llm"`
	Template string           `json:"template"`
	Layers   int              `json:"layers,omitempty"` // that texts were read through; 0: all
	FittedOn int              `json:"fitted_on"`        // items
	About    corastream.About `json:"about"`
	Coder    *generator.Coder `json:"coder"`
}

// Deps is what Keep works with.
type Deps struct {
	Open     func() (*Reader, error)                                  // called once, when there is something to read; nil: there is no LLM
	Opened   func(*Reader)                                            // told of it; nil: nobody
	Texts    func(most int) []corastream.Item                         // the catalogue's titled items, by id
	Coded    func(item string) bool                                   // whether the list model has the item's code
	Store    func(ctx context.Context, items []corastream.Item) error // stores items' codes
	Again    func() bool                                              // the list model waits for a code to be told once more: mix.Model.TellAgain
	Progress func(done, total int)
	Width    int    // of a code
	Path     string // the file of the basis
	Log      zerolog.Logger
}

// Keep has the frozen LLM read titled items, and stores their codes, until ctx ends.
//
// A basis is fitted to the states of all items, so the first codes come when the catalogue has
// stood still for a moment. A fit in the middle of an import would know half of the shop. When the
// catalogue has grown by half, the basis is fitted anew and all items are coded again. That costs
// the list model its training, so a smaller growth does not do it.
//
// done holds a digest of the text that each item was coded by. An item whose text has changed is
// read again. After a restart the list model says which items have a code, and their present text
// is taken as the one that was read. Everything runs in the caller's goroutine, and nothing waits
// for it.
func Keep(ctx context.Context, d Deps) error {
	var r *Reader
	defer func() {
		if r != nil {
			r.Close()
		}
	}()
	var now *coding // nil until a basis is fitted or loaded
	done := map[string][32]byte{}
	last, warned := 0, false
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		// An import is under way while the number of items changes between two ticks.
		items := d.Texts(Most)
		still := len(items) == last
		last = len(items)
		if len(items) < fewest || now == nil && !still {
			continue
		}
		var err error
		// The LLM is opened late: a shop without titles never pays for its memory.
		if r == nil {
			if r, err = d.Open(); err != nil || r == nil {
				return err
			}
			if d.Opened != nil {
				d.Opened(r)
			}
			if now, err = d.load(r); err != nil {
				return err
			}
			if now != nil { // a restart: what has a code was read before
				for _, it := range items {
					if d.Coded(it.ID) {
						done[it.ID] = aboutKey(it.Title, now.About.Text(it))
					}
				}
			}
		}
		if now == nil || still && 2*len(items) >= 3*now.FittedOn {
			if now, err = d.fit(ctx, r, items); err != nil {
				return err
			}
			clear(done) // codes of the old basis mean something else, so every item is coded again
		}
		if err := d.code(ctx, r, now, items, done); err != nil {
			return err
		}
		// The list model acts on the codes that it is told, and on nothing else, so that a rerun of the journal takes the same steps.
		// When it waits and no item has changed, one code is told again.
		if d.Again() {
			if err := d.again(ctx, r, now, items); err != nil {
				return err
			}
		}
		if err := r.failure(); err != nil && !warned {
			warned = true
			d.Log.Warn().Err(err).Msg("readings of items are not kept any more (llm.cache_dir): the next start reads them again")
		}
	}
}

// again tells the code of an item that has one. The list model takes that as the word that all codes are there, or that it may
// look at what a training came to.
func (d Deps) again(ctx context.Context, r *Reader, now *coding, items []corastream.Item) error {
	for i := range items {
		if d.Coded(items[i].ID) {
			return d.tell(ctx, r, now, items[i:i+1:i+1]) // the third index keeps tell from writing behind the one item
		}
	}
	return nil
}

// tell reads items and stores their codes.
func (d Deps) tell(ctx context.Context, r *Reader, now *coding, part []corastream.Item) error {
	states, err := r.answers(ctx, now.About, part, func(int, int) {})
	if err != nil {
		return err
	}
	for i, s := range states {
		code, err := now.Coder.Code(s)
		if err != nil {
			return fmt.Errorf("item %q: %w", part[i].ID, err)
		}
		// A basis of fewer items than Width has fewer components. The list model wants all codes equally wide.
		part[i].Code = append(code, make([]float32, d.Width-len(code))...)
	}
	if err := d.Store(ctx, part); err != nil {
		return fmt.Errorf("store item codes: %w", err)
	}
	return nil
}

// fit reads all items, fits the basis and keeps it. The file appears whole by a rename. It is
// written before any code of the basis is stored: the other way round, a kill would leave codes
// whose basis nobody knows.
func (d Deps) fit(ctx context.Context, r *Reader, items []corastream.Item) (*coding, error) {
	now := &coding{LLM: r.model.Digest(), Template: r.model.TemplateDigest(), Layers: r.layers(), FittedOn: len(items), About: corastream.NewAbout(items)}
	states, err := r.answers(ctx, now.About, items, d.Progress)
	if err != nil {
		return nil, err
	}
	// An item without any text has no state. It says nothing about the basis.
	states = slices.DeleteFunc(states, func(s []float32) bool { return s == nil })
	if now.Coder, err = generator.FitCoder(states, d.Width); err != nil {
		return nil, err
	}
	b, err := json.Marshal(now)
	if err != nil {
		return nil, err
	}
	path := d.Path
	if err := errors.Join(os.WriteFile(path+".tmp", b, 0o644), os.Rename(path+".tmp", path)); err != nil {
		return nil, fmt.Errorf("keep the basis of item codes: %w", err)
	}
	return now, nil
}

// load returns what an earlier run fitted, or nil where there is none, or one of another LLM or
// prompt. nil makes Keep fit anew; codes of two bases must not meet in one list model.
func (d Deps) load(r *Reader) (*coding, error) {
	b, err := os.ReadFile(d.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the basis of item codes: %w", err)
	}
	var c coding
	if err := json.Unmarshal(b, &c); err != nil || c.Coder == nil || !c.Coder.Sound() {
		// The file can be made anew from the catalogue, so damage costs a reading and does not stop the process.
		d.Log.Warn().Str("file", d.Path).Msg("the basis of item codes is damaged; it is fitted anew")
		return nil, nil
	}
	if c.LLM != r.model.Digest() || c.Template != r.model.TemplateDigest() || c.Layers != r.layers() || c.Coder.In != r.width() {
		return nil, nil
	}
	return &c, nil
}

// code reads what is new or changed and stores its codes, perCommit items in a transaction. done
// gets an item only after its code is stored.
func (d Deps) code(ctx context.Context, r *Reader, now *coding, items []corastream.Item, done map[string][32]byte) error {
	var part []corastream.Item
	flush := func() error {
		if len(part) == 0 {
			return nil
		}
		if err := d.tell(ctx, r, now, part); err != nil {
			return err
		}
		for _, it := range part {
			done[it.ID] = aboutKey(it.Title, now.About.Text(it))
		}
		part = part[:0]
		return nil
	}
	// Small transactions let clicks be learnt in between, and a kill loses the codes of one of them.
	for _, it := range items {
		if key, ok := done[it.ID]; ok && key == aboutKey(it.Title, now.About.Text(it)) {
			continue
		}
		if part = append(part, it); len(part) == perCommit {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}
