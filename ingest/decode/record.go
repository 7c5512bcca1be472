package decode

import (
	"time"

	"github.com/corastream/corastream"
)

// Header of a record.
type Header struct {
	Key   string
	Value []byte
}

// Record is one record as the broker holds it. Key, Value and header values share memory with their batch.
type Record struct {
	Pos     corastream.Position
	Key     []byte // nil: none
	Value   []byte // nil: a tombstone
	Headers []Header
	// Time is the broker's append time where the topic has message.timestamp.type=LogAppendTime, else the producer's.
	Time time.Time
	// TooLarge is set, with the record's size and Value cut, when it is over MaxRecordBytes, or, with Value nil, when
	// its batch decompresses to more than MaxFetchBytes.
	TooLarge int
	// Covers is how many offsets this record stands for: 1, or its whole batch's when that could not be unpacked.
	Covers int64
}
