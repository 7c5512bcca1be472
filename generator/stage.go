package generator

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/corastream/corastream"
)

// StageConfig bounds the stage.
type StageConfig struct {
	// CacheBytes bounds the kept W_A. Default 64 MiB (1,800 users at hidden 576 and rank 16), range 0..1 TiB; 0 keeps none.
	CacheBytes int64 `yaml:"-"`
	// Batch is how many W_A are made in one product. Default 64, range 1..4096.
	Batch int `yaml:"-"`
	// Device is where they are made: auto (a GPU when this binary has the path and the machine a device), cpu or gpu. Default auto.
	Device DeviceChoice `yaml:"-"`
}

// DefaultStageConfig returns the defaults above.
func DefaultStageConfig() StageConfig {
	return StageConfig{CacheBytes: 64 << 20, Batch: 64, Device: DeviceAuto}
}

// Validate reports all problems at once.
func (c StageConfig) Validate() error {
	errs := []error{within("generator.batch", c.Batch, 1, 4096), c.validateDevice()}
	if c.CacheBytes < 0 || c.CacheBytes > 1<<40 {
		errs = append(errs, corastream.Usagef("generator.cache_bytes", "choose from 0 to 1 TiB", "%d is out of range", c.CacheBytes))
	}
	return errors.Join(errs...)
}

// Stage makes W_A for pairs. Safe for concurrent use; a checkpoint is swapped for another while it
// runs. Everything that belongs to one checkpoint hangs on one pointer. A call loads it once, so
// weights and projection never come from two.
type Stage struct {
	cfg  StageConfig
	live atomic.Pointer[loaded]
	gpu  *GPU // nil: the CPU makes W_A

	hits, misses atomic.Int64
}

var _ corastream.Generator = (*Stage)(nil)

// loaded is one checkpoint with the cache of what it made: weights and projection always come from one of them.
type loaded struct {
	ckpt   *Checkpoint
	digest string
	cache  *cache
	device *onDevice // nil: the CPU makes W_A
}

// NewStage serves a checkpoint.
func NewStage(c *Checkpoint, cfg StageConfig) (*Stage, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Stage{cfg: cfg}
	return s, s.Swap(c)
}

// Swap replaces the checkpoint, its projection and the cache at once. Calls under way end with the old ones.
func (s *Stage) Swap(c *Checkpoint) error {
	digest, err := c.Digest()
	if err != nil {
		return fmt.Errorf("swap checkpoint: %w", err)
	}
	s.live.Store(&loaded{ckpt: c, digest: digest, cache: newCache(s.cfg.CacheBytes), device: newOnDevice(s.gpu, c.Model, s.cfg.CacheBytes)})
	return nil
}

// Checkpoint is the one in use.
func (s *Stage) Checkpoint() *Checkpoint { return s.live.Load().ckpt }

// Version is the digest of the checkpoint in use.
func (s *Stage) Version() string { return s.live.Load().digest }

// CacheStats says how often W_A was at hand, and what is kept now.
type CacheStats struct {
	Hits, Misses int64
	Entries      int
	Bytes        int64
}

// Stats of the cache; hits and misses count from the start, over all checkpoints.
func (s *Stage) Stats() CacheStats {
	n, b := s.live.Load().cache.size()
	return CacheStats{Hits: s.hits.Load(), Misses: s.misses.Load(), Entries: n, Bytes: b}
}

// Forget drops the W_A that are kept of a user, for erasure. They would not be served again in any case, since an entry is found by the
// numbers that it was made from. A call under way may still keep one; it goes when others need its room.
func (s *Stage) Forget(user string) {
	l := s.live.Load()
	l.cache.forget(user, l.ckpt.Model.Spec.PerPair())
}

// Weights implements corastream.Generator. Pairs with one user's side share one User matrix (equal
// address); the matrix is never written to again, so that callers may keep it, and the GPU finds
// its copy by that address.
//
// Pairs are grouped into jobs, jobs at hand come from the cache, and the rest is made in batches of
// cfg.Batch. Two calls that miss the same user at once both make the matrix. That is rare, costs
// one product, and both results are the same bits.
func (s *Stage) Weights(ctx context.Context, pairs []corastream.Pair) ([]corastream.Weights, *corastream.Projection, error) {
	l := s.live.Load()
	m := l.ckpt.Model
	spec := &m.Spec
	jobs, of, err := l.jobs(pairs)
	if err != nil {
		return nil, nil, fmt.Errorf("generator inputs: %w", err)
	}
	var missing []*job
	for _, j := range jobs {
		if j.made = l.cache.get(j.key, j.input); j.made == nil {
			missing = append(missing, j)
		}
	}
	s.hits.Add(int64(len(jobs) - len(missing)))
	s.misses.Add(int64(len(missing)))
	for len(missing) > 0 {
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		n := min(s.cfg.Batch, len(missing))
		l.make(ctx, missing[:n])
		missing = missing[n:]
	}
	column := m.ItemColumn()
	out := make([]corastream.Weights, len(pairs))
	for i := range pairs {
		p := &pairs[i]
		out[i] = corastream.Weights{
			Hidden: spec.Hidden, Rank: spec.Rank, User: of[i].made, UserVersion: p.User.Version,
			ItemVersion: p.Item.Version, Generator: l.digest,
		}
		if column != nil {
			out[i].Item, out[i].ItemScale = column, p.ItemScale(spec.Factors)
		}
	}
	return out, l.ckpt.Projection, nil
}

// job is one W_A to find or make.
type job struct {
	key   string
	input []float32 // the non-linear part's inputs, then the linear path's
	made  []float32
}

// jobs groups pairs by what their matrix depends on: the user's side alone, or the pair. Two pairs
// of one user with different inputs, as when a commit came between them, are two jobs.
func (l *loaded) jobs(pairs []corastream.Pair) (jobs []*job, of []*job, err error) {
	m := l.ckpt.Model
	nx, nl := m.Inputs()
	of = make([]*job, len(pairs))
	seen := map[string][]*job{}
	buf := make([]float32, nx+nl)
	for i := range pairs {
		p := &pairs[i]
		lin := buf[nx:]
		if nl == 0 {
			lin = nil
		}
		if err := m.UserInput(buf[:nx], lin, p); err != nil {
			return nil, nil, err
		}
		key := p.UserID
		if m.Spec.PerPair() {
			key = pairKey(p.UserID, p.ItemID)
		}
		for _, j := range seen[key] {
			if equalBits(j.input, buf) {
				of[i] = j
				break
			}
		}
		if of[i] == nil {
			of[i] = &job{key: key, input: append([]float32(nil), buf...)}
			jobs, seen[key] = append(jobs, of[i]), append(seen[key], of[i])
		}
	}
	return jobs, of, nil
}

// make computes the matrices of some jobs in one product and keeps them. A device that fails is
// noted and the CPU makes the same matrices within the call, so no caller ever sees the failure.
func (l *loaded) make(ctx context.Context, jobs []*job) {
	m := l.ckpt.Model
	nx, nl := m.Inputs()
	n, size := len(jobs), m.Spec.Size()
	x, lin := make([]float32, n*nx), make([]float32, n*nl)
	for i, j := range jobs {
		copy(x[i*nx:], j.input[:nx])
		copy(lin[i*nl:], j.input[nx:])
	}
	if l.device != nil {
		made, err := l.device.forward(ctx, x, lin, n)
		if err == nil {
			for i, j := range jobs {
				j.made = made[i]
				l.cache.put(j.key, j.input, j.made)
			}
			return
		}
		l.device.Fallback.Note(fmt.Errorf("weights made on the CPU: %w", err))
	}
	dst := make([]float32, n*size)
	m.Forward(dst, x, lin, n)
	for i, j := range jobs {
		// A copy of its own: a slice of the batch would keep the whole batch alive as long as one user is cached.
		j.made = append([]float32(nil), dst[i*size:(i+1)*size]...)
		l.cache.put(j.key, j.input, j.made)
	}
}
