package llm

import (
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/serve/llm/token"
)

// tokens is a prompt as the model reads it. Tokens [title, titleEnd) are the candidate's title and what the template puts
// behind it before the answer mark; [title, len) is what `adapt: suffix` adapts.
type tokens struct {
	ids             []int32
	title, titleEnd int
	key             entryKey // of an item prompt
}

// prompter turns prompts into tokens. Each piece of text is tokenised by itself, so that a title can not change how the
// template's words are split, what prompts share is shared, and a cap on a title's tokens is exact.
type prompter struct {
	tok           *token.Tokenizer
	item, history form
	cap, context  int
	fixed         map[string][]int32 // the template's own texts after the first
	fields        []string           // that the item form names

	mu   sync.RWMutex
	made map[string]tokens // item prompts, by title and fields
}

// maxMade bounds how many item prompts are kept as tokens; then all are forgotten.
const maxMade = 1 << 15

func newPrompter(o Options, tok *token.Tokenizer) (*prompter, error) {
	p := &prompter{tok: tok, cap: o.TitleTokens, context: o.ContextTokens, fixed: map[string][]int32{}, made: map[string]tokens{}}
	var err error
	if p.item, err = parseForm("llm.template.item", o.Template.Item, false); err != nil {
		return nil, err
	}
	if p.history, err = parseForm("llm.template.history", o.Template.History, true); err != nil {
		return nil, err
	}
	for _, q := range p.item.parts {
		for _, q := range slices.Concat(q.group, []part{q}) {
			if q.name != "" && q.name != "title" {
				p.fields = append(p.fields, q.name)
			}
		}
	}
	for _, f := range []form{p.item, p.history} {
		for _, q := range f.parts {
			if q.text != "" {
				p.fixed[q.text] = tok.EncodeNext(q.text)
			}
		}
	}
	return p, nil
}

// render makes a prompt's tokens; those of item prompts are remembered.
func (p *prompter) render(q corastream.Prompt) (tokens, error) {
	if len(q.History) > 0 {
		return p.make(p.history, q)
	}
	var buf [256]byte
	b := appendText(buf[:0], q.Title)
	for _, f := range p.fields {
		b = appendText(b, q.Fields[f])
	}
	p.mu.RLock()
	t, ok := p.made[string(b)]
	p.mu.RUnlock()
	if ok {
		return t, nil
	}
	t, err := p.make(p.item, q)
	if err != nil || len(b) > 1<<12 {
		return t, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.made) >= maxMade {
		clear(p.made)
	}
	p.made[string(b)] = t
	return t, nil
}

// appendText appends a text behind its length, so that no two lists of texts give the same bytes.
func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// make fills a form; the oldest history titles are left out until it fits the context.
func (p *prompter) make(f form, q corastream.Prompt) (tokens, error) {
	history := q.History
	for {
		t := p.fill(f, q, history)
		if len(t.ids) <= p.context {
			t.key = keyOf(t)
			return t, nil
		}
		if len(history) <= 1 {
			return t, corastream.Usagef("llm.context_tokens", "raise it, or shorten the template", "the prompt of item %q has %d tokens, the limit is %d",
				q.ItemID, len(t.ids), p.context)
		}
		history = history[1:]
	}
}

func (p *prompter) fill(f form, q corastream.Prompt, history []string) tokens {
	var t tokens
	if p.tok.AddBOS() {
		t.ids = append(t.ids, p.tok.BOS())
	}
	for i, part := range f.parts {
		switch {
		case part.text != "" && i == 0:
			t.ids = append(t.ids, p.tok.Encode(part.text)...)
		case part.text != "":
			t.ids = append(t.ids, p.fixed[part.text]...)
		case part.name == "title":
			t.title = len(t.ids)
			t.ids = p.value(t.ids, lead(part.lead), p.clean(q.Title, f.mark), "")
		case part.name == "history":
			sep := lead(part.lead)
			for _, title := range history {
				if title = p.clean(title, f.mark); title != "" {
					t.ids = p.value(t.ids, sep+`"`, title, `"`)
					sep = ", "
				}
			}
		case part.name != "":
			t.ids = p.value(t.ids, lead(part.lead), p.clean(q.Fields[part.name], f.mark), "")
		default:
			if text, ok := p.group(part.group, q, f.mark); ok {
				t.ids = p.value(t.ids, "", text, "")
			}
		}
		if i < len(f.parts)-1 {
			t.titleEnd = len(t.ids)
		}
	}
	return t
}

// group is the text of an optional group, unless a field in it is empty.
func (p *prompter) group(parts []part, q corastream.Prompt, mark string) (string, bool) {
	var b strings.Builder
	for _, part := range parts {
		if part.text != "" {
			b.WriteString(part.text)
			continue
		}
		v := p.clean(q.Fields[part.name], mark)
		if v == "" {
			return "", false
		}
		b.WriteString(lead(part.lead) + v)
	}
	return b.String(), true
}

// value appends a value of at most cap tokens between its delimiters; an empty value appends nothing.
func (p *prompter) value(ids []int32, before, v, after string) []int32 {
	if v == "" {
		return ids
	}
	n := len(ids)
	// Neither call parses special tokens: a title that spells one is plain text.
	encode := p.tok.EncodeNext
	if n == 0 || n == 1 && p.tok.AddBOS() {
		encode = p.tok.Encode
	}
	ids = append(ids, encode(before+v+after)...)
	if len(ids)-n > p.cap {
		ids = append(ids[:n+p.cap], p.tok.EncodeNext(after)...)
	}
	return ids
}

func lead(yes bool) string {
	if yes {
		return " "
	}
	return ""
}

// cutFold removes the first occurrence of mark, in any case.
func cutFold(s, mark string) string {
	n := utf8.RuneCountInString(mark)
	for i := range s {
		end := i
		for k := 0; end < len(s) && k < n; k++ {
			_, size := utf8.DecodeRuneInString(s[end:])
			end += size
		}
		if strings.EqualFold(s[i:end], mark) {
			return s[:i] + s[end:]
		}
	}
	return s
}
