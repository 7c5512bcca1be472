package token

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/corastream/corastream/serve/llm/gguf"
)

// space is how SentencePiece writes a space, U+2581.
const space = "\u2581"

// sentencePiece is BPE by score: of all neighbours that make a token, those with the highest score merge first. What is no
// token falls back to byte tokens, or to the unknown token where the vocabulary has none.
type sentencePiece struct {
	t      *Tokenizer
	keys   []uint32 // by id: order of merging, lower first
	bytes  [256]int32
	maxLen int // bytes of the longest token
	// white are user-defined tokens of white space alone, by first byte, longest first: Gemma writes runs of newlines, tabs and spaces
	// so. They are cut out of any text before it is merged; other user-defined tokens only out of trusted text.
	white  map[byte][]int32
	pieces map[string]int32
}

func (t *Tokenizer) initSentencePiece(f *gguf.File) error {
	scores, err := f.Floats("tokenizer.ggml.scores")
	if err != nil {
		return err
	}
	if len(scores) != len(t.texts) {
		return t.refuse("tokenizer.ggml.scores", "has %d entries for %d tokens", len(scores), len(t.texts))
	}
	if t.spacePrefix, err = f.Bool("tokenizer.ggml.add_space_prefix", true); err != nil {
		return err
	}
	s := &sentencePiece{t: t, keys: make([]uint32, len(scores)), pieces: make(map[string]int32, len(scores))}
	for c := range s.bytes {
		s.bytes[c] = -1
	}
	t.pieces = make([]string, len(t.texts))
	for i, text := range t.texts {
		if scores[i] != scores[i] {
			return t.refuse("tokenizer.ggml.scores", "entry %d is not a number", i)
		}
		s.keys[i] = descending(scores[i])
		t.pieces[i] = text
		switch k := t.kinds[i]; {
		case k == kindControl || k == kindUnknown || k == kindUser || text == "":
		case k == kindByte:
			c, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(text, "<0x"), ">"), 16, 8)
			if err != nil || len(text) != 6 {
				return t.refuse("tokenizer.ggml.tokens", "token %d, %q, is of type byte but not like <0x0A>", i, text)
			}
			s.bytes[c] = int32(i)
			t.pieces[i] = string([]byte{byte(c)})
		default:
			if _, double := s.pieces[text]; double {
				return t.refuse("tokenizer.ggml.tokens", "token %d, %q, is a double", i, text)
			}
			s.pieces[text] = int32(i)
			s.maxLen = max(s.maxLen, len(text))
			t.pieces[i] = strings.ReplaceAll(text, space, " ")
			t.byPiece[t.pieces[i]] = int32(i)
		}
	}
	for c, ids := range t.special {
		for _, id := range ids {
			if t.kinds[id] == kindUser && strings.TrimLeft(t.texts[id], " \t\n") == "" {
				if s.white == nil {
					s.white = map[byte][]int32{}
				}
				s.white[c] = append(s.white[c], id)
			}
		}
	}
	t.encode = s.encode
	return nil
}

// descending maps a score to a key that is lower for higher scores.
func descending(score float32) uint32 {
	b := math.Float32bits(score + 0) // -0 becomes 0
	if b>>31 == 0 {
		return ^(b | 1<<31)
	}
	return b
}

// encode cuts out tokens of white space; what follows one is read as at a start.
func (s *sentencePiece) encode(ids []int32, text string, first bool) []int32 {
	start := 0
	for i := 0; i < len(text) && s.white != nil; {
		id := s.whiteAt(text[i:])
		if id < 0 {
			i++
			continue
		}
		ids = append(s.merge(ids, text[start:i], first), id)
		i += len(s.t.texts[id])
		start, first = i, true
	}
	return s.merge(ids, text[start:], first)
}

func (s *sentencePiece) whiteAt(text string) int32 {
	for _, id := range s.white[text[0]] {
		if strings.HasPrefix(text, s.t.texts[id]) {
			return id
		}
	}
	return -1
}

// merge appends the ids of text without such tokens.
func (s *sentencePiece) merge(ids []int32, text string, first bool) []int32 {
	if text == "" {
		return ids
	}
	if first && s.t.spacePrefix {
		text = " " + text
	}
	text = strings.ReplaceAll(text, " ", space)
	m := s.t.mergers.Get().(*merger)
	defer s.t.mergers.Put(m)
	m.reset()
	for i := 0; i < len(text); {
		_, n := utf8.DecodeRuneInString(text[i:])
		m.add(s.find(text[i:i+n]), i, i+n)
		i += n
	}
	m.run(func(x, y *symbol) (uint32, int32) {
		if id := s.find(text[x.start:y.end]); id >= 0 {
			return s.keys[id], id
		}
		return 0, -1
	})
	for i := int32(0); i >= 0; i = m.symbols[i].next {
		if sym := m.symbols[i]; sym.id >= 0 {
			ids = append(ids, sym.id)
		} else {
			ids = s.fallBack(ids, text[sym.start:sym.end])
		}
	}
	return ids
}

// find looks a piece up; a text longer than every token costs nothing, which keeps long inputs linear.
func (s *sentencePiece) find(piece string) int32 {
	if len(piece) > s.maxLen {
		return -1
	}
	if id, ok := s.pieces[piece]; ok {
		return id
	}
	return -1
}

// fallBack appends the byte tokens of a character, or the unknown token when one is missing.
func (s *sentencePiece) fallBack(ids []int32, char string) []int32 {
	n := len(ids)
	for i := range len(char) {
		id := s.bytes[char[i]]
		if id < 0 {
			ids = ids[:n]
			if s.t.unknown >= 0 {
				ids = append(ids, s.t.unknown)
			}
			return ids
		}
		ids = append(ids, id)
	}
	return ids
}
