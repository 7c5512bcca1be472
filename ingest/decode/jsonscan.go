package decode

import (
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// The scanner splits JSON that json.Valid has accepted into raw values, so that it needs no checks, no recursion and no
// allocation of its own. Numbers keep their text: an id of 17 digits is not rounded.

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// valueEnd returns the index after the value that starts at b[i].
func valueEnd(b []byte, i int) int {
	if i >= len(b) {
		return i
	}
	switch b[i] {
	case '"':
		return stringEnd(b, i)
	case '{', '[':
		return nestEnd(b, i)
	}
	for ; i < len(b); i++ { // a number, true, false or null
		switch b[i] {
		case ',', '}', ']', ' ', '\n', '\t', '\r':
			return i
		}
	}
	return i
}

// nestEnd returns the index after the object or array that starts at b[i].
func nestEnd(b []byte, i int) int {
	for depth := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = stringEnd(b, i) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return i
}

// stringEnd returns the index after the string that starts at b[i].
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return i
}

// members calls f for each member of an object; key is without its quotes, with escapes resolved.
func members(b []byte, f func(key, value []byte)) {
	i := skipSpace(b, 0) + 1
	for {
		i = skipSpace(b, i)
		if i >= len(b) || b[i] == '}' {
			return
		}
		end := stringEnd(b, i)
		key := b[i+1 : end-1]
		if hasEscape(key) {
			s, _ := text(b[i:end])
			key = []byte(s)
		}
		i = skipSpace(b, skipSpace(b, end)+1) // past the colon
		end = valueEnd(b, i)
		f(key, b[i:end])
		if i = skipSpace(b, end); i < len(b) && b[i] == ',' {
			i++
		}
	}
}

// elements calls f for each element of an array until it returns false.
func elements(b []byte, f func(value []byte) bool) {
	i := skipSpace(b, 0) + 1
	for {
		i = skipSpace(b, i)
		if i >= len(b) || b[i] == ']' {
			return
		}
		end := valueEnd(b, i)
		if !f(b[i:end]) {
			return
		}
		if i = skipSpace(b, end); i < len(b) && b[i] == ',' {
			i++
		}
	}
}

func hasEscape(b []byte) bool {
	for _, c := range b {
		if c == '\\' {
			return true
		}
	}
	return false
}

// text is the value of a JSON string; ok is false for any other value and for bytes that are not UTF-8.
func text(raw []byte) (s string, ok bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	if !utf8.Valid(raw) {
		return "", false
	}
	if in := raw[1 : len(raw)-1]; !hasEscape(in) {
		return string(in), true
	}
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// number is the value of a JSON number, or of a string that holds one; NaN and Inf come as such.
func number(raw []byte) (float64, bool) {
	s := string(raw)
	if len(raw) > 0 && raw[0] == '"' {
		var ok bool
		if s, ok = text(raw); !ok {
			return 0, false
		}
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil && !isRange(err) {
		return 0, false
	}
	return v, true
}

// isRange: 1e999 parses to Inf, which is refused as what it is.
func isRange(err error) bool {
	e, ok := err.(*strconv.NumError)
	return ok && e.Err == strconv.ErrRange
}

func isNull(raw []byte) bool { return string(raw) == "null" }

// integer says whether a raw JSON number is written as one.
func integer(raw []byte) bool {
	if len(raw) > 0 && raw[0] == '-' {
		raw = raw[1:]
	}
	for _, c := range raw {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(raw) > 0
}

// word folds a member's name: case, '_' and '-' do not count, so user_id, userId, UserId and USER-ID are one. It writes
// into buf; names longer than buf are cut, which matches no known name.
func word(buf *[32]byte, key []byte) []byte {
	n := 0
	for _, c := range key {
		if c == '_' || c == '-' {
			continue
		}
		if n == len(buf) {
			break
		}
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		buf[n] = c
		n++
	}
	return buf[:n]
}
