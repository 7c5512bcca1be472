package decode

import "bytes"

// marks say which of the names that tell an envelope or a dialect a record has, at whatever depth. They are looked for at once, and
// before the record is taken apart, since most records have none.
type marks uint8

const (
	markSpec    marks = 1 << iota // specversion: a structured CloudEvent
	markPayload                   // payload: Connect's envelope
	markOp                        // op: Debezium's
	markEvent                     // event: Metarank's
)

func marksOf(v []byte) (m marks) {
	for at := 0; ; at++ {
		i := bytes.IndexByte(v[at:], ':')
		if i < 0 {
			return m
		}
		at += i
		end := at - 1 // of the name, if the colon ends one
		for end > 0 && (v[end] == ' ' || v[end] == '\t' || v[end] == '\n' || v[end] == '\r') {
			end--
		}
		if end < 1 || v[end] != '"' {
			continue
		}
		switch name := v[:end]; name[end-1] {
		case 'n':
			m |= marked(name, `"specversion`, markSpec)
		case 'd':
			m |= marked(name, `"payload`, markPayload)
		case 'p':
			m |= marked(name, `"op`, markOp)
		case 't':
			m |= marked(name, `"event`, markEvent)
		}
	}
}

func marked(before []byte, name string, m marks) marks {
	if len(before) >= len(name) && string(before[len(before)-len(name):]) == name {
		return m
	}
	return 0
}
