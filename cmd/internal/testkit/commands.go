package testkit

import "strings"

// CommandLines finds what begins with corastream: continued lines joined, comments and the rest of a pipe left out.
func CommandLines(text string) (out []string) {
	for _, line := range strings.Split(strings.ReplaceAll(text, "\\\n", " "), "\n") {
		line, _, _ = strings.Cut(line, "#")
		for _, part := range strings.Split(line, "|") {
			part, _, _ = strings.Cut(part, " > ") // what the shell does with it is not ours
			part = strings.TrimSuffix(strings.TrimPrefix(strings.Join(strings.Fields(part), " "), "bin/"), " &")
			if strings.HasPrefix(part, "corastream ") {
				out = append(out, part)
			}
		}
	}
	return out
}
