package token

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A stage cuts text into parts that merges do not cross; emit gets them in order and together they are the text. Stages are
// scanners, not regular expressions: Go's have no look-ahead, and a scanner's time is linear by construction. The comment
// of each gives the expression that it equals.
type stage func(text string, emit func(part string))

// stages run one after another, each on the parts of the one before.
type stages []stage

func (s stages) each(text string, emit func(string)) {
	if len(s) == 0 {
		if text != "" {
			emit(text)
		}
		return
	}
	s[0](text, func(part string) { s[1:].each(part, emit) })
}

// preTokenizer is what a name in tokenizer.ggml.pre stands for.
type preTokenizer struct {
	split  stages
	whole  bool // a part that is a token is not built by merges
	addBOS bool // unless tokenizer.ggml.add_bos_token says otherwise
	// nfc: text is put into Unicode's normal form C first. No key of the format says so; it is known of the published tokenizer.
	nfc bool
}

// preTokenizers holds those that were compared with llama.cpp, name by name.
var preTokenizers = func() map[string]preTokenizer {
	table := map[string]preTokenizer{}
	add := func(p preTokenizer, names ...string) {
		for _, name := range names {
			table[name] = p
		}
	}
	add(preTokenizer{split: stages{isolate(isDefaultPunctuation, 0), gpt2, isolate(unicode.IsNumber, 0), triples}}, "default")
	add(preTokenizer{split: stages{gpt2}}, "gpt-2", "phi-2", "mpt", "olmo", "gigachat", "a.x-4.0", "mellum", "exaone4")
	add(preTokenizer{split: stages{isolate(unicode.IsNumber, 1), gpt2}}, "smollm", "starcoder", "refact", "command-r", "codeshell",
		"exaone", "minerva-7b")
	add(preTokenizer{split: stages{words(3)}, whole: true, addBOS: true}, "llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral",
		"midm-2.0", "lfm2")
	add(preTokenizer{split: stages{words(3)}}, "dbrx", "smaug-bpe")
	add(preTokenizer{split: stages{tekken}, whole: true, addBOS: true}, "tekken")
	add(preTokenizer{split: stages{words(1)}, nfc: true}, "qwen2")
	add(preTokenizer{split: stages{words(1)}}, "deepseek-r1-qwen", "stablelm2", "megrez")
	return table
}()

// PreTokenizers lists the values of tokenizer.ggml.pre that can be read.
func PreTokenizers() string {
	var names []string
	for name := range preTokenizers {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// class is what the scanners want to know of a character.
type class uint8

const (
	none class = iota // the end of the text
	letter
	number
	white
	other
)

var asciiClass = func() (table [utf8.RuneSelf]class) {
	for r := range rune(utf8.RuneSelf) {
		table[r] = classOf(r)
	}
	return table
}()

func classOf(r rune) class {
	switch {
	case unicode.IsLetter(r):
		return letter
	case unicode.IsNumber(r):
		return number
	case unicode.Is(unicode.White_Space, r):
		return white
	}
	return other
}

// at classifies the character at text[i] and gives its length; none and 0 at the end.
func at(text string, i int) (class, int) {
	if i >= len(text) {
		return none, 0
	}
	if c := text[i]; c < utf8.RuneSelf {
		return asciiClass[c], 1
	}
	r, n := utf8.DecodeRuneInString(text[i:])
	return classOf(r), n
}

// run returns where the run of class c from i ends, after limit characters at most (0: no limit).
func run(text string, i int, c class, limit int) int {
	for count := 0; limit == 0 || count < limit; count++ {
		k, n := at(text, i)
		if k != c {
			break
		}
		i += n
	}
	return i
}

// blanks returns the end of the white space from 0, less its last character when something follows and more than one is
// there: \s+(?!\S)|\s+
func blanks(text string) int {
	end, last := 0, 0
	for {
		k, n := at(text, end)
		if k == white {
			end, last = end+n, end
			continue
		}
		if k != none && last > 0 {
			return last
		}
		return end
	}
}

func cut(text string, emit func(string), next func(string) int) {
	for text != "" {
		n := next(text)
		emit(text[:n])
		text = text[n:]
	}
}

// gpt2 is 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
func gpt2(text string, emit func(string)) {
	cut(text, emit, func(s string) int {
		if n := contraction(s, false); n > 0 {
			return n
		}
		i := 0
		if s[0] == ' ' {
			i = 1
		}
		if c, _ := at(s, i); c == letter || c == number || c == other {
			return run(s, i, c, 0)
		}
		return blanks(s)
	})
}

// words is (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
func words(digits int) stage {
	next := func(s string) int {
		if n := contraction(s, true); n > 0 {
			return n
		}
		c, n := at(s, 0)
		if c == letter {
			return run(s, n, letter, 0)
		}
		if c == number {
			return run(s, 0, number, digits)
		}
		if c2, _ := at(s, n); c2 == letter && s[0] != '\r' && s[0] != '\n' {
			return run(s, n, letter, 0)
		}
		return signs(s, "\r\n")
	}
	return func(text string, emit func(string)) { cut(text, emit, next) }
}

// signs is  ?[^\s\p{L}\p{N}]+[tail]*|\s*[\r\n]+|\s+(?!\S)|\s+
func signs(s, tail string) int {
	i := 0
	if s[0] == ' ' {
		i = 1
	}
	if c, _ := at(s, i); c == other {
		i = run(s, i, other, 0)
		for i < len(s) && strings.IndexByte(tail, s[i]) >= 0 {
			i++
		}
		return i
	}
	if i := strings.LastIndexAny(s[:run(s, 0, white, 0)], "\r\n"); i >= 0 {
		return i + 1
	}
	return blanks(s)
}

// contraction is the length of an English contraction's end at the start of s, or 0.
func contraction(s string, anyCase bool) int {
	if s[0] != '\'' {
		return 0
	}
	for _, end := range []string{"s", "t", "m", "d", "re", "ve", "ll"} {
		if n := 1 + len(end); len(s) >= n && (s[1:n] == end || anyCase && lower(s[1:n]) == end) {
			return n
		}
	}
	return 0
}

// lower is for ASCII alone: strings.ToLower would make "k" of the Kelvin sign, which the reference does not.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

func isDefaultPunctuation(r rune) bool {
	return unicode.IsPunct(r) || r < utf8.RuneSelf && strings.ContainsRune("$+<=>^~|", r)
}

// isolate cuts out runs of matching characters, of limit each at most (0: no limit).
func isolate(match func(rune) bool, limit int) stage {
	return func(text string, emit func(string)) {
		start, count, in := 0, 0, false
		for i, r := range text {
			if is := match(r); is != in || is && count == limit && limit > 0 {
				if i > start {
					emit(text[start:i])
				}
				start, count, in = i, 0, is
			}
			count++
		}
		if start < len(text) {
			emit(text[start:])
		}
	}
}

// triples cuts out each three ASCII digits in a row: [0-9][0-9][0-9]
func triples(text string, emit func(string)) {
	start, digits := 0, 0
	for i := range len(text) {
		if c := text[i]; c < '0' || c > '9' {
			digits = 0
			continue
		}
		if digits++; digits == 3 {
			if i-2 > start {
				emit(text[start : i-2])
			}
			emit(text[i-2 : i+1])
			start, digits = i+1, 0
		}
	}
	if start < len(text) {
		emit(text[start:])
	}
}
