package node

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
)

// Erased says of events whether their user has been erased since. known is false while a running process holds the data folder, and
// true where there is none: then nobody was erased here.
func Erased(cfg Config, log zerolog.Logger) (gone func(corastream.Event) bool, known bool, err error) {
	none := func(corastream.Event) bool { return false }
	if _, err := os.Stat(filepath.Join(cfg.Data, "store")); err != nil {
		return none, true, nil
	}
	s, err := OpenExisting(cfg, log)
	if err != nil {
		return none, false, nil
	}
	defer s.Close()
	at := map[[32]byte]time.Time{}
	for e, err := range s.Erasures() {
		if err != nil {
			return none, false, err
		}
		if e.At.After(at[e.User]) {
			at[e.User] = e.At
		}
	}
	return func(ev corastream.Event) bool {
		t, ok := at[sha256.Sum256([]byte(ev.User))]
		return ok && !ev.Appended.After(t)
	}, true, nil
}
