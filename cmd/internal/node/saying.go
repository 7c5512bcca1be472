package node

import (
	"context"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/ingest"
)

// saying is the source, which says once what events are taken for that do not say what happened, and once that fields are not read.
type saying struct {
	*ingest.Source
	kind            string
	log             zerolog.Logger
	implied, unread bool
}

// Next implements corastream.Source.
func (s *saying) Next(ctx context.Context) (corastream.Batch, error) {
	b, err := s.Source.Next(ctx)
	if n := s.Counts().Implied(); n > 0 && !s.implied {
		s.implied = true
		s.log.Warn().Str("kind", s.kind).Msg("events come that do not say what happened: they are taken for this kind (kafka.default_kind; \"\" refuses them)")
	}
	if names := s.Counts().Unread(); len(names) > 0 && !s.unread {
		s.unread = true
		s.log.Info().Interface("fields", names).Msg("events have fields that nothing reads: `corastream validate --topic` counts them")
	}
	return b, err
}
