package decode

// traceOf is a trace context of version 00 (W3C Trace Context, 3.2): 00-TRACE-PARENT-FLAGS in lower-case hex, the ids not all zero.
// Anything else is "", as if it were not there: a bad header costs no event.
func traceOf(v []byte) string {
	if len(v) != 55 {
		return ""
	}
	s := string(v)
	if s[:3] != "00-" || s[35] != '-' || s[52] != '-' {
		return ""
	}
	for i := 3; i < len(s); i++ {
		if c := s[i]; i != 35 && i != 52 && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return ""
		}
	}
	if s[3:35] == "00000000000000000000000000000000" || s[36:52] == "0000000000000000" {
		return ""
	}
	return s
}
