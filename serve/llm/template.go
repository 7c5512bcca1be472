package llm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/corastream/corastream"
)

// Template is the text around titles. {title} is the candidate's, {history} the liked titles, any other {name} a plain
// field of the item; [ ... ] is left out when a field inside it is empty; {{ }} [[ ]] stand for themselves. The text
// after the last newline is the answer mark: the next token is " Yes" or " No".
type Template struct {
	// Item is for prompts without history: the user comes in through W_A alone. Default "Movie: {title}\n#Answer:".
	Item string `yaml:"item"`
	// History is for prompts with history (the paper's form, the fixed text first so that its K/V are shared).
	History string `yaml:"history"`
}

// DefaultTemplate is about films; another catalogue needs other words.
func DefaultTemplate() Template {
	return Template{
		Item: "Movie: {title}\n#Answer:",
		History: "#Question: A user has given high ratings to some movies. Leverage the information to predict whether " +
			"the user would enjoy another movie. Answer with \"Yes\" or \"No\".\nLiked: {history}\nMovie: {title}\n#Answer:",
	}
}

// Validate reports problems of both forms at once.
func (t Template) Validate() error {
	_, err1 := parseForm("llm.template.item", t.Item, false)
	_, err2 := parseForm("llm.template.history", t.History, true)
	return errors.Join(err1, err2)
}

// Digest names the prompts that this template makes, with the cap on titles.
func (t Template) digest(titleTokens int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "prompt 1 %q %q %d", t.Item, t.History, titleTokens))
	return fmt.Sprintf("%x", sum[:16])
}

// part is fixed text, a placeholder, or an optional group.
type part struct {
	text  string // fixed text
	name  string // placeholder
	group []part // optional group
	lead  bool   // a space belongs before the value: tokenizers join it to the word that follows
}

// form is a parsed template.
type form struct {
	parts []part
	mark  string // the answer mark, defused in every value
}

func parseForm(key, text string, history bool) (form, error) {
	bad := func(fix, what string, args ...any) (form, error) {
		return form{}, corastream.Usagef(key, fix, what, args...)
	}
	if len(text) > 1<<16 {
		return bad("shorten it", "template of %d bytes is too long", len(text))
	}
	parts, rest, err := parseParts(text, false)
	if err != nil || rest != "" {
		return bad("write {{ }} [[ ]] for brackets meant as text", "unbalanced bracket near %q", clip(rest, 20))
	}
	var order []string
	for _, p := range parts {
		for _, q := range p.group {
			if q.name == "title" || q.name == "history" {
				return bad("move it out of the brackets", "{%s} in an optional group", q.name)
			}
		}
		if p.name == "title" || p.name == "history" {
			order = append(order, p.name)
		}
	}
	want := []string{"title"}
	if history {
		want = []string{"history", "title"}
	}
	if strings.Join(order, " ") != strings.Join(want, " ") {
		return bad("use each of {"+strings.Join(want, "}, {")+"} once, in this order", "placeholders are %q", order)
	}
	last := parts[len(parts)-1].text
	mark := strings.TrimSpace(last[strings.LastIndexByte(last, '\n')+1:])
	if mark == "" || strings.TrimRight(last, " \t\n") != last {
		return bad(`end it with an answer mark such as \n#Answer:`, "no answer mark after the last placeholder")
	}
	return form{parts: parts, mark: strings.ToLower(mark)}, nil
}

// parseParts reads up to the end, or up to the ] of an optional group.
func parseParts(s string, inGroup bool) (parts []part, rest string, err error) {
	var text strings.Builder
	flush := func(lead bool) bool {
		t := text.String()
		text.Reset()
		moved := lead && strings.HasSuffix(t, " ")
		if moved {
			t = t[:len(t)-1]
		}
		if t != "" {
			parts = append(parts, part{text: t})
		}
		return moved
	}
	for s != "" {
		c := s[0]
		if len(s) > 1 && s[1] == c && strings.IndexByte("{}[]", c) >= 0 {
			text.WriteByte(c)
			s = s[2:]
			continue
		}
		switch c {
		case '{':
			end := strings.IndexByte(s, '}')
			if end < 2 || strings.ContainsAny(s[1:end], "{[] \n") {
				return nil, s, errors.New("unbalanced")
			}
			lead := flush(true)
			parts = append(parts, part{name: s[1:end], lead: lead})
			s = s[end+1:]
		case '[':
			if inGroup {
				return nil, s, errors.New("nested")
			}
			flush(false)
			group, after, err := parseParts(s[1:], true)
			if err != nil || !strings.HasPrefix(after, "]") {
				return nil, s, errors.New("unbalanced")
			}
			parts = append(parts, part{group: group})
			s = after[1:]
		case ']':
			if !inGroup {
				return nil, s, errors.New("unbalanced")
			}
			flush(false)
			return parts, s, nil
		case '}':
			return nil, s, errors.New("unbalanced")
		default:
			text.WriteByte(c)
			s = s[1:]
		}
	}
	flush(false)
	if inGroup {
		return nil, s, errors.New("unbalanced")
	}
	return parts, "", nil
}

func clip(s string, n int) string { return s[:min(n, len(s))] }
