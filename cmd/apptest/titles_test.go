//go:build app

package apptest

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/datafile"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/serve/llm"
	"github.com/corastream/corastream/serve/llm/gguf"
	"github.com/corastream/corastream/serve/llm/token"
)

// worldTitles need characters that nobody sees: non-joiners in Persian, joiners in Hindi and in emoji. The last one is decomposed.
var worldTitles = []string{
	"می\u200cخواهم زنده بمانم", "دربارهٔ الی", "بچه\u200cهای آسمان", "क्\u200dया कहना", "दिलवाले दुल्हनिया ले जाएँगे", "नवरंग श्\u200dरी",
	"살인의 추억", "기생충", "올드보이 🎬", "Up 🎈👩\u200d👩\u200d👧\u200d👦", "❤\ufe0f\u200d🔥 Love 1\ufe0f\u20e3", "👨🏿\u200d🚀 🏳\ufe0f\u200d🌈 🇫🇮", "\u1100\u116c\u1106\u116e\u11af",
}

// TestTitlesOfEveryScriptGoThroughTrainAndReplay: a catalogue in Persian, Hindi, Korean and with emoji is trained on and judged, and the
// LLM reads each title as the file spells it, to the byte.
func TestTitlesOfEveryScriptGoThroughTrainAndReplay(t *testing.T) {
	t.Parallel()
	model := tinyLLM(t, 3)
	config := write(t, "world.yaml", strings.Replace(tinyConfig(model, ""), "threads: 1", "threads: 1, title_tokens: 128", 1))
	var catalogue, log, later strings.Builder
	catalogue.WriteString("item_id,title\n")
	log.WriteString(csvHeader)
	later.WriteString(csvHeader)
	want := map[string]string{}
	for n := range 8 * len(worldTitles) {
		id, title := fmt.Sprint(n), fmt.Sprintf("%s %d", worldTitles[n%len(worldTitles)], 1930+n)
		want[id] = title
		fmt.Fprintf(&catalogue, "%s,\"%s\"\n", id, title)
	}
	for n := range 600 {
		rows := &log
		if n >= 500 {
			rows = &later
		}
		fmt.Fprintf(rows, "%d,%d,%d,%d\n", n%20, n*n%len(want), n*7%5/3, firstTime+n)
	}
	items, train, test := write(t, "items.csv", catalogue.String()), write(t, "train.csv", log.String()), write(t, "test.csv", later.String())
	checkpoint, out := filepath.Join(t.TempDir(), "world.safetensors"), filepath.Join(t.TempDir(), "report")
	ok(t, "train", "-c", config, "--train", train, "--items", items, "--out", checkpoint)
	r := ok(t, "replay", "-c", config, "--mode", "prequential", "--models", "mix,words,bias,cora", "--checkpoint", checkpoint, "--train", train, "--test", test,
		"--items", items, "--out", out, "--bootstraps", "10", "--epochs", "1")
	judged, _ := r.last(t)["test"].(map[string]any)["cora"].(map[string]any)
	if rows, _ := judged["rows"].(float64); rows != 100 {
		t.Errorf("cora was judged on %v rows of 100: %v", judged["rows"], judged)
	}

	read, err := datafile.Items(ingest.Default(), items)
	if err != nil {
		t.Fatal(err)
	}
	options := llm.Default()
	options.TitleTokens, options.ContextTokens, options.Threads = 128, 200, 1
	m, err := llm.Open(model, options)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	f, err := gguf.Open(model)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tok, err := token.New(f)
	if err != nil {
		t.Fatal(err)
	}
	if len(read) != len(want) {
		t.Errorf("%d items of %d", len(read), len(want))
	}
	for _, it := range read {
		ids, err := m.PromptTokens(corastream.Prompt{ItemID: it.ID, Title: it.Title})
		if err != nil {
			t.Fatal(err)
		}
		if got := tok.Decode(ids); it.Title != want[it.ID] || got != "Movie: "+it.Title+"\n#Answer:" {
			t.Errorf("item %s is read as %+q, its title is %+q", it.ID, got, want[it.ID])
		}
	}
}
