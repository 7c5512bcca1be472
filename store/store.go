package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/corastream/corastream"
	"github.com/dgraph-io/badger/v4"
	"github.com/rs/zerolog"
)

// formatVersion of the folder: keys and records together. Another one is refused.
const formatVersion = "1"

// ErrFailed says that an earlier write failed: the disk holds whole commits, memory may not agree with it. Reopen.
var ErrFailed = errors.New("store: an earlier write failed, reopen the store")

// Store is a folder of Badger. All methods may be called from many goroutines; writers take turns.
//
// Lock order: writer, then queue, then snap; a cache shard's lock is taken last and alone. Fields
// marked "under writer" are touched by the goroutine that has the writer's turn and by nobody else.
// Readers take a snapshot (view.go) and no lock.
type Store struct {
	cfg   Config
	dir   string
	log   zerolog.Logger
	now   func() time.Time
	db    *badger.DB
	guard *guard

	writer  sync.Mutex         // Commit, Join, Settle, ...: one transaction at a time
	failed  error              // under writer
	arena   arena              // under writer
	sweep   sweeper            // under writer
	erased  map[[32]byte]int64 // under writer
	derived *derived           // under writer; nil: none
	mark    listMark           // under writer
	pending atomic.Uint64

	snapMu  sync.Mutex
	snap    *snap // nil when closed
	readers sync.WaitGroup
	users   *cache[userRec]
	items   *cache[itemRec]
	bySeq   seqTable

	queue queues

	// Of a cluster's store (shard.go).
	shard     Shard
	changelog corastream.Changelog // under writer; nil: none
	epoch     uint64               // under writer
	void      [][]byte             // under writer: keys to be written to the changelog again
	outbox    outbox

	wants  func(user string) bool // who is owed a recommendation for a click; nil: everybody
	newest bool                   // Owed gives the newest debts first

	forgotten func(user string) // nil: nobody asks
}

var _ corastream.Store = (*Store)(nil)

// Open opens or makes the store in dir. Damaged tables are refused with ErrCorrupt naming the file.
func Open(dir string, c Config, opts ...Option) (*Store, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &Store{cfg: c, dir: dir, log: zerolog.Nop(), now: time.Now}
	for _, o := range opts {
		o(s)
	}
	db, g, err := openFolder(dir, c, s.log)
	if err != nil {
		return nil, err
	}
	s.db, s.guard = db, g
	if err = corastream.Failpoint("store.opened"); err == nil {
		err = s.load()
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	return s, nil
}

// openFolder opens or makes a folder of Badger, looked through for damage first, with its guard.
func openFolder(dir string, c Config, log zerolog.Logger) (*badger.DB, *guard, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("store: %w", err)
	}
	g := newGuard(dir, c, log)
	if err := g.room(g.buffers); err != nil {
		return nil, g, err
	}
	err := errors.Join(checkManifest(dir), checkTables(dir))
	var db *badger.DB
	if err == nil {
		db, err = openBadger(c.badger(dir, badgerLog{log, g}))
	}
	if err != nil {
		return nil, g, openError(dir, err)
	}
	return db, g, nil
}

// openBadger turns the panics with which Badger meets some damaged files into errors.
func openBadger(o badger.Options) (db *badger.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", corastream.ErrCorrupt, p)
		}
	}()
	// A kill between a log file's creation and its first byte leaves it empty, and Badger takes that for damage.
	for _, pattern := range []string{"*.mem", "*.vlog"} {
		files, err := filepath.Glob(filepath.Join(o.Dir, pattern))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			if st, err := os.Stat(f); err == nil && st.Size() == 0 {
				if err := os.Remove(f); err != nil {
					return nil, err
				}
			}
		}
	}
	return badger.Open(o)
}

// ErrInUse says that another process has the folder.
var ErrInUse = errors.New("the store is in use")

// openError tells apart what people can do about a folder that does not open: wait, make room or access, or restore.
func openError(dir string, err error) error {
	text := err.Error()
	has := func(what string) bool { return strings.Contains(text, what) }
	var path *fs.PathError
	var errno syscall.Errno
	switch {
	case has("Cannot acquire directory lock"):
		return fmt.Errorf("%w: %w", ErrInUse, corastream.Usagef(dir, "stop the other process, or ask it over HTTP", "%v", err))
	case has("external magic"), has("unsupported version"):
		return fmt.Errorf("%w: %s: the folder holds another product's store: %w", corastream.ErrMismatch, dir, err)
	case errors.As(err, &path), errors.As(err, &errno), has("too many open files"), has("no space left"), has("permission denied"):
		return fmt.Errorf("store: open %s: %w", dir, err)
	}
	return fmt.Errorf("%w: %s: %w (fix: restore a snapshot, or remove the folder and learn again from the log)",
		corastream.ErrCorrupt, dir, err)
}

// load reads what is kept in memory: the shared record, offsets, the last journal line, the list
// model, the queues, the erased users and what a shard's changelog needs. Any of them that does not
// decode refuses the folder; the store never starts with a part of its state.
func (s *Store) load() error {
	s.users, s.items = newCache[userRec](s.cfg.records()/2), newCache[itemRec](s.cfg.records()/2)
	s.items.stored = func(it *itemRec) { s.bySeq.at(it.Seq).Store(it) }
	s.items.evicted = func(it *itemRec) { s.bySeq.at(it.Seq).CompareAndSwap(it, nil) }
	txn := s.db.NewTransaction(false)
	sn := &snap{epoch: 1, txn: txn, shared: &sharedRec{clock: noTime, first: 1}, offsets: map[corastream.Partition]int64{}}
	err := s.loadFormat(txn)
	if err == nil {
		err = s.loadShared(sn)
	}
	if err == nil {
		err = s.loadDerived(sn)
	}
	if err == nil {
		err = s.queue.load(txn, s.cfg.window())
	}
	if err == nil {
		err = s.loadErased(txn)
	}
	if err == nil {
		err = s.outbox.load(txn, int32(s.shard.Index))
	}
	if err == nil {
		var c reach
		c, err = loadReach(txn)
		s.void = c.void
	}
	if err != nil {
		txn.Discard()
		return err
	}
	s.bySeq.grow(sn.shared.items)
	s.hold(sn)
	s.snap = sn
	s.pending.Store(sn.epoch)
	return nil
}

// loadFormat writes the version into an empty folder and refuses any other.
func (s *Store) loadFormat(txn *badger.Txn) error {
	got, err := getMeta(txn, "format")
	if err != nil {
		return err
	}
	if got == formatVersion {
		return nil
	}
	empty := true
	if err := scan(txn, nil, nil, func([]byte, *badger.Item) (bool, error) { empty = false; return false, nil }); err != nil {
		return err
	}
	if !empty {
		return fmt.Errorf("%w: %s has store format %q, this program reads %q (fix: use the release that wrote it, or learn again from the log)",
			corastream.ErrMismatch, s.dir, got, formatVersion)
	}
	return s.db.Update(func(txn *badger.Txn) error {
		k := metaKey("format")
		return txn.Set(k, encodeMeta(k, formatVersion))
	})
}

func (s *Store) loadShared(sn *snap) error {
	value, err := get(sn.txn, sharedKey)
	if err != nil {
		return err
	}
	if value != nil {
		if sn.shared, err = decodeShared(value); err != nil {
			return err
		}
	}
	err = scan(sn.txn, []byte{pOffset}, nil, func(key []byte, it *badger.Item) (bool, error) {
		return true, it.Value(func(v []byte) error {
			p, next, err := decodeOffset(key, v)
			sn.offsets[p] = next
			return err
		})
	})
	if err != nil {
		return err
	}
	if sn.seq, err = lastSeq(sn.txn); err != nil {
		return err
	}
	return s.checkJournal(sn)
}

func decodeOffset(key, value []byte) (p corastream.Partition, next int64, err error) {
	r, err := open(key, value)
	if err != nil {
		return p, 0, err
	}
	next = r.varint()
	if len(key) < 5 {
		return p, 0, fmt.Errorf("%w: %s: the key is too short", corastream.ErrCorrupt, keyName(key))
	}
	p = corastream.Partition{Topic: string(key[1 : len(key)-4]), ID: int32(binary.BigEndian.Uint32(key[len(key)-4:]))}
	return p, next, r.done(key)
}

// Close ends the store. It waits for the writer's turn, leaves a table file of the list model
// behind, and takes the snapshot away, so that new readers get ErrClosed. Views still running keep
// what they need, and Close waits for them before it closes Badger under them. On a full disk the
// folder is left as a kill would leave it, locked until the process ends.
func (s *Store) Close() error {
	s.writer.Lock()
	defer s.writer.Unlock()
	if s.snap != nil {
		s.closeTable()
	}
	s.snapMu.Lock()
	sn := s.snap
	s.snap = nil
	s.snapMu.Unlock()
	if sn == nil {
		return nil
	}
	sn.release()
	s.readers.Wait()
	if err := s.guard.closeBadger(s.db); err != nil {
		return fmt.Errorf("store: close %s: %w", s.dir, err)
	}
	return nil
}

// Next is the offset from which a partition is to be read on; known is false when nothing of it was ever applied.
func (s *Store) Next(p corastream.Partition) (offset int64, known bool, err error) {
	sn, err := s.acquire()
	if err != nil {
		return 0, false, err
	}
	defer sn.release()
	offset, known = sn.offsets[p]
	return offset, known, nil
}

// get reads one value, nil when there is none.
func get(txn *badger.Txn, key []byte) ([]byte, error) {
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("store: read %s: %w", keyName(key), err)
	}
	value, err := item.ValueCopy(nil)
	if err != nil {
		return nil, fmt.Errorf("store: read %s: %w", keyName(key), err)
	}
	return value, nil
}

// scanSlice is how many keys are read through one iterator. An iterator keeps every table that it might read on the disk,
// those that compactions have replaced too; on a long scan they would fill it.
const scanSlice = 8192

// scan calls f for each key with the prefix, from `from` on (nil: the first), until it returns false. Values are read
// only when f asks for them.
func scan(txn *badger.Txn, prefix, from []byte, f func(key []byte, it *badger.Item) (bool, error)) error {
	if from == nil {
		from = prefix
	}
	for more := true; more; {
		var err error
		if from, more, err = scanOnce(txn, prefix, from, f); err != nil {
			return err
		}
	}
	return nil
}

// scanOnce reads a slice and says where to go on.
func scanOnce(txn *badger.Txn, prefix, from []byte, f func(key []byte, it *badger.Item) (bool, error)) ([]byte, bool, error) {
	o := badger.DefaultIteratorOptions
	o.Prefix, o.PrefetchValues = prefix, false
	it := txn.NewIterator(o)
	defer it.Close()
	n := 0
	for it.Seek(from); it.Valid(); it.Next() {
		key := it.Item().KeyCopy(nil)
		if n++; n > scanSlice {
			return key, true, nil
		}
		if more, err := f(key, it.Item()); err != nil || !more {
			return nil, false, err
		}
	}
	return nil, false, nil
}
