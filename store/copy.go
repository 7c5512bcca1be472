package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/corastream/corastream"
	"github.com/dgraph-io/badger/v4"
	"github.com/rs/zerolog"
)

// Copy brings a shard's folder up to its changelog: an empty one, one that was left behind when the shard moved, or one kept warm as
// a standby. While it is open nobody else has the folder; a store opened afterwards is equal to the one that wrote the changelog. A
// kill at any moment leaves a folder that the next Copy completes.
type Copy struct {
	db    *badger.DB
	guard *guard
	reach reach
}

// OpenCopy opens or makes the folder. A damaged one is removed: the changelog is the truth.
func OpenCopy(dir string, c Config, log zerolog.Logger) (*Copy, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.SyncWrites = false // what a power loss takes is read again
	cp, err := openCopy(dir, c, log)
	if errors.Is(err, corastream.ErrCorrupt) {
		log.Warn().Err(err).Str("dir", dir).Msg("the shard's folder is damaged; it is made anew from the changelog")
		if err := os.RemoveAll(dir); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		cp, err = openCopy(dir, c, log)
	}
	return cp, err
}

func openCopy(dir string, c Config, log zerolog.Logger) (*Copy, error) {
	db, g, err := openFolder(dir, c, log)
	if err != nil {
		return nil, err
	}
	cp := &Copy{db: db, guard: g}
	if err := db.View(func(txn *badger.Txn) (err error) { cp.reach, err = loadReach(txn); return err }); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if cp.reach.next < 0 {
		err := db.Update(func(txn *badger.Txn) error {
			k := metaKey("format")
			return txn.Set(k, encodeMeta(k, formatVersion))
		})
		if err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	return cp, nil
}

// Reach is the offset from which the changelog is to be read on, -1 for its beginning, and the last transaction that is here.
func (c *Copy) Reach() (next int64, epoch, seq uint64) {
	return c.reach.next, c.reach.epoch, c.reach.seq
}

// Void notes keys whose newest record in the changelog is void: the store opened next writes them once more.
func (c *Copy) Void(keys [][]byte) {
	for _, k := range keys {
		if !slices.ContainsFunc(c.reach.void, func(have []byte) bool { return bytes.Equal(have, k) }) {
			c.reach.void = append(c.reach.void, bytes.Clone(k))
		}
	}
}

// Apply waits for room on the disk, as every write of a store does, and writes changes in their
// order; next is the offset after them. Void ones must have been left out.
//
// The changes are many small writes and not one transaction. The reach is written last: after a
// kill in between, the next Copy reads the same changes again and writes the same values.
func (c *Copy) Apply(ctx context.Context, changes []corastream.Change, next int64) error {
	if err := c.guard.wait(ctx); err != nil {
		return err
	}
	wb := c.db.NewWriteBatch()
	defer wb.Cancel()
	to := c.reach
	for i := range changes {
		ch := &changes[i]
		to.epoch, to.seq = ch.Epoch, ch.Seq
		key := storeKey(ch.Key)
		if len(key) == 0 {
			continue
		}
		var err error
		if ch.Value == nil {
			err = wb.Delete(key)
		} else {
			err = wb.Set(key, ch.Value)
		}
		if err != nil {
			return fmt.Errorf("store: copy %s: %w", keyName(key), err)
		}
	}
	if err := wb.Flush(); err != nil {
		return fmt.Errorf("store: copy: %w", err)
	}
	to.next = next
	err := c.db.Update(func(txn *badger.Txn) error {
		key, value := encodeReach(to)
		return txn.Set(key, value)
	})
	if err == nil {
		c.reach = to
	}
	return err
}

// Close ends it and makes what was written last.
func (c *Copy) Close() error { return errors.Join(c.db.Sync(), c.guard.closeBadger(c.db)) }
