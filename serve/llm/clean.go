package llm

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// clean makes a hostile text safe to stand in a prompt: valid UTF-8 on one line, no control, bidi or invisible characters but those that
// its script or an emoji needs, no answer mark, and not longer than its tokens could be.
func (p *prompter) clean(s, mark string) string {
	var b strings.Builder
	space := false
	for i, r := range s {
		switch {
		case unicode.IsSpace(r) || unicode.IsControl(r):
			space = true
			continue
		case r == utf8.RuneError:
			continue
		case invisible(r) && (space || !needed(b.String(), r, s[i+utf8.RuneLen(r):])):
			continue
		}
		if space && b.Len() > 0 {
			b.WriteByte(' ')
		}
		space = false
		b.WriteRune(r)
		if b.Len() >= 64*p.cap {
			break
		}
	}
	s = b.String()
	for {
		cut := cutFold(s, mark)
		if cut == s {
			return strings.TrimSpace(s)
		}
		s = cut
	}
}

// invisible characters can hide text from people or turn its order around.
func invisible(r rune) bool {
	return unicode.In(r, unicode.Cf, unicode.Co, unicode.Cs, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}

const (
	nonJoiner  = '\u200c'
	joiner     = '\u200d'
	textStyle  = '\ufe0e'
	emojiStyle = '\ufe0f'
	keycap     = '\u20e3'
	blackFlag  = '\U0001f3f4'
	tagsEnd    = '\U000e007f'

	// maxMarks is how many marks may stand between a joiner and its letter; more are no spelling, and would cost time.
	maxMarks = 8
)

// joining are the scripts whose spelling uses joiners: in Persian a non-joiner parts the stem from its ending, in Hindi and Malayalam a
// joiner chooses the form of a consonant (Unicode 15, chapters 9, 12 and 13; RFC 5892 appendix A lets them into names for the same reason).
var joining = []*unicode.RangeTable{
	unicode.Arabic, unicode.Syriac, unicode.Mandaic, unicode.Nko, unicode.Mongolian, unicode.Phags_Pa, unicode.Adlam, unicode.Hanifi_Rohingya,
	unicode.Devanagari, unicode.Bengali, unicode.Gurmukhi, unicode.Gujarati, unicode.Oriya, unicode.Tamil, unicode.Telugu, unicode.Kannada,
	unicode.Malayalam, unicode.Sinhala, unicode.Khmer, unicode.Myanmar, unicode.Balinese, unicode.Javanese,
}

// needed says that an invisible character has a visible effect where it stands, between the text before it, cleaned, and the rest after it.
func needed(before string, r rune, rest string) bool {
	last, _ := utf8.DecodeLastRuneInString(before)
	next, _ := utf8.DecodeRuneInString(rest)
	switch r {
	case joiner:
		script := scriptBefore(before)
		return pictureBefore(before) && picture(next) ||
			script != nil && !invisible(last) && (scriptAfter(script, next) || !unicode.IsLetter(next))
	case nonJoiner:
		script := scriptBefore(before)
		return script != nil && !invisible(last) && scriptAfter(script, next)
	case emojiStyle, textStyle:
		return picture(last) || next == keycap && (last >= '0' && last <= '9' || last == '#' || last == '*')
	case '\u180b', '\u180c', '\u180d', '\u180f':
		return unicode.Is(unicode.Mongolian, last) && !invisible(last)
	}
	return r > 0xe0020 && r <= tagsEnd && flagTag(before, rest)
}

// scriptBefore is the joining script of the last letter, whose marks may follow it; nil where text ends otherwise.
func scriptBefore(text string) *unicode.RangeTable {
	for range maxMarks {
		r, n := utf8.DecodeLastRuneInString(text)
		for _, script := range joining {
			if unicode.Is(script, r) && (unicode.IsLetter(r) || unicode.IsMark(r)) {
				return script
			}
		}
		if !unicode.Is(unicode.Inherited, r) || !unicode.Is(unicode.Mn, r) {
			return nil
		}
		text = text[:len(text)-n]
	}
	return nil
}

func scriptAfter(script *unicode.RangeTable, r rune) bool {
	return unicode.Is(script, r) && (unicode.IsLetter(r) || unicode.IsMark(r)) || unicode.Is(unicode.Inherited, r) && unicode.Is(unicode.Mn, r) && !invisible(r)
}

// picture says that a character may be drawn as an emoji: symbols of the blocks that hold them.
func picture(r rune) bool {
	switch {
	case r >= 0x1f000 && r < 0x1fb00, r >= 0x2190 && r < 0x2c00:
		return unicode.In(r, unicode.So, unicode.Sm)
	}
	return strings.ContainsRune("©®‼⁉™ℹ〰〽㊗㊙", r)
}

// pictureBefore says that text ends with an emoji, with its style or skin tone.
func pictureBefore(text string) bool {
	r, n := utf8.DecodeLastRuneInString(text)
	if r == emojiStyle || r >= 0x1f3fb && r <= 0x1f3ff {
		r, _ = utf8.DecodeLastRuneInString(text[:len(text)-n])
	}
	return picture(r)
}

// flagTag says that a tag stands in one of the three flags that are spelt with tags and that systems draw: England, Scotland, Wales. Any other
// tags could hide whole sentences.
func flagTag(before, rest string) bool {
	const flagBytes = 4 * 6 // the flag and at most five tags before this one
	before = before[max(0, len(before)-flagBytes-4):]
	_, inside, found := strings.Cut(before, string(blackFlag))
	if !found {
		return false
	}
	tags := func(flag string) string {
		var b strings.Builder
		for _, c := range flag {
			b.WriteRune(0xe0000 + c)
		}
		return b.String() + string(tagsEnd)
	}
	for _, flag := range []string{"gbeng", "gbsct", "gbwls"} {
		if all := tags(flag); strings.HasPrefix(all, inside) && strings.HasPrefix(rest, all[min(len(all), len(inside)+4):]) {
			return true
		}
	}
	return false
}
