package rollout

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/serve"
)

// shadow scores the slates that the active checkpoint has answered with the candidate, in a
// goroutine of its own. It drops slates when its queue is full, so no answer waits for it.
// newShadow starts the goroutine, and close ends it and waits.
//
// The LLM is shared with the answers. One slate at a time is compared, so the shadow takes at most
// one of the LLM's passes. mu guards the sums and is a leaf.
type shadow struct {
	scorer corastream.Scorer
	queue  chan shadowed
	cancel context.CancelFunc
	done   chan struct{}

	mu  sync.Mutex
	sum serve.ShadowFigures
	ms  float64
}

// shadowed is one slate: pairs and prompts of one user, and the probabilities that the active checkpoint answered with.
type shadowed struct {
	t       *Trial
	pairs   []corastream.Pair
	prompts []corastream.Prompt
	answers []float32
}

// shadowQueue slates wait at most: a burst fits in, and memory stays bounded where the LLM is slower than the clicks.
const shadowQueue = 64

func newShadow(scorer corastream.Scorer) *shadow {
	ctx, cancel := context.WithCancel(context.Background())
	s := &shadow{scorer: scorer, queue: make(chan shadowed, shadowQueue), cancel: cancel, done: make(chan struct{})}
	go s.run(ctx)
	return s
}

func (s *shadow) close() {
	s.cancel()
	<-s.done
}

// offer cuts scored pairs into slates of one user each, and queues them. The pairs are cloned,
// because the caller may reuse its slices. The candidate travels with each slate: a slate that
// waits while the rollout changes is compared with the checkpoint it was meant for.
func (s *shadow) offer(t *Trial, pairs []corastream.Pair, prompts []corastream.Prompt, logits []corastream.Logits) {
	for lo := 0; lo < len(pairs); {
		hi := lo + 1
		for hi < len(pairs) && pairs[hi].UserID == pairs[lo].UserID {
			hi++
		}
		one := shadowed{t: t, pairs: slices.Clone(pairs[lo:hi]), prompts: slices.Clone(prompts[lo:hi])}
		for _, l := range logits[lo:hi] {
			one.answers = append(one.answers, l.P())
		}
		select {
		case s.queue <- one:
		default: // a dropped slate costs a sample of the comparison, a wait would cost a user's answer
			s.mu.Lock()
			s.sum.Dropped++
			s.mu.Unlock()
		}
		lo = hi
	}
}

func (s *shadow) run(ctx context.Context) {
	defer close(s.done)
	for {
		select {
		case <-ctx.Done():
			return
		case one := <-s.queue:
			s.compare(ctx, one)
		}
	}
}

// compare scores one slate with the candidate and adds how far its probabilities lie from the
// answered ones, and whether both have the same first item. The lock is taken after scoring.
func (s *shadow) compare(ctx context.Context, one shadowed) {
	began := time.Now()
	logits, err := corastream.ScorePairs(ctx, one.t, s.scorer, one.pairs, one.prompts)
	took := time.Since(began)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil { // counted, not logged: nobody sees the candidate's scores, and an operator reads the count before he promotes
		s.sum.Failed++
		return
	}
	best, mine := 0, 0
	for i, l := range logits {
		s.sum.MeanAbsDiff += math.Abs(float64(l.P() - one.answers[i]))
		if one.answers[i] > one.answers[best] {
			best = i
		}
		if l.P() > logits[mine].P() {
			mine = i
		}
	}
	s.sum.Compared += int64(len(logits))
	s.sum.Slates++
	if best == mine {
		s.sum.SameFirst++
	}
	s.ms += took.Seconds() * 1000 // of the wall clock, waiting for the LLM included: what a canary's users would wait
}

// reset begins the figures of another candidate.
func (s *shadow) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum, s.ms = serve.ShadowFigures{}, 0
}

// figures returns means and leaves the sums as they are.
func (s *shadow) figures() *serve.ShadowFigures {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.sum
	if out.Slates > 0 {
		out.MeanAbsDiff /= float64(out.Compared)
		out.SameFirst /= float64(out.Slates)
		out.ScoringMS = s.ms / float64(out.Slates)
	}
	return &out
}

// lastLists remembers the last list of each user, so that a later event can be credited to the
// checkpoint that made the list. It forgets all of them when it holds maxLists: a simple bound, and
// the figures it feeds are rates over the latest users.
type lastLists struct {
	mu  sync.Mutex
	all map[string]lastList
}

// lastList is what one user was shown last, and the checkpoint that scored it.
type lastList struct {
	t     *Trial
	items []string
}

const maxLists = 100_000

func (l *lastLists) put(user string, t *Trial, items []corastream.Scored) {
	// The ids alone are kept. The items' titles and scores would hold several times as much memory.
	ids := make([]string, len(items))
	for i, it := range items {
		ids[i] = it.Item
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil || len(l.all) >= maxLists {
		l.all = map[string]lastList{}
	}
	l.all[user] = lastList{t, ids}
}

func (l *lastLists) forget(user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, user)
}

// of returns the checkpoint whose list showed the item to the user, and nil when none did.
func (l *lastLists) of(user, item string) *Trial {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last, ok := l.all[user]; ok && slices.Contains(last.items, item) {
		return last.t
	}
	return nil
}
