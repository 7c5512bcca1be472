package simulation

import (
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/corastream/corastream"
)

// toldList is a list model that hashes all it is told, in order: a step that is lost, doubled or out of its place shows in
// the store's digest.
type toldList struct{ sum [sha256.Size]byte }

func (l *toldList) Window() int                                  { return 4 }
func (l *toldList) Describe(it corastream.Item)                  { l.told(it) }
func (l *toldList) Learn(st corastream.Step)                     { l.told(st) }
func (l *toldList) Rank(corastream.Query) []corastream.Candidate { return nil }

func (l *toldList) told(what any) { l.sum = sha256.Sum256(fmt.Appendf(l.sum[:], "%v", what)) }

func (l *toldList) Save(w io.Writer) error {
	_, err := w.Write(l.sum[:])
	return err
}

func (l *toldList) Load(r io.Reader) error {
	_, err := io.ReadFull(r, l.sum[:])
	return err
}
