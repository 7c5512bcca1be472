package token

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"

	"github.com/corastream/corastream/serve/llm/gguf"
)

// openModel opens the default language model, or skips.
func openModel(t testing.TB) *gguf.File {
	t.Helper()
	path := os.Getenv("CORASTREAM_LLM")
	if path == "" {
		path = filepath.Join("..", "..", "..", ".cache", "smollm2-135m-instruct-q4_1.gguf")
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no language model (%v): run `make fetch`, or set CORASTREAM_LLM to the .gguf file", err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// goldenText is a line of testdata/smollm2.jsonl, made by .ci/reference/tokenise.py with llama.cpp.
type goldenText struct {
	Text string
	IDs  []int32
	CRC  map[string]uint32 // of the ids under other pre-tokenizers
}

func readGolden(t *testing.T) []goldenText { return readLines(t, "testdata/smollm2.jsonl", 200) }

// readLines reads a golden file that holds at least so many texts.
func readLines(t *testing.T, path string, least int) (rows []goldenText) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		var row goldenText
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	if len(rows) < least {
		t.Fatalf("%s: %d golden texts", path, len(rows))
	}
	return rows
}

func TestIDsAreThoseOfLlamaCpp(t *testing.T) {
	tok, err := New(openModel(t))
	if err != nil {
		t.Fatal(err)
	}
	// This vocabulary lacks tokens for some control characters: they are dropped, by llama.cpp too.
	known := func(r rune) rune {
		if _, ok := tok.ID(string(r)); r < ' ' && !ok {
			return -1
		}
		return r
	}
	for _, row := range readGolden(t) {
		if got := tok.Encode(row.Text); !slices.Equal(got, row.IDs) {
			t.Errorf("%q: %d, want %d", row.Text, got, row.IDs)
		}
		if got, want := tok.Decode(row.IDs), strings.Map(known, row.Text); got != want {
			t.Errorf("%q decodes to %q", row.Text, got)
		}
	}
	if tok.AddBOS() || tok.BOS() != 1 || tok.EOS() != 2 || tok.Size() != 49152 {
		t.Errorf("add BOS %v, BOS %d, EOS %d, %d tokens", tok.AddBOS(), tok.BOS(), tok.EOS(), tok.Size())
	}
	if got, want := tok.EncodeSpecial("<|im_start|>user\nHi<|im_end|>"), slices.Concat([]int32{1}, tok.Encode("user\nHi"), []int32{2}); !slices.Equal(got, want) {
		t.Errorf("chat markers give %d, want %d", got, want)
	}
}

// The same vocabulary under the other pre-tokenizers, against llama.cpp under them.
func TestEveryPreTokenizerIsThatOfLlamaCpp(t *testing.T) {
	f := openModel(t)
	rows := readGolden(t)
	var names []string
	for name := range rows[0].CRC {
		names = append(names, name)
	}
	if slices.Sort(names); len(names) < 5 {
		t.Fatalf("the golden file holds %v alone", names)
	}
	for _, name := range names {
		tok := retokenized(t, f, name)
		for _, row := range rows {
			if preTokenizers[name].nfc && !norm.NFC.IsNormalString(row.Text) {
				continue // llama.cpp does not normalise
			}
			ids := tok.Encode(row.Text)
			b, _ := binary.Append(nil, binary.LittleEndian, ids)
			if crc32.ChecksumIEEE(b) != row.CRC[name] {
				t.Errorf("%s: %q: the ids %d are not llama.cpp's", name, row.Text, ids)
			}
		}
	}
}

// Titles in 13 scripts, composed and decomposed, with joiners and emoji, as Hugging Face's tokenizers reads them under each family
// (.ci/reference/scripts.py). Here the published tokenizers count, where llama.cpp does not normalise.
func TestTitlesOfEveryScriptAreThoseOfThePublishedTokenizers(t *testing.T) {
	f, rows := openModel(t), readLines(t, "testdata/scripts.jsonl", 150)
	for name := range rows[0].CRC {
		tok := retokenized(t, f, name)
		for _, row := range rows {
			ids := tok.Encode(row.Text)
			b, _ := binary.Append(nil, binary.LittleEndian, ids)
			if crc32.ChecksumIEEE(b) != row.CRC[name] {
				t.Errorf("%s: %+q: the ids %d are not the published tokenizer's", name, row.Text, ids)
			}
		}
	}
	if len(rows[0].CRC) < 5 {
		t.Errorf("the golden file holds %d families", len(rows[0].CRC))
	}
}

// Qwen's tokenizer puts text into normal form C: a decomposed Korean title is read as people type it.
func TestQwenReadsTheComposedForm(t *testing.T) {
	qwen, plain := retokenized(t, openModel(t), "qwen2"), retokenized(t, openModel(t), "gpt-2")
	for _, text := range []string{"살인의 추억", "Amélie à la plage", "Ночной ёлки", "ガラスの仮面"} {
		apart := norm.NFD.String(text)
		if got, want := qwen.Encode(apart), qwen.Encode(text); !slices.Equal(got, want) {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
		if slices.Equal(plain.Encode(apart), plain.Encode(text)) {
			t.Errorf("%q: a vocabulary without the normaliser reads both forms alike", text)
		}
	}
}

// retokenized is the vocabulary of f under another pre-tokenizer.
func retokenized(t *testing.T, f *gguf.File, pre string) *Tokenizer {
	t.Helper()
	tokens, err1 := f.Strings("tokenizer.ggml.tokens")
	merges, err2 := f.Strings("tokenizer.ggml.merges")
	kinds, err3 := f.Ints("tokenizer.ggml.token_type")
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	tok, err := New(vocabularyFile(t, map[string]any{
		"model": "gpt2", "pre": pre, "tokens": tokens, "merges": merges, "token_type": kinds, "bos_token_id": uint32(1),
	}))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// vocabularyBytes is a model file with these tokenizer keys.
func vocabularyBytes(t testing.TB, keys map[string]any) []byte {
	t.Helper()
	w := &gguf.Writer{}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if err := w.Set("tokenizer.ggml."+key, keys[key]); err != nil {
			t.Fatal(err)
		}
	}
	return w.Bytes()
}

func vocabularyFile(t testing.TB, keys map[string]any) *gguf.File {
	t.Helper()
	f, err := gguf.Parse("test.gguf", vocabularyBytes(t, keys))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// pieces is testdata/sentencepiece.json, made by .ci/reference/pieces.py: a small vocabulary with ids on which
// sentencepiece and llama.cpp agree.
type pieces struct {
	Tokens []string
	Scores []float32
	Types  []int32
	Texts  []goldenText
}

func readPieces(t testing.TB) (p pieces) {
	t.Helper()
	b, err := os.ReadFile("testdata/sentencepiece.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p pieces) keys() map[string]any {
	return map[string]any{
		"model": "llama", "tokens": p.Tokens, "scores": p.Scores, "token_type": p.Types, "bos_token_id": uint32(1),
		"eos_token_id": uint32(2), "unknown_token_id": uint32(0),
	}
}

func TestIDsAreThoseOfSentencePiece(t *testing.T) {
	p := readPieces(t)
	tok, err := New(vocabularyFile(t, p.keys()))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Texts) < 200 {
		t.Fatalf("%d golden texts", len(p.Texts))
	}
	for _, row := range p.Texts {
		if got := tok.Encode(row.Text); !slices.Equal(got, row.IDs) {
			t.Errorf("%q: %d, want %d", row.Text, got, row.IDs)
		}
	}
	if !tok.AddBOS() || tok.BOS() != 1 || tok.EOS() != 2 {
		t.Errorf("add BOS %v, BOS %d, EOS %d", tok.AddBOS(), tok.BOS(), tok.EOS())
	}
}

// testdata/tekken.json holds parts as Hugging Face's tokenizers cuts them; put together they are the text.
func TestTekkenSplitsAsThePublishedTokenizer(t *testing.T) {
	b, err := os.ReadFile("testdata/tekken.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct{ Parts [][]string }
	if err := json.Unmarshal(b, &golden); err != nil {
		t.Fatal(err)
	}
	if len(golden.Parts) < 300 {
		t.Fatalf("%d golden texts", len(golden.Parts))
	}
	for _, want := range golden.Parts {
		var got []string
		preTokenizers["tekken"].split.each(strings.Join(want, ""), func(part string) { got = append(got, part) })
		if !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
