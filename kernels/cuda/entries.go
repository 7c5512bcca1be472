package cuda

import "strings"

// entries lists the kernels of a PTX text.
func entries(ptx string) []string {
	const mark = ".visible .entry "
	var out []string
	for rest := ptx; ; {
		i := strings.Index(rest, mark)
		if i < 0 {
			return out
		}
		rest = rest[i+len(mark):]
		if end := strings.IndexByte(rest, '('); end > 0 {
			out = append(out, rest[:end])
		}
	}
}
