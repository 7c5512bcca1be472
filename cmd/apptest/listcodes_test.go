//go:build app

package apptest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/itemcodes"
	"github.com/corastream/corastream/serve/llm"
)

// TestAChangedFieldHasThatItemReadAlone: of a catalogue that was read, one item's genre changes. The LLM reads that item and no other.
func TestAChangedFieldHasThatItemReadAlone(t *testing.T) {
	dir := t.TempDir()
	options := itemcodes.Options(llm.Default(), 0)
	options.ContextTokens, options.Threads = 64, 1
	model, err := llm.Open(tinyLLM(t, 7), options)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var items []corastream.Item
	genres := []string{"heist", "comedy", "western", "noir"}
	for i := range 60 {
		items = append(items, corastream.Item{ID: fmt.Sprintf("i%02d", i), Title: fmt.Sprint("title ", i), Fields: map[string]string{"genre": genres[i%4], "author": fmt.Sprint("writer ", i%7)}})
	}
	stored := make(chan []corastream.Item, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- itemcodes.Keep(ctx, itemcodes.Deps{
			Open: func() (*itemcodes.Reader, error) { return itemcodes.NewReader(model, dir, 1<<30) },
			Texts: func(int) []corastream.Item {
				mu.Lock()
				defer mu.Unlock()
				return append([]corastream.Item(nil), items...)
			},
			Coded: func(string) bool { return false },
			Store: func(_ context.Context, items []corastream.Item) error {
				stored <- append([]corastream.Item(nil), items...)
				return nil
			},
			Again:    func() bool { return false },
			Progress: func(int, int) {}, Width: 8, Path: filepath.Join(dir, "codes.json"), Log: zerolog.Nop(),
		})
	}()
	defer func() {
		cancel()
		<-ended
	}()
	next := func() []corastream.Item {
		select {
		case s := <-stored:
			return s
		case err := <-ended:
			t.Fatalf("reading ended: %v", err)
		case <-time.After(2 * time.Minute):
			t.Fatal("nothing was stored")
		}
		return nil
	}
	first := next()
	if len(first) != len(items) {
		t.Fatalf("%d items were stored first", len(first))
	}
	kept := stateBytes(t, dir)
	mu.Lock()
	items[17].Fields = map[string]string{"genre": "science fiction", "author": items[17].Fields["author"]}
	mu.Unlock()
	second := next()
	if len(second) != 1 || second[0].ID != "i17" || fmt.Sprint(second[0].Code) == fmt.Sprint(first[17].Code) {
		t.Errorf("%d items were stored after one had changed: %+v", len(second), second[0])
	}
	if grown := stateBytes(t, dir) - kept; grown <= 0 || grown*int64(len(items)) != kept {
		t.Errorf("the file of states grew from %d by %d bytes, which is not one item's", kept, grown)
	}
}

// stateBytes is the size of the file in which the states of read items are kept, without its header.
func stateBytes(t *testing.T, dir string) int64 {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "states-*.f32"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v: %v", files, err)
	}
	info, err := os.Stat(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return info.Size() - 80 // the header
}

// TestValidateShowsWhatTheLLMReads: three prompts of a catalogue, with its fields, in words and in the summary.
func TestValidateShowsWhatTheLLMReads(t *testing.T) {
	rows := "item_id,title,genre,price\n"
	for i := range 9 {
		rows += fmt.Sprintf("i%d,Work %d,%s,%d\n", i, i, []string{"heist", "noir"}[i%2], 10+i)
	}
	for name, text := range map[string]string{"items.csv": rows} {
		r := ok(t, "validate", write(t, name, text))
		prompts, _ := r.last(t)["prompts"].([]any)
		if len(prompts) != 3 || prompts[0] != "Item: Work 0. heist\n#Answer:" || prompts[2] != "Item: Work 8. heist\n#Answer:" {
			t.Errorf("%s: %q", name, prompts)
		}
		if err := lacks(r.stdout+r.stderr, "reads of an item", `"Item: Work 4. heist\n#Answer:"`); err != nil || strings.Contains(r.stdout, "10.") {
			t.Errorf("%s: %v\n%s\n%s", name, err, r.stdout, r.stderr)
		}
	}
}
