package token

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/bounded"
	"github.com/corastream/corastream/serve/llm/gguf"
)

// tinyKeys is a byte-level vocabulary: all 256 bytes, a few merges, three special tokens and one token of the user's.
func tinyKeys(pre string) map[string]any {
	var tokens, merges []string
	for _, r := range byteRune {
		tokens = append(tokens, string(r))
	}
	for _, m := range []string{"a a", "aa aa", "Ġ t", "h e", "Ġt he", "i n", "Ġ Ġ", "1 9", "' s", "aaaa aaaa", "Ã ©"} {
		merges = append(merges, m)
		tokens = append(tokens, strings.Replace(m, " ", "", 1))
	}
	kinds := slices.Repeat([]int32{kindNormal}, len(tokens))
	tokens = append(tokens, "<|end|>", "<|end|>>", "<|start|>", "<tool>")
	kinds = append(kinds, kindControl, kindControl, kindControl, kindUser)
	return map[string]any{
		"model": "gpt2", "pre": pre, "tokens": tokens, "merges": merges, "token_type": kinds, "bos_token_id": uint32(len(tokens) - 2),
		"eos_token_id": uint32(len(tokens) - 4),
	}
}

func tiny(t testing.TB, pre string) *Tokenizer {
	t.Helper()
	tok, err := New(vocabularyFile(t, tinyKeys(pre)))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func names(tok *Tokenizer, ids []int32) (list []string) {
	for _, id := range ids {
		list = append(list, tok.Piece(id))
	}
	return list
}

func TestPlainTextNeverBecomesASpecialToken(t *testing.T) {
	p := readPieces(t)
	sp, err := New(vocabularyFile(t, p.keys()))
	if err != nil {
		t.Fatal(err)
	}
	for _, tok := range []*Tokenizer{tiny(t, "qwen2"), tiny(t, "llama-bpe"), sp} {
		text := "a<|end|><s></s><unk><tool><|start|>system<0x0A>\n"
		for _, ids := range [][]int32{tok.Encode(text), tok.EncodeNext(text)} {
			for _, id := range ids {
				if k := tok.kinds[id]; k == kindControl || k == kindUnknown || k == kindUser {
					t.Errorf("token %q came out of plain text", tok.Piece(id))
				}
			}
			if got := tok.Decode(ids); strings.TrimPrefix(got, " ") != text {
				t.Errorf("%q decodes to %q", text, got)
			}
		}
	}
}

func TestEncodeSpecialFindsTheLongest(t *testing.T) {
	tok := tiny(t, "gpt-2")
	for text, want := range map[string][]string{
		"":                       nil,
		"aa":                     {"aa"},
		"<|end|>":                {"<|end|>"},
		"<|end|>>":               {"<|end|>>"},
		"a<|start|>the<|end|><|": {"a", "<|start|>", "t", "he", "<|end|>", "<", "|"},
		"<tool> the":             {"<tool>", " the"},
	} {
		if got := names(tok, tok.EncodeSpecial(text)); !slices.Equal(got, want) {
			t.Errorf("%q gives %q, want %q", text, got, want)
		}
	}
}

func TestSentencePieceSpacePrefix(t *testing.T) {
	p := readPieces(t)
	keys := p.keys()
	with, err1 := New(vocabularyFile(t, keys))
	keys["add_space_prefix"] = false
	without, err2 := New(vocabularyFile(t, keys))
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if got, want := with.Encode("the night"), without.Encode(" the night"); !slices.Equal(got, want) {
		t.Errorf("with a prefix: %d, want %d", got, want)
	}
	if got, want := with.EncodeNext("the night"), without.Encode("the night"); !slices.Equal(got, want) {
		t.Errorf("in the middle: %d, want %d", got, want)
	}
	if got, want := with.EncodeSpecial("<s>the</s>"), slices.Concat([]int32{1}, with.Encode("the"), []int32{2}); !slices.Equal(got, want) {
		t.Errorf("after a special token: %d, want %d", got, want)
	}
	if got := with.Decode(with.Encode("  the  night ")); got != "  the  night " {
		t.Errorf("spaces change: %q", got)
	}
	if id, ok := with.ID(" the"); !ok || with.Piece(id) != " the" {
		t.Error(`no token " the"`)
	}
}

// Without byte tokens a character that is no piece is the unknown token, and decodes to U+FFFD.
func TestSentencePieceWithoutByteTokens(t *testing.T) {
	tok, err := New(vocabularyFile(t, map[string]any{
		"model": "llama", "tokens": []string{"<unk>", "▁", "a"}, "scores": []float32{0, -1, -2},
		"token_type": []int32{2, 1, 1}, "unknown_token_id": uint32(0), "add_bos_token": false,
	}))
	if err != nil {
		t.Fatal(err)
	}
	if got := tok.Encode("aéa"); !slices.Equal(got, []int32{1, 2, 0, 2}) {
		t.Errorf("ids %d", got)
	}
	if got := tok.Decode(tok.Encode("aéa")); got != "a\ufffda" {
		t.Errorf("decodes to %q", got)
	}
}

func TestBytesThatAreNotUTF8(t *testing.T) {
	tok := tiny(t, "qwen2")
	if got := tok.Decode(tok.Encode("a\xffé\xc3")); got != "a\ufffdé\ufffd" {
		t.Errorf("byte-level BPE reads %q", got)
	}
	sp, err := New(vocabularyFile(t, readPieces(t).keys()))
	if err != nil {
		t.Fatal(err)
	}
	if got := sp.Decode(sp.Encode("a\xffé\xc3")); got != "a\xffé\xc3" {
		t.Errorf("SentencePiece reads %q", got)
	}
}

// A long run of one letter is one part: quadratic merging would make this test the slowest of the package by far.
func TestLongTextsAreReadToTheLimit(t *testing.T) {
	sp, err := New(vocabularyFile(t, readPieces(t).keys()))
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("a", MaxTextBytes-2) + "éé"
	for _, tok := range []*Tokenizer{tiny(t, "gpt-2"), sp} {
		if got := tok.Decode(tok.Encode(long)); got != long[:MaxTextBytes] {
			t.Errorf("%d bytes come back of %d", len(got), len(long))
		}
		if got := tok.Decode(tok.Encode("a" + long)); got != "a"+long[:MaxTextBytes-2] {
			t.Errorf("%d bytes come back: the limit is not at a character's start", len(got))
		}
	}
	for _, tok := range []*Tokenizer{tiny(t, "qwen2"), tiny(t, "default"), sp} {
		for _, unit := range []string{" ", "\n", "'", "1", "\n ", "<", "é", "'s", " a", "!\r"} {
			text := strings.Repeat(unit, 20_000)
			if got := tok.Decode(tok.Encode(text)); got != text {
				t.Errorf("%q x 20,000 changes", unit)
			}
		}
	}
	if got := tiny(t, "gpt-2").Encode(strings.Repeat("a", 20)); len(got) != 3 {
		t.Errorf("20 letters are %d tokens, want 8+8+4", len(got))
	}
}

// The heap gives what the definition gives: again and again, of all pairs the one of the lowest key, leftmost first.
func TestMergingFollowsTheDefinition(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		n, letters := 1+rng.IntN(60), 1+rng.IntN(4)
		table := map[[2]int32][2]int32{} // pair -> key, merged
		for next := int32(letters); next < 30; next++ {
			table[[2]int32{rng.Int32N(next), rng.Int32N(next)}] = [2]int32{rng.Int32N(10), next}
		}
		var want []int32
		m := &merger{}
		for i := range n {
			id := rng.Int32N(int32(letters))
			want = append(want, id)
			m.add(id, i, i+1)
		}
		m.run(func(a, b *symbol) (uint32, int32) {
			if e, ok := table[[2]int32{a.id, b.id}]; ok {
				return uint32(e[0]), e[1]
			}
			return 0, -1
		})
		for {
			best, at := int32(math.MaxInt32), -1
			for i := range len(want) - 1 {
				if e, ok := table[[2]int32{want[i], want[i+1]}]; ok && e[0] < best {
					best, at = e[0], i
				}
			}
			if at < 0 {
				break
			}
			want = slices.Replace(want, at, at+2, table[[2]int32{want[at], want[at+1]}][1])
		}
		var got []int32
		for i := int32(0); i >= 0; i = m.symbols[i].next {
			got = append(got, m.symbols[i].id)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %d, want %d", got, want)
		}
	}
}

func TestBadVocabulariesAreRefused(t *testing.T) {
	p := readPieces(t)
	for _, c := range []struct {
		name, key string
		base      map[string]any
		change    map[string]any
	}{
		{"no model", "tokenizer.ggml.model", tinyKeys("gpt-2"), map[string]any{"model": nil}},
		{"other model", "tokenizer.ggml.model", tinyKeys("gpt-2"), map[string]any{"model": "t5"}},
		{"unknown pre-tokenizer", "tokenizer.ggml.pre", tinyKeys("viking"), nil},
		{"no tokens", "tokenizer.ggml.tokens", tinyKeys("gpt-2"), map[string]any{"tokens": []string{}, "token_type": []int32{}}},
		{"no merges", "tokenizer.ggml.merges", tinyKeys("gpt-2"), map[string]any{"merges": nil}},
		{"merge of one", "tokenizer.ggml.merges", tinyKeys("gpt-2"), map[string]any{"merges": []string{"ab"}}},
		{"merge of nothing", "tokenizer.ggml.merges", tinyKeys("gpt-2"), map[string]any{"merges": []string{""}}},
		{"merge with nothing", "tokenizer.ggml.merges", tinyKeys("gpt-2"), map[string]any{"merges": []string{"a "}}},
		{"merge outside", "tokenizer.ggml.merges", tinyKeys("gpt-2"), map[string]any{"merges": []string{"x y"}}},
		{"merge to a control token", "tokenizer.ggml.merges", tinyKeys("gpt-2"), map[string]any{"merges": []string{"<|end|> >"}}},
		{"types too short", "tokenizer.ggml.token_type", tinyKeys("gpt-2"), map[string]any{"token_type": []int32{1}}},
		{"type 9", "tokenizer.ggml.token_type", p.keys(), map[string]any{"token_type": slices.Repeat([]int32{9}, len(p.Tokens))}},
		{"double", "tokenizer.ggml.tokens", tinyKeys("gpt-2"), map[string]any{"tokens": []string{"a", "a"}, "token_type": nil, "merges": []string{}}},
		{"id outside", "tokenizer.ggml.eos_token_id", tinyKeys("gpt-2"), map[string]any{"eos_token_id": uint32(1 << 30)}},
		{"negative id", "tokenizer.ggml.eos_token_id", tinyKeys("gpt-2"), map[string]any{"eos_token_id": int32(-1)}},
		{"BOS wanted, none there", "tokenizer.ggml.add_bos_token", tinyKeys("llama-bpe"), map[string]any{"bos_token_id": nil}},
		{"no scores", "tokenizer.ggml.scores", p.keys(), map[string]any{"scores": nil}},
		{"scores too short", "tokenizer.ggml.scores", p.keys(), map[string]any{"scores": []float32{1}}},
		{"a score that is no number", "tokenizer.ggml.scores", p.keys(), map[string]any{"scores": slices.Repeat([]float32{float32(math.NaN())}, len(p.Tokens))}},
		{"bad byte token", "tokenizer.ggml.tokens", p.keys(), map[string]any{"tokens": []string{"<0xZZ>"}, "scores": []float32{0}, "token_type": []int32{6}}},
		{"double piece", "tokenizer.ggml.tokens", p.keys(), map[string]any{"tokens": []string{"a", "a"}, "scores": []float32{0, 0}, "token_type": nil}},
	} {
		keys := c.base
		for k, v := range c.change {
			if keys[k] = v; v == nil {
				delete(keys, k)
			}
		}
		_, err := New(vocabularyFile(t, keys))
		var usage *corastream.UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), "test.gguf") || !strings.Contains(err.Error(), c.key) || usage.Fix == "" {
			t.Errorf("%s: the error does not name the file, %s and a fix: %v", c.name, c.key, err)
		}
	}
}

func TestEveryNameMakesATokenizer(t *testing.T) {
	for name := range strings.SplitSeq(PreTokenizers(), ", ") {
		if tok := tiny(t, name); tok.AddBOS() != preTokenizers[name].addBOS {
			t.Errorf("%s: add BOS is %v", name, tok.AddBOS())
		}
	}
}

func TestIDsOutsideTheVocabulary(t *testing.T) {
	tok := tiny(t, "gpt-2")
	if got := tok.Decode([]int32{-1, 'a', 1 << 30}); got != "a" {
		t.Errorf("decodes to %q", got)
	}
	if tok.Piece(-1) != "" || tok.Piece(1<<30) != "" {
		t.Error("there is a piece outside the vocabulary")
	}
}

// FuzzEncode: parts are the text, valid text comes back unchanged under every pre-tokenizer, no token is special.
func FuzzEncode(f *testing.F) {
	for _, s := range []string{"", " ", "the man's 1999  \n\n x", "a\u0301\u200d🎬", "\xff\xc3", "'", "''ll'RE", "12345 67", " \r\n\t ", "<|end|>", "١٢٣४५६Ⅷ", "\u2028\u00a0\u3000a"} {
		f.Add(s)
	}
	kinds := []string{"default", "gpt-2", "smollm", "llama-bpe", "dbrx", "qwen2", "tekken"} // one of each that differs
	var all []*Tokenizer
	for _, name := range kinds {
		all = append(all, tiny(f, name))
	}
	sp, err := New(vocabularyFile(f, readPieces(f).keys()))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, name := range kinds {
			var joined strings.Builder
			preTokenizers[name].split.each(text, func(part string) {
				if part == "" {
					t.Fatalf("%s: an empty part of %q", name, text)
				}
				joined.WriteString(part)
			})
			if joined.String() != text {
				t.Fatalf("%s: the parts of %q are %q", name, text, joined.String())
			}
		}
		valid := text
		if !utf8.ValidString(text) {
			valid = string([]rune(text))
		}
		for i, tok := range all {
			want := valid
			if preTokenizers[kinds[i]].nfc {
				want = norm.NFC.String(valid)
			}
			var ids []int32
			bounded.Parse(t, len(text), func() { ids = tok.Encode(text) })
			if got := tok.Decode(ids); got != want {
				t.Fatalf("%q comes back as %q", text, got)
			}
			for _, id := range ids {
				if tok.kinds[id] != kindNormal {
					t.Fatalf("%q gave the special token %q", text, tok.Piece(id))
				}
			}
			tok.EncodeSpecial(text)
		}
		if got := sp.Decode(sp.Encode(text)); got != strings.ReplaceAll(text, space, " ") {
			t.Fatalf("SentencePiece: %q comes back as %q", text, got)
		}
	})
}

// FuzzNew: a hostile vocabulary is refused with an error, or gives a tokenizer that does not fail.
func FuzzNew(f *testing.F) {
	small := map[string]any{
		"model": "gpt2", "pre": "qwen2", "tokens": []string{"a", "b", "ab", "<s>"}, "merges": []string{"a b"},
		"token_type": []int32{1, 1, 1, 3}, "bos_token_id": uint32(3), "add_bos_token": true,
	}
	f.Add(vocabularyBytes(f, small))
	f.Add(vocabularyBytes(f, tinyKeys("llama-bpe")))
	f.Add(vocabularyBytes(f, map[string]any{
		"model": "llama", "tokens": []string{"<unk>", "▁", "a", "▁a", "<0x0A>"},
		"scores": []float32{0, -2, -1, float32(math.Inf(1)), 0}, "token_type": []int32{2, 1, 1, 1, 6}, "add_bos_token": false,
	}))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := gguf.Parse("fuzz", data)
		if err != nil {
			return
		}
		var tok *Tokenizer
		bounded.Parse(t, len(data), func() { tok, err = New(file) })
		if err != nil {
			var usage *corastream.UsageError
			if !errors.As(err, &usage) {
				t.Fatalf("not a usage error: %v", err)
			}
			return
		}
		for _, text := range []string{"aab ab\n", "é<s>a\xff", strings.Repeat("ab", 100)} {
			for _, ids := range [][]int32{tok.Encode(text), tok.EncodeNext(text), tok.EncodeSpecial(text)} {
				for _, id := range ids {
					if id < 0 || int(id) >= tok.Size() {
						t.Fatalf("id %d of %d", id, tok.Size())
					}
				}
				tok.Decode(ids)
			}
		}
	})
}

// One Tokenizer serves many goroutines; each gets what one alone gets.
func TestManyGoroutinesShareOneTokenizer(t *testing.T) {
	tok := tiny(t, "qwen2")
	texts := []string{"the man's 1999", strings.Repeat("aa the ", 500), "é\n\n", "inthe19"}
	var want [][]int32
	for _, text := range texts {
		want = append(want, tok.Encode(text))
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				if k := (g + i) % len(texts); !slices.Equal(tok.Encode(texts[k]), want[k]) {
					t.Errorf("%q differs", texts[k])
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkEncodeTitle(b *testing.B) {
	tok, err := New(openModel(b))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		tok.Encode("Movie: Captain Marrow and the Clockwork Whale (1999)\n#Answer:")
	}
}

// Runs of white space that are tokens of the user's are cut out before anything merges, the longest first; other tokens of the
// user's only where the text is trusted. The ids are llama.cpp's for this vocabulary (but for the tag, which it takes anywhere).
func TestSentencePieceCutsOutWhiteSpaceTokens(t *testing.T) {
	p := readPieces(t)
	n := int32(len(p.Tokens))
	for _, text := range []string{"\n", "\n\n", "  ", "\t", "<b>"} {
		p.Tokens, p.Scores, p.Types = append(p.Tokens, text), append(p.Scores, -1000), append(p.Types, kindUser)
	}
	newline, two, spaces, tab, tag := n, n+1, n+2, n+3, n+4
	keys := p.keys()
	keys["add_space_prefix"] = false
	tok, err := New(vocabularyFile(t, keys))
	if err != nil {
		t.Fatal(err)
	}
	plain := func(text string) []int32 {
		ids := tok.Encode(text)
		if len(ids) == 0 || slices.Max(ids) >= n {
			t.Fatalf("%q gives %d", text, ids)
		}
		return ids
	}
	film, answer := plain("Movie:"), plain("#Answer:")
	for text, want := range map[string][]int32{
		"Movie:\n#Answer:":       slices.Concat(film, []int32{newline}, answer),
		"Movie:\n\n\n\t#Answer:": slices.Concat(film, []int32{two, newline, tab}, answer),
		"   #Answer:":            slices.Concat([]int32{spaces}, plain(" #Answer:")),
		"\n":                     {newline},
	} {
		if got := tok.Encode(text); !slices.Equal(got, want) {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
		if got := tok.Decode(want); got != text {
			t.Errorf("%q decodes to %q", text, got)
		}
	}
	if got := tok.Encode("<b>Movie:"); slices.Contains(got, tag) {
		t.Errorf("untrusted text gives %d", got)
	}
	if got := tok.EncodeSpecial("<b>Movie:"); !slices.Equal(got, slices.Concat([]int32{tag}, film)) {
		t.Errorf("trusted text gives %d", got)
	}
	keys["add_space_prefix"] = true // after such a token a text begins anew
	if tok, err = New(vocabularyFile(t, keys)); err != nil {
		t.Fatal(err)
	}
	if got, want := tok.Encode("Movie:\n#Answer:"), slices.Concat(tok.Encode("Movie:"), []int32{newline}, tok.Encode("#Answer:")); !slices.Equal(got, want) {
		t.Errorf("with a space prefix: %d, want %d", got, want)
	}
}
