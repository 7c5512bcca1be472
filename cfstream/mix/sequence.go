package mix

import (
	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream/internal/num"
	"github.com/corastream/corastream/kernels"
)

// The sequence factors: h = sum over lags of c_l Q[x_l], and h.P[j] scores item j. Learnt by softmax over the item taken and
// sequenceNegatives drawn from the last targets, Adagrad, each event once and one earlier event again.
const (
	sequenceLags      = 20
	sequenceNegatives = 64
	sequenceRate      = 0.05
	sequenceDecay     = 1e-2
	sequenceStart     = 0.1 // standard deviation of new factors
	sequenceRing      = 20000
	sequenceMemory    = 1 << 15 // events that may be learnt again
	sequenceAgainFrom = 100     // events: then earlier ones are learnt again
)

type sequence struct {
	m      *Model
	d      int
	q, p   []float32 // [items*d]
	aq, ap []float32 // Adagrad's sums, one an item
	c, gc  [sequenceLags]float32
	ring   []int32 // the last targets
	targets,
	draws uint64
	memory []int32 // [sequenceMemory*(1+sequenceLags)]: target, then history, newest first; -1 ends it
	kept   int64

	h, gh  []float32
	ids    [sequenceNegatives + 1]int32
	logits [sequenceNegatives + 1]float32
}

func newSequence(m *Model) *sequence {
	s := &sequence{m: m, d: m.spec.Factors, draws: 7}
	s.h, s.gh = make([]float32, s.d), make([]float32, s.d)
	recency(s.c[:])
	return s
}

func (s *sequence) name() string       { return corastream.SourceTaste }
func (s *sequence) features() []string { return []string{"sequence"} }

func (s *sequence) grow(n int) {
	for len(s.aq) < n {
		seed := uint64(len(s.aq))
		for _, v := range []*[]float32{&s.q, &s.p} {
			for range s.d {
				seed = seed*6364136223846793005 + 1442695040888963407
				seed ^= seed >> 29
				// The sum of four even draws, of standard deviation 1/sqrt(3), is near enough to a normal one.
				var sum float32
				for shift := range 4 {
					sum += float32(uint16(seed>>(16*shift)))/65536 - 0.5
				}
				*v = append(*v, float32(sum*(sequenceStart*1.7320508)))
			}
		}
		s.aq, s.ap = append(s.aq, 0.001), append(s.ap, 0.001)
	}
}

func row(v []float32, i int32, d int) []float32 { return v[int(i)*d : int(i)*d+d : int(i)*d+d] }

func (s *sequence) draw(n int) int {
	s.draws = s.draws*6364136223846793005 + 1442695040888963407
	return int((s.draws >> 33) % uint64(n))
}

func (s *sequence) learn(e *event) {
	if len(s.ring) < sequenceRing {
		s.ring = append(s.ring, e.item)
	} else {
		s.ring[s.targets%sequenceRing] = e.item
	}
	s.targets++
	var past [sequenceLags]int32
	n := 0
	for ; n < min(sequenceLags, len(e.past)); n++ {
		past[n] = e.past[n].item
	}
	s.step(e.item, past[:n])
	at := int(s.kept%sequenceMemory) * (1 + sequenceLags)
	if at == len(s.memory) {
		s.memory = append(s.memory, make([]int32, 1+sequenceLags)...)
	}
	old := s.memory[at : at+1+sequenceLags]
	old[0] = e.item
	for l := range sequenceLags {
		if l < n {
			old[1+l] = past[l]
		} else {
			old[1+l] = -1
		}
	}
	s.kept++
	if s.m.events < sequenceAgainFrom {
		return
	}
	at = s.draw(int(min(s.kept, sequenceMemory))) * (1 + sequenceLags)
	again := s.memory[at+1 : at+1+sequenceLags]
	n = 0
	for n < len(again) && again[n] >= 0 {
		n++
	}
	s.step(s.memory[at], again[:n])
}

func (s *sequence) step(target int32, past []int32) {
	if len(past) == 0 {
		return
	}
	d := s.d
	clear(s.h)
	for l, x := range past {
		kernels.Axpy(s.c[l], row(s.q, x, d), s.h)
	}
	s.ids[0] = target
	top := float32(0)
	for k := range s.ids {
		if k > 0 {
			s.ids[k] = s.ring[s.draw(len(s.ring))]
			if s.ids[k] == target {
				s.logits[k] = -1e9
				continue
			}
		}
		s.logits[k] = kernels.Dot(s.h, row(s.p, s.ids[k], d))
		top = max(top, s.logits[k])
	}
	var z float32
	for k, x := range s.logits {
		s.logits[k] = num.Exp32(x - top)
		z += s.logits[k]
	}
	clear(s.gh)
	hh := kernels.Dot(s.h, s.h)
	for k, i := range s.ids {
		g := s.logits[k] / z
		if k == 0 {
			g--
		}
		if g < 1e-5 && g > -1e-5 {
			continue
		}
		p := row(s.p, i, d)
		kernels.Axpy(g, p, s.gh)
		s.ap[i] += float32(float32(g*g)*hh) / float32(d)
		f := sequenceRate / num.Sqrt32(s.ap[i]+1e-8)
		kernels.AXPBY(-float32(f*g), s.h, 1-float32(f*sequenceDecay), p)
	}
	gg := kernels.Dot(s.gh, s.gh)
	for l, x := range past {
		q := row(s.q, x, d)
		dc := kernels.Dot(s.gh, q)
		s.aq[x] += float32(float32(s.c[l]*s.c[l])*gg) / float32(d)
		f := sequenceRate / num.Sqrt32(s.aq[x]+1e-8)
		kernels.AXPBY(-float32(f*s.c[l]), s.gh, 1-float32(f*sequenceDecay), q)
		s.gc[l] += float32(dc * dc)
		s.c[l] -= float32(0.02*sequenceRate*dc) / num.Sqrt32(s.gc[l]+1e-8)
	}
}

func (s *sequence) find(*ask) {}

func (s *sequence) fill(q *ask, f [][]float32) {
	h := q.numbers(s, s.d)
	for l, p := range q.past[:min(len(q.past), sequenceLags)] {
		kernels.Axpy(s.c[l], row(s.q, p.item, s.d), h)
	}
	for i, c := range q.pick {
		f[0][i] = kernels.Dot(h, row(s.p, q.cands[c], s.d))
	}
}

// from is the item of the history that adds most to h.P[j].
func (s *sequence) from(q *ask, c int) int32 {
	best, top := int32(-1), float32(0)
	p := row(s.p, q.cands[c], s.d)
	for l, x := range q.past[:min(len(q.past), sequenceLags)] {
		if v := s.c[l] * kernels.Dot(row(s.q, x.item, s.d), p); v > top && x.liked {
			best, top = x.item, v
		}
	}
	return best
}
