package token

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/corastream/corastream/serve/llm/gguf"
)

// byteRune is the alphabet in which byte-level BPE writes bytes: printable Latin-1 stands for itself, each other byte, in
// order, for the next code point from U+0100. runeByte is its inverse, -1 where there is none.
var byteRune, runeByte = alphabet()

func alphabet() (forth [256]rune, back [0x144]int16) {
	for r := range back {
		back[r] = -1
	}
	next := rune(0x100)
	for b := range forth {
		r := rune(b)
		if !(r >= '!' && r <= '~' || r >= 0xa1 && r <= 0xac || r >= 0xae) {
			r = next
			next++
		}
		forth[b], back[r] = r, int16(b)
	}
	return forth, back
}

// bytesOf reads a token's text in that alphabet; false when it holds anything else.
func bytesOf(text string) (string, bool) {
	b := make([]byte, 0, 32)
	for _, r := range text {
		if int(r) >= len(runeByte) || runeByte[r] < 0 {
			return "", false
		}
		b = append(b, byte(runeByte[r]))
	}
	return string(b), true
}

// bytePair is byte-level BPE: text is split by the pre-tokenizer, each part's bytes are merged by rank.
type bytePair struct {
	t     *Tokenizer
	split stages
	// whole: a part that is a token as it stands is not built by merges (Llama 3).
	whole bool
	nfc   bool
	bytes [256]int32       // token of each single byte; -1: none
	merge map[uint64]merge // by left id <<32 | right id
}

type merge struct {
	rank uint32
	id   int32
}

// initBytePair reads the merges; it returns what add_bos_token is when the key is missing.
func (t *Tokenizer) initBytePair(f *gguf.File) (addBOS bool, err error) {
	name, err := f.String("tokenizer.ggml.pre", "default")
	if err != nil {
		return false, err
	}
	pre, ok := preTokenizers[name]
	if !ok {
		return false, t.refuse("tokenizer.ggml.pre", "%q is not known; known are %s", name, PreTokenizers())
	}
	byText := make(map[string]int32, len(t.texts))
	t.pieces = make([]string, len(t.texts))
	for i, text := range t.texts {
		if _, double := byText[text]; double && text != "" {
			return false, t.refuse("tokenizer.ggml.tokens", "token %d, %q, is a double", i, text)
		}
		byText[text] = int32(i)
		t.pieces[i] = text
		if k := t.kinds[i]; k == kindControl || k == kindUnknown || k == kindUser {
			continue
		}
		if b, ok := bytesOf(text); ok {
			t.pieces[i] = b
			t.byPiece[b] = int32(i)
		}
	}
	delete(t.byPiece, "")
	merges, err := f.Strings("tokenizer.ggml.merges")
	if err != nil {
		return false, err
	}
	b := &bytePair{t: t, split: pre.split, whole: pre.whole, nfc: pre.nfc, merge: make(map[uint64]merge, len(merges))}
	for rank, line := range merges {
		if err := b.addMerge(byText, rank, line); err != nil {
			return false, err
		}
	}
	for c := range b.bytes {
		b.bytes[c] = -1
		if id, ok := t.byPiece[string([]byte{byte(c)})]; ok {
			b.bytes[c] = id
		}
	}
	t.encode = b.encode
	return pre.addBOS, nil
}

// addMerge reads one line, "left right"; of doubles the first counts.
func (b *bytePair) addMerge(byText map[string]int32, rank int, line string) error {
	cut := -1
	if len(line) > 1 {
		cut = strings.IndexByte(line[1:], ' ') + 1
	}
	if cut < 1 {
		return b.t.refuse("tokenizer.ggml.merges", "line %d, %q, is not two tokens with a space between", rank, line)
	}
	left, right := line[:cut], line[cut+1:]
	l, ok1 := byText[left]
	r, ok2 := byText[right]
	m, ok3 := byText[left+right]
	if !ok1 || !ok2 || !ok3 || right == "" {
		return b.t.refuse("tokenizer.ggml.merges", "line %d, %q, names or makes a token that is not in the vocabulary", rank, line)
	}
	for _, id := range []int32{l, r, m} {
		if k := b.t.kinds[id]; k == kindControl || k == kindUnknown || k == kindUser {
			return b.t.refuse("tokenizer.ggml.merges", "line %d, %q, makes special token %q out of plain text", rank, line, b.t.texts[id])
		}
	}
	if key := pairKey(l, r); b.merge[key] == (merge{}) {
		b.merge[key] = merge{uint32(rank), m}
	}
	return nil
}

func pairKey(l, r int32) uint64 { return uint64(l)<<32 | uint64(r) }

func (b *bytePair) encode(ids []int32, text string, _ bool) []int32 {
	if !utf8.ValidString(text) {
		text = string([]rune(text)) // U+FFFD for each bad byte
	}
	if b.nfc {
		text = norm.NFC.String(text)
	}
	m := b.t.mergers.Get().(*merger)
	defer b.t.mergers.Put(m)
	b.split.each(text, func(part string) { ids = b.part(m, ids, part) })
	return ids
}

// part appends the ids of one pre-tokenized part. A byte that is no token blocks merges around it and yields no id, as in
// the reference implementations; such vocabularies lack only bytes that UTF-8 never uses or control characters.
func (b *bytePair) part(m *merger, ids []int32, part string) []int32 {
	if b.whole || len(part) == 1 {
		if id, ok := b.t.byPiece[part]; ok {
			return append(ids, id)
		}
	}
	m.reset()
	for i := range len(part) {
		m.add(b.bytes[part[i]], i, i+1)
	}
	m.run(func(x, y *symbol) (uint32, int32) {
		if x.id < 0 || y.id < 0 {
			return 0, -1
		}
		if g, ok := b.merge[pairKey(x.id, y.id)]; ok {
			return g.rank, g.id
		}
		return 0, -1
	})
	for i := int32(0); i >= 0 && int(i) < len(m.symbols); i = m.symbols[i].next {
		if id := m.symbols[i].id; id >= 0 {
			ids = append(ids, id)
		}
	}
	return ids
}
