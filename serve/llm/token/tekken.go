package token

import (
	"unicode"
	"unicode/utf8"
)

// letterCase is what Mistral's Tekken vocabulary splits words by.
type letterCase uint8

const (
	noLetter  letterCase = iota
	upper                // \p{Lu}\p{Lt}
	lowercase            // \p{Ll}
	caseless             // \p{Lm}\p{Lo}\p{M}: they stand beside both
)

func caseOf(text string, i int) (letterCase, int) {
	if i >= len(text) {
		return noLetter, 0
	}
	r, n := utf8.DecodeRuneInString(text[i:])
	switch {
	case unicode.In(r, unicode.Lu, unicode.Lt):
		return upper, n
	case unicode.Is(unicode.Ll, r):
		return lowercase, n
	case unicode.In(r, unicode.Lm, unicode.Lo, unicode.M):
		return caseless, n
	}
	return noLetter, n
}

// caseRun returns where the run from i of characters without case and of the given one ends, and where its last character without
// case begins; -1 without one.
func caseRun(text string, i int, with letterCase) (end, last int) {
	for last = -1; ; {
		c, n := caseOf(text, i)
		if c != with && c != caseless {
			return i, last
		}
		if c == caseless {
			last = i
		}
		i += n
	}
}

// tekken is [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*
// |\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+, which the published tokenizers write. llama.cpp takes letters
// beyond ASCII for both cases and marks for none.
func tekken(text string, emit func(string)) {
	cut(text, emit, func(s string) int {
		c, n := at(s, 0)
		if c == number {
			return n
		}
		starts := []int{0}
		if c != letter && s[0] != '\r' && s[0] != '\n' {
			starts = []int{n, 0}
		}
		for _, i := range starts { // upper case, if any, then lower case
			up, last := caseRun(s, i, upper)
			if down, _ := caseRun(s, up, lowercase); down > up {
				return down
			}
			if last >= 0 {
				down, _ := caseRun(s, last, lowercase)
				return down
			}
		}
		for _, i := range starts { // upper case alone
			if up, _ := caseRun(s, i, upper); up > i {
				return up
			}
		}
		return signs(s, "\r\n/")
	})
}
