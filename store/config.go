package store

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/corastream/corastream"
	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/rs/zerolog"
)

// MaxRecord bounds one stored record, key and value together. Ingest bounds what comes from outside well below it.
const MaxRecord = 1 << 20

// Config bounds the store. All memory (memtables, index cache, our record cache) is cut from MemoryLimit.
type Config struct {
	// HistoryLimit is how many interactions are kept of each user. An item is met, and not shown again, for as long as the
	// history holds it, so it should be longer than a heavy user's; a short history costs the same under any limit.
	// Default 4096, range 1..16384.
	HistoryLimit int `yaml:"history_limit"`
	// DedupeHorizon is how far apart, in append time (event time where there is none), two events of one user with the
	// same id still count as one. Default 24h, range 0 (ids are not kept) to 720h.
	DedupeHorizon time.Duration `yaml:"dedupe_horizon"`
	// DedupeLimit bounds the ids kept of each user within the horizon; the oldest go first. Default 1024, range 1..65536.
	DedupeLimit int `yaml:"dedupe_limit"`
	// MemoryLimit in bytes for all that the store holds in memory, but for 9 bytes per known item; the mapped pages of
	// Badger's files, which the kernel takes back when it needs them, do not count. Default 512 MiB, range 32 MiB to 1 TiB.
	MemoryLimit int64 `yaml:"memory_limit_bytes"`
	// SyncWrites makes every commit survive a power loss, not only the death of the process. Default true.
	SyncWrites bool `yaml:"sync_writes"`
	// MaxDirty is how many keys one transaction may write; a larger batch is split. Default 12000, range 16..100000. The
	// bytes of a transaction are bounded too, by a share of MemoryLimit.
	MaxDirty int `yaml:"-"`
	// ReserveBytes of disk are left free: below that, writes wait. Badger's files are mapped into memory, and a full disk
	// would kill the process. Compactions go on while writes wait, until a quarter of it is left. Default 1 GiB, at least
	// MemoryLimit.
	ReserveBytes int64 `yaml:"reserve_bytes"`
	// UserTTL forgets users who were silent for so long, measured against the newest event. Default 0 (never), at least 1h.
	UserTTL time.Duration `yaml:"user_ttl"`
	// JournalLimit is how many journal lines are kept; a line takes about 60 bytes. Default 0 (all), else at least 1000.
	JournalLimit int `yaml:"-"`
}

// Default returns the defaults above.
func Default() Config {
	return Config{
		HistoryLimit: 4096, DedupeHorizon: 24 * time.Hour, DedupeLimit: 1024, MemoryLimit: 512 << 20, SyncWrites: true,
		MaxDirty: 12000, ReserveBytes: 1 << 30,
	}
}

// Validate reports all problems at once.
func (c Config) Validate() error {
	return errors.Join(
		inRange("history_limit", int64(c.HistoryLimit), 1, 16384),
		inRange("dedupe_horizon", int64(c.DedupeHorizon), 0, int64(720*time.Hour)),
		inRange("dedupe_limit", int64(c.DedupeLimit), 1, 65536),
		inRange("memory_limit_bytes", c.MemoryLimit, 32<<20, 1<<40),
		inRange("max_dirty", int64(c.MaxDirty), 16, 100000),
		inRange("reserve_bytes", c.ReserveBytes, c.MemoryLimit, 1<<50),
		zeroOrMore("user_ttl", int64(c.UserTTL), int64(time.Hour)),
		zeroOrMore("journal_limit", int64(c.JournalLimit), 1000))
}

func inRange(key string, v, lo, hi int64) error {
	if v < lo || v > hi {
		return corastream.Usagef("store."+key, fmt.Sprintf("choose from %d to %d", lo, hi), "%d is out of range", v)
	}
	return nil
}

func zeroOrMore(key string, v, lo int64) error {
	if v == 0 {
		return nil
	}
	return inRange(key, v, lo, math.MaxInt64)
}

// memTable is one of up to memTables+1 write buffers that Badger holds, each in memory 1.3 times that size. A transaction
// can take 15 % of it: at the default limit about 2,000 events with vectors of 128 floats.
func (c Config) memTable() int64 { return c.MemoryLimit / 24 }

// records is our share for decoded records. Badger's buffers take a sixth, its index cache up to a sixteenth, compactions
// for moments up to a third; measured at the default limit, the live heap peaks at 0.8 to 0.9 of it. The collector's own
// room (GOGC) comes on top: set GOMEMLIMIT to twice the limit, or to the limit and pay a quarter more processor time.
func (c Config) records() int64 { return c.MemoryLimit / 5 }

const memTables = 2

// window is how many keys of a to-do list are kept in memory, about 150 bytes each.
func (c Config) window() int { return int(min(1<<16, c.MemoryLimit>>12)) }

// arena is how much of a write's buffers is kept for the next.
func (c Config) arena() int { return int(min(8<<20, c.MemoryLimit>>6)) }

// badger returns Badger's options. The traps behind each: values stay in the tables (no value log to collect); tables are
// verified when opened, never when a block is read (that reports damaged keys as absent); metrics cost CPU and serve
// nobody; conflicts can not occur, as we have a single writer; vectors do not compress.
func (c Config) badger(dir string, log badger.Logger) badger.Options {
	threshold := min(int64(MaxRecord), c.memTable()*15/100)
	return badger.DefaultOptions(dir).
		WithLogger(log).
		WithSyncWrites(c.SyncWrites).
		WithMemTableSize(c.memTable()).
		WithNumMemtables(memTables).
		WithNumCompactors(2).
		WithBaseTableSize(min(2<<20, max(128<<10, c.MemoryLimit/256))). // a compaction builds up to 16 at once, in 6 times their size
		WithBaseLevelSize(c.memTable() / 2).                            // what one compaction rewrites, and so needs on the disk, grows with it
		WithValueThreshold(threshold).
		WithValueLogFileSize(16 << 20).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithIndexCacheSize(c.MemoryLimit / 16).
		WithChecksumVerificationMode(options.OnTableRead).
		WithDetectConflicts(false).
		WithMetricsEnabled(false).
		WithExternalMagic(badgerMagic)
}

// badgerMagic stops Badger from opening the folder of another product, and others from opening ours.
const badgerMagic = 0xC05A

// Option sets what a configuration file can not hold.
type Option func(*Store)

// WithLogger sets where the store and Badger log; nothing is logged by default.
func WithLogger(l zerolog.Logger) Option { return func(s *Store) { s.log = l } }

// WithOwing says whose clicks are followed by a debt; by default everybody's are.
func WithOwing(wants func(user string) bool) Option { return func(s *Store) { s.wants = wants } }

// WithNewestFirst has Owed give those first who clicked last.
func WithNewestFirst() Option { return func(s *Store) { s.newest = true } }

// WithForgotten is told of every user who is erased, or forgotten after user_ttl, here or where this copy's records come from: for whoever
// keeps something of users in memory. It is called once readers see the user no more; the commit waits for it.
func WithForgotten(forget func(user string)) Option {
	return func(s *Store) { s.forgotten = forget }
}

// WithClock replaces time.Now, which stamps journal lines and erasures. State never depends on it.
func WithClock(now func() time.Time) Option { return func(s *Store) { s.now = now } }
