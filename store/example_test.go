package store_test

import (
	"context"
	"fmt"
	"os"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/store"
)

// A batch is applied once, however often it comes; the offset, the vectors and the debt are one transaction.
func ExampleStore_Commit() {
	dir, err := os.MkdirTemp("", "store")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(dir, store.Default())
	if err != nil {
		panic(err)
	}
	defer s.Close()
	clicks := corastream.Partition{Topic: "corastream.interactions"}
	batch := corastream.Batch{
		Events: []corastream.Event{{
			Pos: corastream.Position{Topic: clicks.Topic, Offset: 7}, User: "ann", Item: "heat", Label: 1, Weight: 1,
		}},
		Spans: []corastream.Span{{Partition: clicks, From: 7, To: 8}},
	}
	learn := func(s corastream.State, ev corastream.Event) error {
		u, err := s.User(ev.User)
		u.Bias += ev.Label * ev.Weight / 10
		u.Version++
		return err
	}
	ctx := context.Background()
	for range 2 {
		done, err := s.Commit(ctx, batch, learn)
		fmt.Println(done.Learnt, "learnt,", done.Duplicates, "seen before", err)
	}
	next, _, _ := s.Next(clicks)
	owed, _ := s.Owed(10)
	fmt.Println("next offset", next, "- owed to", owed[0].User)
	// Output:
	// 1 learnt, 0 seen before <nil>
	// 0 learnt, 1 seen before <nil>
	// next offset 8 - owed to ann
}
