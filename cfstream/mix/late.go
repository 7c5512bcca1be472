package mix

// Codes that come late. `up` learns a log of years in seconds, and the LLM then takes minutes to read the catalogue. If training only
// began with the likes after that, a shop would wait for days for its first version. So likes are kept for training before any
// item has a code. Once the items of most of them are coded, a training begins that leaves out the newest fifth. The version it makes
// is judged at once by those, like by like and in their order, as if they came after it. The same is done
// when a new basis has replaced most codes.
//
// The start's and the version's weights in the mixture learn from the same rows, so neither begins with a guess.
const (
	lateHeld  = 5      // one row in so many is held out
	lateSeen  = 256    // newest rows, of whose targets half must be coded
	lateStill = 4000   // likes since the newest code: all have come. Whoever tells the codes says so sooner (toldAgain)
	lateMost  = 40_000 // likes since the first code: it begins whatever comes
	lateEvery = 4      // without codes, one like in so many is kept when the rows are full: keeping one takes time
	maxMissed = 1<<15 - 1
)

// late is what is known of rows that were kept before the present codes were.
type late struct {
	rows   bool // there are such rows, and no training has read them
	held   bool // the training under way holds rows out
	still  int  // likes since the newest code
	since  int  // likes since there were rows and codes
	missed int  // likes since the newest row that were not kept, because the mixture had their item not among its best
	turn   int
}

func (l *late) keeps(r *rows) bool {
	l.turn++
	return r.n() < r.most || l.turn%lateEvery == 0
}

func (l *late) code(c *coder) {
	c.bool(&l.rows)
	c.bool(&l.held)
	c.int(&l.still)
	c.int(&l.since)
	c.int(&l.missed)
	c.int(&l.turn)
}

// rowOf packs the weights' rows of a like, and how many likes before it are missing.
func rowOf(rows [3]int, missed int) int32 { return int32(rows[1] | rows[2]<<8 | missed<<16) }

func rowsOf(of int32) (rows [3]int, missed int) {
	rows[1], rows[2] = int(of&0xff), int(of>>8&0xff)
	for k, r := range rows {
		rows[k] = min(r, weightRows-1) // a damaged file
	}
	return rows, int(of >> 16)
}

// enough says whether a training with rows held out has something to read.
func (s *steer) enough() bool { return s.some > 0 && s.rows.n() >= s.m.spec.TrainAfter }

// ready says besides that most of what was taken has a code.
func (s *steer) ready() bool {
	n := s.rows.n()
	if !s.enough() {
		return false
	}
	seen, coded := min(n, lateSeen), 0
	for k := range seen {
		if s.coded[s.rows.cand[s.rows.newest(k)*tuneTop]] {
			coded++
		}
	}
	return 2*coded >= seen
}

// newest is the place of the row that k newer ones follow.
func (r *rows) newest(k int) int { return int((r.kept - 1 - int64(k)) % int64(r.most)) }

// toldAgain is called when an item's code is told that is known already. Whoever tells the codes does it to say that all are
// told, and once more when the training is done: a shop that is asleep has no likes by which either could be seen. The record is
// part of the log, so a re-run does the same at the same place.
func (s *steer) toldAgain() {
	switch {
	case s.solved != nil && s.late.held:
		s.receive()
	case s.solved == nil && s.court.rival == nil && s.late.rows && s.ready():
		s.begin(s.rows.n() / lateHeld)
	}
}

// TellAgain says that a code should be told once more: codes came after likes, and a training waits to begin or to be received.
func (m *Model) TellAgain() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s := m.steer
	if s == nil {
		return false
	}
	if s.solved != nil {
		return s.late.held && len(s.solved) > 0
	}
	return s.court.rival == nil && s.late.rows && s.ready()
}

// trained is what a training came to.
type trained struct {
	fit  fit
	held *held // nil: no rows were held out
}

// held is what the rows that were held out say.
type held struct {
	trial         duel // the new version against the active one
	active, fresh share
	worth         [2]worth // of the active version, of the new one
}

func (t *trained) code(c *coder, d int) {
	t.fit.code(c, d)
	some := t.held != nil
	c.bool(&some)
	if !some || c.err != nil {
		return
	}
	if t.held == nil {
		t.held = &held{}
	}
	h := t.held
	h.trial.code(c)
	h.active.code(c)
	h.fresh.code(c)
	h.worth[0].code(c)
	h.worth[1].code(c)
}

// order is the rows to train on.
func (t *tuning) order() []int32 {
	n := t.rows.n()
	out := make([]int32, 0, n)
	if t.held == 0 {
		for i := range n {
			out = append(out, int32(i))
		}
		return out
	}
	for k := n - 1; k >= t.held; k-- {
		out = append(out, int32(t.rows.newest(k)))
	}
	return out
}

// judge ranks the rows that were held out by the active version and by f, the oldest first. Each row is ranked first and then
// teaches both weights, as a like does.
func (t *tuning) judge(f *fit) *held {
	h := &held{active: t.active}
	h.fresh.w[0] = trainedWeight
	for r := range h.fresh.g {
		h.fresh.g[r] = weightStart
	}
	w := newTuneWork(t.d)
	warm := min(judgeWarm, t.held/2)
	for k := t.held - 1; k >= 0; k-- {
		r := t.rows.newest(k)
		cand, z := t.rows.cand[r*tuneTop:][:tuneTop], t.rows.z[r*tuneTop:][:tuneTop]
		n := 0
		for n < tuneTop && cand[n] >= 0 {
			n++
		}
		if n == 0 {
			continue
		}
		cand, z = cand[:n], z[:n]
		rows, missed := rowsOf(t.rows.of[r])
		without := 0
		for _, s := range z[1:] {
			if s > z[0] {
				without++
			}
		}
		var logp [2]float32
		var rank [2]int
		for side, of := range []*fit{t.toward, f} {
			of.features(t.codes, t.coded, t.rows.past[r*steerLags:][:steerLags], cand, w)
			x := w.x[:n]
			weight := &h.active
			if side == 1 {
				weight = &h.fresh
			}
			part := weight.part(rows)
			logp[side], rank[side] = rankOf(z, x, part)
			for range missed {
				h.worth[side].add(tuneTop, tuneTop)
			}
			h.worth[side].add(rank[side], without)
			w.step.start()
			for c := range z {
				w.step.put(z[c]+float32(part*x[c]), x[c], 1)
			}
			weight.step(rows, w.step.gradient())
		}
		if t.held-1-k >= warm {
			h.trial.add(float64(logp[1])-float64(logp[0]), gainOf(rank[1]), gainOf(rank[0]))
		}
	}
	return h
}

// first takes in a version that the rows held out have judged. They decide if lists with it are likely better than lists without
// any. Otherwise, and where they can not tell it from the active version, the likes that follow are added to them.
func (s *steer) first(t trained) {
	c, h := &s.court, t.held
	s.m.weights.setShare(h.active)
	s.worth = h.worth[0]
	v := s.sound(t.fit, s.since)
	if v == nil {
		return
	}
	v.share = h.fresh
	c.rival, c.trial, c.warm = v, h.trial, judgeWarm+1
	if with, err := h.worth[1].gain(); h.trial.rows >= judgeLeast && with-judgeLikely*err > 0 {
		s.weigh()
	}
	if c.active == v {
		s.worth = h.worth[1]
	}
}
