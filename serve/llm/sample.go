package llm

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/serve/llm/token"
)

// chooser picks the next token of one answer.
type chooser struct {
	tok   *token.Tokenizer
	d     corastream.Dialogue
	rng   *rand.Rand
	said  map[int32]int
	order []int32 // scratch
	probs []float64
}

func newChooser(m *Model, d corastream.Dialogue) (*chooser, error) {
	switch {
	case !(d.Temperature >= 0 && d.Temperature <= 100):
		return nil, corastream.Usagef("temperature", "choose from 0 to 2", "%v is out of range", d.Temperature)
	case !(d.TopP >= 0 && d.TopP <= 1):
		return nil, corastream.Usagef("top_p", "choose from 0 to 1", "%v is out of range", d.TopP)
	}
	for id := range d.Bias {
		if id < 0 || int(id) >= m.arch.vocab {
			return nil, corastream.Usagef("logit_bias", "take it from the model's tokenizer", "token %d; the vocabulary has %d", id, m.arch.vocab)
		}
	}
	return &chooser{tok: m.prompts.tok, d: d, rng: rand.New(rand.NewPCG(d.Seed, 0x436f5241)), said: map[int32]int{}}, nil
}

// next takes the logits of the whole vocabulary.
func (c *chooser) next(logits []float32) (corastream.Spoken, error) {
	sum, top := 0., float64(slices.Max(logits))
	for _, z := range logits {
		sum += math.Exp(float64(z) - top)
	}
	norm := top + math.Log(sum)
	if math.IsNaN(norm) || math.IsInf(norm, 0) {
		return corastream.Spoken{}, fmt.Errorf("llm: the logits are not finite")
	}
	spoken := func(id int32, z float32) corastream.Spoken {
		return corastream.Spoken{ID: id, Text: c.tok.Text(id), Logprob: float32(float64(z) - norm)}
	}
	var likely []corastream.Spoken
	for _, id := range best(logits, c.d.Top, &c.order) {
		likely = append(likely, spoken(id, logits[id]))
	}
	raw := logits
	if len(c.said) > 0 || len(c.d.Bias) > 0 {
		logits = slices.Clone(logits)
	}
	for id, n := range c.said {
		logits[id] -= c.d.Presence + c.d.Frequency*float32(n)
	}
	for id, b := range c.d.Bias {
		logits[id] += b
	}
	id := c.pick(logits)
	if c.d.Frequency != 0 || c.d.Presence != 0 {
		c.said[id]++
	}
	out := spoken(id, raw[id])
	out.Top = likely
	return out, nil
}

// pick draws a token: the best at temperature 0, else from the softmax cut at TopP.
func (c *chooser) pick(logits []float32) int32 {
	top := int32(0)
	for i, z := range logits {
		if z > logits[top] {
			top = int32(i)
		}
	}
	if c.d.Temperature == 0 {
		return top
	}
	c.probs = slices.Grow(c.probs[:0], len(logits))[:len(logits)]
	var sum float64
	for i, z := range logits {
		c.probs[i] = math.Exp((float64(z) - float64(logits[top])) / float64(c.d.Temperature))
		sum += c.probs[i]
	}
	if c.d.TopP == 0 || c.d.TopP == 1 {
		x := c.rng.Float64() * sum
		for i, p := range c.probs {
			if x -= p; x < 0 {
				return int32(i)
			}
		}
		return top // rounding left a remainder
	}
	// Most of the vocabulary is far below the nucleus: sort what is likely, and all only where that is not enough.
	wanted := float64(c.d.TopP) * sum
	for _, least := range []float64{1e-4, 0} {
		c.order = c.order[:0]
		var have float64
		for i, p := range c.probs {
			if p >= least {
				c.order, have = append(c.order, int32(i)), have+p
			}
		}
		if have < wanted && least > 0 {
			continue
		}
		slices.SortFunc(c.order, func(a, b int32) int { return cmp.Or(cmp.Compare(c.probs[b], c.probs[a]), cmp.Compare(a, b)) })
		break
	}
	kept, n := 0., 0
	for kept < wanted && n < len(c.order) {
		kept += c.probs[c.order[n]]
		n++
	}
	x := c.rng.Float64() * kept
	for _, id := range c.order[:n] {
		if x -= c.probs[id]; x < 0 {
			return id
		}
	}
	return c.order[0]
}

// best are the ids of the n highest logits, best first, lower ids before equal ones.
func best(logits []float32, n int, scratch *[]int32) []int32 {
	if n <= 0 {
		return nil
	}
	top := (*scratch)[:0]
	for i, z := range logits {
		if len(top) == n && z <= logits[top[n-1]] {
			continue
		}
		at, _ := slices.BinarySearchFunc(top, z, func(id int32, z float32) int {
			if logits[id] >= z {
				return -1
			}
			return 1
		})
		if len(top) == n {
			top = top[:n-1]
		}
		top = slices.Insert(top, at, int32(i))
	}
	*scratch = top
	return top
}

// utterance hands an answer on in whole characters, and holds back what may become a stop text.
type utterance struct {
	m      *Model
	stop   []string
	each   func(corastream.Piece) error
	start  bool // the next token may carry the space that SentencePiece puts first
	held   string
	tokens []corastream.Spoken
}

// add takes the next token; stopped says that a stop text is complete: what lies before it has been handed on.
func (u *utterance) add(t corastream.Spoken) (stopped bool, err error) {
	text := t.Text
	if u.start && text != "" {
		u.start, text = false, strings.TrimPrefix(text, " ")
	}
	u.held += text
	u.tokens = append(u.tokens, t)
	cut := -1
	for _, s := range u.stop {
		if i := strings.Index(u.held, s); s != "" && i >= 0 && (cut < 0 || i < cut) {
			cut = i
		}
	}
	if cut >= 0 {
		return true, u.send(cut)
	}
	safe := len(u.held)
	for _, s := range u.stop {
		for n := min(len(s)-1, len(u.held)); n > 0; n-- {
			if strings.HasSuffix(u.held, s[:n]) {
				safe = min(safe, len(u.held)-n)
				break
			}
		}
	}
	// A character whose bytes are still to come.
	for back := 1; back <= min(utf8.UTFMax-1, safe); back++ {
		if b := u.held[safe-back]; utf8.RuneStart(b) {
			if !utf8.FullRuneInString(u.held[safe-back : safe]) {
				safe -= back
			}
			break
		}
	}
	if safe == 0 {
		return false, nil
	}
	return false, u.send(safe)
}

// finish hands on all that was held back.
func (u *utterance) finish() error {
	if len(u.tokens) == 0 {
		return nil
	}
	return u.send(len(u.held))
}

// send hands on the first n bytes. Bytes that are no characters become U+FFFD.
func (u *utterance) send(n int) error {
	p := corastream.Piece{Text: strings.ToValidUTF8(u.held[:n], string(utf8.RuneError)), Tokens: u.tokens}
	u.held, u.tokens = u.held[n:], nil
	return u.each(p)
}
