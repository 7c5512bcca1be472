package corastream

import (
	"context"
	"errors"
	"hash/fnv"
)

// A cluster divides the state into shards, their number fixed at birth. A shard owns the users of its partitions of the
// interactions topic and the items whose id falls to it; nobody else writes their vectors. What a shard learns about an item of
// another shard travels to its owner as a Parcel; what an owner makes of it, everybody reads from the owner's changelog. The changelog
// of a shard is its truth: a transaction counts once it is there, and the store on the disk is a copy of it that may be thrown away.

// Change is one record of a shard's changelog: a key of its store that was set or, where Value is nil, deleted. All changes of a
// transaction lie side by side, and are there as a whole or not at all.
type Change struct {
	Pos Position
	// Epoch counts the owners that a shard has had: each claims the next one. Seq counts the transactions of its store. A change
	// with a lower (Epoch, Seq) than one before it in the log comes from an owner that has been followed by another, or came twice: it is void.
	Epoch, Seq uint64
	Key        []byte // ChangeUser + id, ChangeItem + id, ChangeShared, or ChangeOther + the store's own key
	// Value is the store's record (docs/reference/format.md). Owners never delete items: of an item, nil says that a later change of the same batch
	// holds the record.
	Value []byte
}

// The kinds of key in a changelog.
const (
	ChangeUser   = "u:" // a user of the shard
	ChangeItem   = "i:" // an item that the shard owns
	ChangeShared = "s:" // mu and w; shard 0 owns them
	ChangeOther  = "x:" // what only a copy of the shard needs: histories, offsets, journal, items of others
	ChangeClaim  = "c:" // a new owner; the value is its name
)

// Parcel is what one transaction of a shard learnt about the vectors of another one.
type Parcel struct {
	Pos      Position
	From, To int32  // shards
	Seq      uint64 // grows with each transaction of From; one seen before is a repeat
	Body     []byte
}

// ErrFenced says that a shard has another owner by now: what was about to be written did not happen.
var ErrFenced = errors.New("another process owns the shard now")

// Changelog takes a transaction's changes, all or none, and returns the offset after them. void names keys whose newest record in the log
// is a former owner's: they are to be written once more, before the log's compaction keeps the wrong ones.
type Changelog interface {
	Append(ctx context.Context, seq uint64, changes []Change) (next int64, void [][]byte, err error)
}

// Merger is what a Learner must be besides for a cluster: it tells what some steps added to a vector, and adds that to another copy of it.
// A delta knows its base, so an owner that has moved on since does not go a second time where both were going. Deltas of one base
// commute to first order alone: an owner applies them in the order in which they reach it, and its journal tells that order.
type Merger interface {
	// ItemDelta is what `after` has more than `before`, both of the item `id`; MergeItem adds it, with the bounds of a step.
	ItemDelta(id string, before, after *Embedding) Embedding
	MergeItem(it *ItemState, d *Embedding) error
	SharedDelta(before, after *Embedding) Embedding
	MergeShared(shared, d *Embedding) error
}

// ItemShard is the shard of n that owns an item.
func ItemShard(id string, n int) int {
	if n <= 1 {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(id)) // never fails
	x := h.Sum64()
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	return int((x ^ x>>33) % uint64(n))
}

// PartitionShard is the shard of n that learns a partition of the interactions topic, and so owns the users whose events lie there.
func PartitionShard(partition int32, n int) int {
	if n <= 1 {
		return 0
	}
	return int(partition) % n
}
