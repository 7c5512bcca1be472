// Package store keeps everything the stream has taught us in Badger: vectors, histories, dedupe ids, the users still owed
// a recommendation, the next offset of every partition, and the journal of what was applied in which order.
//
// It promises: a micro-batch is one transaction (a batch too big for one becomes several, each with its own offsets), so
// a crash loses nothing and doubles nothing; equal events in equal order give an equal Digest; a View sees whole commits
// only, and neither waits for a Commit nor holds one back; memory stays within Config.MemoryLimit; every record carries a
// checksum over its key and value, so damaged bytes are an ErrCorrupt with the key's name, never a silently wrong vector.
//
// With WithDerived it also keeps a list model alive: what each event teaches it is part of the event's transaction, and
// its table is restored from a file and the steps since.
//
// It refuses: a store of another format or made with another CF spec (ErrMismatch), a record larger than MaxRecord, a
// vector that is not finite, a batch whose records do not lie in its spans in the order read, a folder that another
// process holds. After a failed write it refuses everything but reading: what is on the disk is whole, reopen it.
//
//	s, err := store.Open("data/state", store.Default(), store.WithLogger(log))
//	if err != nil { ... }
//	defer s.Close()
//	next, known, _ := s.Next(corastream.Partition{Topic: "corastream.interactions", ID: 0})
//	done, err := s.Commit(ctx, batch, func(st corastream.State, ev corastream.Event) error { return model.Learn(st, ev) })
//
// docs/reference/format.md describes every key and byte.
package store
