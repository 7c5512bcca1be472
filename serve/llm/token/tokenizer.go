package token

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/serve/llm/gguf"
)

// MaxTextBytes bounds the text of one call; what lies beyond (from the last whole character) is not read. A megabyte is
// some 200,000 tokens, more than any model's context holds.
const MaxTextBytes = 1 << 20

// maxVocabulary bounds the number of tokens: ids must fit beside a rank in 64 bits with room to spare.
const maxVocabulary = 1 << 24

// Token types of the key tokenizer.ggml.token_type.
const (
	kindNormal  = 1
	kindUnknown = 2
	kindControl = 3
	kindUser    = 4
	kindByte    = 6
)

// Tokenizer is read-only after New: any number of goroutines may use it.
type Tokenizer struct {
	name    string   // the file, for errors
	texts   []string // as the vocabulary writes them
	pieces  []string // what each token stands for in text
	kinds   []uint8
	byPiece map[string]int32 // tokens that plain text may become
	special map[byte][]int32 // control and user-defined tokens by first byte, longest first
	bos     int32
	eos     int32
	unknown int32
	addBOS  bool
	// spacePrefix: text at the start, or after a special token, is read as if a space came before it (SentencePiece).
	spacePrefix bool
	// encode appends the ids of plain text; first says that the text stands at a start.
	encode  func(ids []int32, text string, first bool) []int32
	mergers sync.Pool
}

// New reads the vocabulary of a model file. The Tokenizer does not keep the file open.
func New(f *gguf.File) (*Tokenizer, error) {
	t := &Tokenizer{name: f.Name(), byPiece: map[string]int32{}, special: map[byte][]int32{}}
	t.mergers.New = func() any { return new(merger) }
	model, err := f.String("tokenizer.ggml.model")
	if err != nil {
		return nil, err
	}
	if err := t.readVocabulary(f); err != nil {
		return nil, err
	}
	addBOS := false
	switch model {
	case "gpt2":
		addBOS, err = t.initBytePair(f)
	case "llama":
		addBOS, err = true, t.initSentencePiece(f)
	default:
		err = t.refuse("tokenizer.ggml.model", "%q is not supported; gpt2 (byte-level BPE) and llama (SentencePiece BPE) are", model)
	}
	if err != nil {
		return nil, err
	}
	if t.addBOS, err = f.Bool("tokenizer.ggml.add_bos_token", addBOS); err != nil {
		return nil, err
	}
	for _, id := range []struct {
		key string
		dst *int32
	}{{"bos", &t.bos}, {"eos", &t.eos}, {"unknown", &t.unknown}} {
		if *id.dst, err = t.id(f, "tokenizer.ggml."+id.key+"_token_id"); err != nil {
			return nil, err
		}
	}
	if t.addBOS && t.bos < 0 {
		return nil, t.refuse("tokenizer.ggml.add_bos_token", "is true, but the key tokenizer.ggml.bos_token_id is missing")
	}
	return t, nil
}

// readVocabulary reads texts and types; it refuses doubles, because ids must be a function of text.
func (t *Tokenizer) readVocabulary(f *gguf.File) (err error) {
	if t.texts, err = f.Strings("tokenizer.ggml.tokens"); err != nil {
		return err
	}
	if len(t.texts) == 0 || len(t.texts) > maxVocabulary {
		return t.refuse("tokenizer.ggml.tokens", "holds %d tokens; 1 to %d are allowed", len(t.texts), maxVocabulary)
	}
	kinds, err := f.Ints("tokenizer.ggml.token_type", slices.Repeat([]int64{kindNormal}, len(t.texts)))
	if err != nil {
		return err
	}
	if len(kinds) != len(t.texts) {
		return t.refuse("tokenizer.ggml.token_type", "has %d entries for %d tokens", len(kinds), len(t.texts))
	}
	t.kinds = make([]uint8, len(kinds))
	for i, k := range kinds {
		if k < 0 || k > kindByte {
			return t.refuse("tokenizer.ggml.token_type", "entry %d is %d; 0 to %d are known", i, k, kindByte)
		}
		t.kinds[i] = uint8(k)
		if text := t.texts[i]; text != "" && (k == kindControl || k == kindUser || k == kindUnknown) {
			t.special[text[0]] = append(t.special[text[0]], int32(i))
		}
	}
	for _, ids := range t.special {
		slices.SortStableFunc(ids, func(a, b int32) int { return len(t.texts[b]) - len(t.texts[a]) })
	}
	return nil
}

// id reads an optional token id; -1 when the key is missing.
func (t *Tokenizer) id(f *gguf.File, key string) (int32, error) {
	if !f.HasKey(key) {
		return -1, nil
	}
	id, err := f.Uint(key)
	if err != nil {
		return -1, err
	}
	if id >= uint64(len(t.texts)) {
		return -1, t.refuse(key, "is %d, but there are %d tokens", id, len(t.texts))
	}
	return int32(id), nil
}

func (t *Tokenizer) refuse(key, format string, args ...any) error {
	return corastream.Usagef(fmt.Sprintf("%s: metadata key %q", t.name, key), "convert the model again with a current converter", format, args...)
}

// Encode returns the ids of text. Nothing in it is taken for a control, unknown or user-defined token, but for tokens of white space
// alone in a SentencePiece vocabulary, so it may be untrusted. No BOS is added: that is the caller's, by AddBOS.
func (t *Tokenizer) Encode(text string) []int32 {
	text = clip(text)
	return t.encode(make([]int32, 0, len(text)/3+2), text, true)
}

// EncodeNext is Encode for text that follows other text in the same prompt: SentencePiece adds no space before it. The ids
// of two parts may differ from those of the whole where a token would span the seam.
func (t *Tokenizer) EncodeNext(text string) []int32 {
	text = clip(text)
	return t.encode(make([]int32, 0, len(text)/3+2), text, false)
}

// EncodeSpecial returns the ids of trusted text in which control and user-defined tokens are written out, such as a chat
// template. Where several fit, the leftmost counts, and of those the longest.
func (t *Tokenizer) EncodeSpecial(text string) []int32 {
	return t.EncodeParts([]Part{{clip(text), true}})
}

// Part is a stretch of a prompt. In Trusted text control and user-defined tokens may be written out; other text is taken as
// it stands, whatever it spells.
type Part struct {
	Text    string
	Trusted bool
}

// EncodeParts returns the ids of parts put one behind the other. Plain text of neighbours is tokenised as one, so that the
// seams between a chat template's words and a message's are split as in the published templates. At most MaxTextBytes of each
// stretch between two control tokens are read.
func (t *Tokenizer) EncodeParts(parts []Part) []int32 {
	var ids []int32
	var plain strings.Builder
	flush := func() {
		if plain.Len() > 0 {
			ids = t.encode(ids, clip(plain.String()), true)
			plain.Reset()
		}
	}
	for _, p := range parts {
		start := 0
		for i := 0; p.Trusted && i < len(p.Text); {
			id := t.specialAt(p.Text[i:])
			if id < 0 {
				i++
				continue
			}
			plain.WriteString(p.Text[start:i])
			flush()
			ids = append(ids, id)
			i += len(t.texts[id])
			start = i
		}
		plain.WriteString(p.Text[start:])
	}
	flush()
	return ids
}

func (t *Tokenizer) specialAt(text string) int32 {
	for _, id := range t.special[text[0]] {
		if strings.HasPrefix(text, t.texts[id]) {
			return id
		}
	}
	return -1
}

// Decode returns the text of ids. Control tokens stand for no text, unknown ones for U+FFFD; ids outside the vocabulary are
// passed over. The space that SentencePiece puts first is taken away again.
func (t *Tokenizer) Decode(ids []int32) string {
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(t.Text(id))
	}
	if t.spacePrefix {
		return strings.TrimPrefix(b.String(), " ")
	}
	return b.String()
}

// Text is what one token adds to a text: its bytes (not always whole characters), nothing for a control token or an id outside
// the vocabulary, U+FFFD for an unknown one.
func (t *Tokenizer) Text(id int32) string {
	switch {
	case id < 0 || int(id) >= len(t.pieces) || t.kinds[id] == kindControl:
		return ""
	case t.kinds[id] == kindUnknown:
		return string(utf8.RuneError)
	}
	return t.pieces[id]
}

// SpacePrefix says that text at a start is read with a space before it, so that the first token of an answer may carry one.
func (t *Tokenizer) SpacePrefix() bool { return t.spacePrefix }

// Special finds the control or user-defined token that is written so.
func (t *Tokenizer) Special(text string) (int32, bool) {
	if text == "" {
		return -1, false
	}
	id := t.specialAt(text)
	return id, id >= 0 && t.texts[id] == text
}

// Piece is what one token stands for: its bytes (not always whole characters), or a special token's name. "" when there is no such id.
func (t *Tokenizer) Piece(id int32) string {
	if id < 0 || int(id) >= len(t.pieces) {
		return ""
	}
	return t.pieces[id]
}

// ID finds the token that stands for exactly this text, such as " Yes". Special tokens are not found.
func (t *Tokenizer) ID(piece string) (int32, bool) {
	id, ok := t.byPiece[piece]
	return id, ok
}

// Size is the number of tokens.
func (t *Tokenizer) Size() int { return len(t.texts) }

// BOS is the id that begins a text; -1 when the model has none.
func (t *Tokenizer) BOS() int32 { return t.bos }

// EOS is the id that ends a text; -1 when the model has none.
func (t *Tokenizer) EOS() int32 { return t.eos }

// AddBOS says whether the model wants BOS before a prompt.
func (t *Tokenizer) AddBOS() bool { return t.addBOS }

// clip cuts text to MaxTextBytes at a character's start.
func clip(text string) string {
	if len(text) <= MaxTextBytes {
		return text
	}
	n := MaxTextBytes
	for n > MaxTextBytes-utf8.UTFMax && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}
