package ingest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
)

// Changelog is the log of one shard: partition `shard` of the embeddings topic. It implements corastream.Changelog.
//
// Kafka has no compare-and-append, so the log itself arbitrates between owners. Who owns a shard knows at which offset its next
// batch must come to lie, because nobody else may write. A batch that lies elsewhere has been preceded by somebody: then the
// records in between say who. A claim with a higher epoch means that the shard has been taken over, and every reader drops our
// batch, since its epoch is below the claim's; anything else was void itself, and our batch counts.
//
// For one goroutine.
type Changelog struct {
	part   corastream.Partition
	member string
	mark   string // of our claims: no other process's claim has it
	log    zerolog.Logger
	tail   *tail
	post   *poster

	order order               // of all that has been read or written
	stale map[string]struct{} // keys whose newest record is void
	epoch uint64              // ours; 0: not the owner
	next  int64               // where the owner's next batch has to lie

	failing atomic.Bool
}

// errUnclaimed: an append without a claim, or after one of which nobody knows whether it was stored.
var errUnclaimed = errors.New("the shard is not owned here (fix: Read the changelog to its end and Claim it)")

// OpenChangelog makes the changelog of one shard; it connects when first used. member names this process to people.
func OpenChangelog(cfg Config, shard int, member string, log zerolog.Logger) (*Changelog, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if shard < 0 || shard >= cfg.Shards {
		return nil, corastream.Usagef("shards", fmt.Sprintf("choose from 0 to %d, or set shards", cfg.Shards-1), "there is no shard %d", shard)
	}
	a, err := newAccess(cfg)
	if err != nil {
		return nil, err
	}
	var mark [8]byte
	rand.Read(mark[:])
	part := corastream.Partition{Topic: cfg.Topics.Embeddings, ID: int32(shard)}
	t := cfg.tail(a, part, fromFirst, true)
	t.size = max(t.size, changelogFetch)
	return &Changelog{
		part: part, member: member, mark: hex.EncodeToString(mark[:]), tail: t, stale: map[string]struct{}{},
		log: log.With().Int("shard", shard).Logger(), post: newPoster(a),
	}, nil
}

const changelogFetch = 8 << 20 // asked for at a time: a shard is rebuilt at the pace of the broker's disk

// Seen says up to which (epoch, seq) the caller has read before the offset at which it goes on: what is older is void.
func (c *Changelog) Seen(epoch, seq uint64) { c.order = order{epoch, seq} }

// LastSeen is the newest (epoch, seq) read or written; it belongs to the offset that Read or Append gave with it.
func (c *Changelog) LastSeen() (epoch, seq uint64) { return c.order.epoch, c.order.seq }

// Void lists the keys whose newest record so far is void: the owner is to write them once more. They are known only to whoever has
// read those records, so a copy that goes on from an offset keeps them with it.
func (c *Changelog) Void() [][]byte {
	out := make([][]byte, 0, len(c.stale))
	for _, k := range slices.Sorted(maps.Keys(c.stale)) {
		out = append(out, []byte(k))
	}
	return out
}

// Writing says that no write is being tried again because it failed. It may be called from any goroutine.
func (c *Changelog) Writing() bool { return !c.failing.Load() }

// Close closes the connections. The shard stays ours until another process claims it.
func (c *Changelog) Close() error {
	c.tail.drop()
	return c.post.close()
}

// Read hands the changes from an offset (below 0: the first) to the present end to apply, in order and without the void ones, and
// returns the offset after them. Claims are among them: an offset is worth only with the (epoch, seq) up to it. The changes are apply's
// until it returns. A broker that is away is waited for; corastream.ErrGap says that the log ends before `from`.
func (c *Changelog) Read(ctx context.Context, from int64, apply func([]corastream.Change) error) (next int64, err error) {
	return c.walk(ctx, from, -1, func(changes []corastream.Change) error {
		valid := changes[:0]
		for _, ch := range changes {
			if c.pass(ch) {
				valid = append(valid, ch)
			}
		}
		if len(valid) == 0 {
			return nil
		}
		return apply(valid)
	})
}

// pass takes note of the next change of the log and says whether it counts.
func (c *Changelog) pass(ch corastream.Change) bool {
	if c.order.void(ch.Epoch, ch.Seq) {
		if !isClaim(ch.Key) {
			c.stale[string(ch.Key)] = struct{}{}
		}
		return false
	}
	if len(c.stale) > 0 {
		delete(c.stale, string(ch.Key))
	}
	return true
}

// walk reads [from, to), or to the present end where to is below 0, and returns the offset reached.
func (c *Changelog) walk(ctx context.Context, from, to int64, take func([]corastream.Change) error) (int64, error) {
	t := c.tail
	if from < 0 {
		from = fromFirst
	}
	if t.next != from {
		t.next = from
		t.drop() // attaching anew checks the offset against the log's ends
	}
	var changes []corastream.Change
	for fails := 0; to < 0 || t.next < to; {
		ch, err := t.read(ctx, 0)
		if err != nil {
			if ctx.Err() != nil || !retryable(err) && !isBeyond(err) {
				return t.next, fmt.Errorf("read changelog: %w", err)
			}
			if fails++; fails == 1 {
				c.log.Warn().Err(err).Msg("reading the changelog stopped; trying again")
			}
			if err := pause(ctx, fails); err != nil {
				return t.next, err
			}
			continue
		}
		fails = 0
		if to < 0 && ch.end >= 0 {
			to = ch.end
		}
		changes = changes[:0]
		for _, r := range ch.records {
			one, err := decodeChange(r)
			if err != nil {
				return r.Pos.Offset, fmt.Errorf("read changelog: %w", err)
			}
			changes = append(changes, one)
		}
		if err := take(changes); err != nil {
			t.next = ch.from
			return ch.from, err
		}
	}
	return t.next, nil
}

// Claim makes this process the owner, from the epoch after the last one seen on. next is the offset that Read returned: all
// before it has been applied. corastream.ErrFenced says that somebody else wrote meanwhile: read on and claim again.
func (c *Changelog) Claim(ctx context.Context, next int64) error {
	c.epoch, c.next = c.order.epoch+1, next
	claim := corastream.Change{Epoch: c.epoch, Key: []byte(corastream.ChangeClaim + c.mark), Value: []byte(c.member)}
	return c.store(ctx, []corastream.Change{claim})
}

// Append stores one transaction's changes as one record batch: all of them or none. It returns when every in-sync replica has
// them, tries again while that can help, and finds out what became of a batch whose answer was lost. next is the offset after
// them. void are keys whose newest record in the log is a former owner's: they are returned until an Append has written them
// once more. corastream.ErrFenced: another process owns the shard, and this transaction did not happen. After any error the shard has
// to be read and claimed anew.
//
// Without changes nothing is written, and seq does not matter: it finds out whether the shard is still ours, and what is void. An owner
// that has nothing to write does so more often than the topic's min.compaction.lag.ms: a void record would win over what it hides then.
func (c *Changelog) Append(ctx context.Context, seq uint64, changes []corastream.Change) (next int64, void [][]byte, err error) {
	switch {
	case c.epoch == 0:
		return 0, nil, fmt.Errorf("append to the changelog of shard %d: %w", c.part.ID, errUnclaimed)
	case len(changes) == 0:
		return c.check(ctx)
	case seq == 0 || c.order.epoch == c.epoch && seq <= c.order.seq:
		return 0, nil, fmt.Errorf("append to the changelog of shard %d: transaction %d comes after %d", c.part.ID, seq, c.order.seq)
	}
	own := slices.Clone(changes)
	for i := range own {
		own[i].Epoch, own[i].Seq = c.epoch, seq
	}
	if err := c.store(ctx, own); err != nil {
		return 0, nil, err
	}
	return c.next, c.Void(), nil
}
