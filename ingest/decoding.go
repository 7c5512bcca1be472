package ingest

import (
	"time"

	"github.com/corastream/corastream/ingest/decode"
)

// The names of ingest/decode that whoever reads topics needs.
type (
	Counts = decode.Counts
	Record = decode.Record
	Header = decode.Header
)

// Decoder is decode's, which files and HTTP share, and knows a cluster's own topics too.
type Decoder struct {
	*decode.Decoder
	topics Topics
	copies bool // events that a cluster moved count where they were moved to
}

// NewDecoder makes a decoder for a valid config.
func NewDecoder(c Config) *Decoder { return &Decoder{decode.New(c.decoding()), c.Topics, c.Shards > 0} }

// timeUnits are the values of kafka.time_unit.
var timeUnits = map[string]time.Duration{"s": time.Second, "ms": time.Millisecond, "us": time.Microsecond, "ns": 1}

// decoding is what the decoder needs of the configuration.
func (c Config) decoding() decode.Config {
	d := decode.Config{
		Topics:         decode.Topics{Interactions: c.Topics.Interactions, Items: c.Topics.Items, Requests: c.Topics.Requests},
		MaxRecordBytes: c.MaxRecordBytes, MaxFetchBytes: c.MaxFetchBytes, MaxArray: c.MaxArray, MaxIDBytes: c.MaxIDBytes, MaxTextBytes: c.MaxTextBytes,
		Fields: decode.Fields(c.Fields), Kinds: make(map[string]decode.Kind, len(c.Kinds)), DefaultKind: c.DefaultKind,
		RatingThreshold: c.RatingThreshold, MaxAhead: c.MaxAhead, MaxAge: c.MaxAge,
	}
	if origin, ok := decode.Time(c.TimeOrigin); c.TimeOrigin != "" && ok {
		d.TimeOrigin, d.TimeUnit = origin, timeUnits[c.TimeUnit]
	}
	for name, k := range c.Kinds {
		d.Kinds[name] = decode.Kind(k)
	}
	return d
}
