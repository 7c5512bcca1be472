package replay

import (
	"github.com/corastream/corastream"
	"github.com/corastream/corastream/ingest/decode"
)

// reading understands files as the default configuration does; a rating is liked from threshold on.
func reading(threshold float64) ReadOptions {
	c := decode.Default()
	c.RatingThreshold = threshold
	return ReadOptions{Decoder: decode.New(c)}
}

// ReadEvents reads a log with the default configuration.
func ReadEvents(path, name string, threshold float64) ([]corastream.Event, error) {
	return reading(threshold).Events(path, name)
}

// ReadItems reads a catalogue with the default configuration.
func ReadItems(path string) ([]corastream.Item, error) {
	return reading(DefaultRatingThreshold).Items(path)
}
