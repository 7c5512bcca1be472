package testkit

// ByteVocabulary has a token for each byte, in GPT-2's spelling, and the answer words.
func ByteVocabulary() []string {
	var out []string
	hidden := rune(0x100)
	for b := range rune(256) {
		if b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae {
			out = append(out, string(b))
		} else {
			out = append(out, string(hidden))
			hidden++
		}
	}
	return append(out, "Ye", "Yes", "\u0120Yes", "No", "\u0120No", "<|bos|>")
}
