package llm

import (
	"context"
	"errors"
	"fmt"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
)

// Speak implements corastream.Speaker: it goes on with a conversation, token by token, with keys and values of what was read
// kept. Working memory is borrowed for one step at a time, so that scoring goes on in between; what an answer holds is its own
// keys and values, 8*layers*kvWidth bytes a token.
func (m *Model) Speak(ctx context.Context, d corastream.Dialogue, each func(corastream.Piece) error) (corastream.Reply, error) {
	if m.chatErr != nil {
		return corastream.Reply{}, m.chatErr
	}
	ids, err := m.chat.tokens(d.Messages)
	if err != nil {
		return corastream.Reply{}, err
	}
	return m.speak(ctx, ids, d, each)
}

// ChatTokens returns a conversation's tokens as Speak reads them.
func (m *Model) ChatTokens(msgs []corastream.Message) ([]int32, error) {
	if m.chatErr != nil {
		return nil, m.chatErr
	}
	return m.chat.tokens(msgs)
}

// ChatTemplate names the family of the model's conversations; the error says why there is none.
func (m *Model) ChatTemplate() (string, error) {
	if m.chatErr != nil {
		return "", m.chatErr
	}
	return m.chat.name, nil
}

// Continue is Speak behind given tokens; what ends an answer is the same.
func (m *Model) Continue(ctx context.Context, ids []int32, d corastream.Dialogue, each func(corastream.Piece) error) (corastream.Reply, error) {
	if err := m.checkTokens(ids); err != nil {
		return corastream.Reply{}, err
	}
	return m.speak(ctx, ids, d, each)
}

func (m *Model) speak(ctx context.Context, ids []int32, d corastream.Dialogue, each func(corastream.Piece) error) (corastream.Reply, error) {
	reply := corastream.Reply{PromptTokens: len(ids), Finish: "length"}
	room := m.opts.ContextTokens - len(ids)
	if room < 1 {
		return reply, corastream.Usagef("messages", "shorten them, or raise llm.context_tokens", "%d tokens leave no room for an answer in %d", len(ids), m.opts.ContextTokens)
	}
	if d.MaxTokens > 0 {
		room = min(room, d.MaxTokens)
	}
	choose, err := newChooser(m, d)
	if err != nil {
		return reply, err
	}
	s, err := m.newSession(d.Weights, d.Projection, len(ids)+room)
	if err != nil {
		return reply, err
	}
	out := &utterance{m: m, stop: d.Stop, each: each, start: m.prompts.tok.SpacePrefix()}
	from := len(ids) - 1 // `adapt: last` acts from the token on that the answer begins behind
	for {
		logits, err := s.read(ctx, ids, from)
		if err != nil {
			return reply, err
		}
		next, err := choose.next(logits)
		if err != nil {
			return reply, err
		}
		if m.ends(next.ID) {
			reply.Finish = "stop"
			return reply, out.finish()
		}
		reply.Tokens++
		if stopped, err := out.add(next); err != nil || stopped {
			reply.Finish = "stop"
			return reply, err
		}
		if reply.Tokens == room {
			return reply, out.finish()
		}
		ids, from = []int32{next.ID}, 0
	}
}

func (m *Model) ends(id int32) bool {
	if m.chat != nil {
		return m.chat.ends[id]
	}
	return id == m.prompts.tok.EOS()
}

// session is one sequence on its way through the model: the keys and values of what it has read.
type session struct {
	m    *Model
	d    *delta      // nil: the frozen model
	kv   [][]float32 // of each layer: keys [size][kvWidth], then values
	size int
	n    int // tokens read
}

func (m *Model) newSession(w *corastream.Weights, p *corastream.Projection, size int) (*session, error) {
	s := &session{m: m, size: size, kv: make([][]float32, m.arch.layers)}
	if w != nil {
		var err error
		if s.d, err = m.newDelta(1, []corastream.Weights{*w}, p, false); err != nil {
			return nil, err
		}
	}
	for l := range s.kv {
		s.kv[l] = make([]float32, 2*size*m.arch.kvWidth())
	}
	return s, nil
}

// read takes tokens through all layers behind those read before, and returns the vocabulary's logits behind the last one. A
// delta of `adapt: last` acts on ids[from:], any other on all of them.
func (s *session) read(ctx context.Context, ids []int32, from int) ([]float32, error) {
	if s.d != nil && s.d.adapt != corastream.AdaptLast {
		from = 0
	}
	for len(ids) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		n := min(len(ids), s.m.opts.BatchTokens)
		logits, err := s.step(ctx, ids[:n], min(n, max(0, from)), n == len(ids))
		if err != nil || n == len(ids) {
			return logits, err
		}
		ids, from = ids[n:], from-n
	}
	return nil, errors.New("llm: nothing to read")
}

// step reads one batch of tokens; rows from adapted on carry the delta.
func (s *session) step(ctx context.Context, ids []int32, adapted int, last bool) ([]float32, error) {
	m, n := s.m, len(ids)
	if s.n+n > s.size {
		return nil, fmt.Errorf("llm: %d tokens do not fit a session of %d", s.n+n, s.size)
	}
	p, err := m.borrow(ctx)
	if err != nil {
		return nil, err
	}
	defer m.giveBack(p)
	act := p.reserve(n)
	if err := p.embed(ids, act.x); err != nil {
		return nil, err
	}
	m.forward.Add(int64(n))
	st := &rowSet{rows: n, priv: n, pos: make([]int32, n)}
	for i := range st.pos {
		st.pos[i] = int32(s.n + i)
	}
	if s.d != nil {
		st.priv = adapted
		s.d.assign(st, []int{0}, func(int) int { return n - adapted })
	}
	for l := range m.arch.layers {
		p.project(l, st, s.d, act)
		s.keep(l, n, act.qkv)
		s.attend(p, l, n, act)
		p.finish(l, st, s.d, act, act.x)
	}
	s.n += n
	if !last {
		return nil, nil
	}
	return p.vocabulary(act.x[(n-1)*m.arch.hidden:])
}

// keep copies keys and values of the new rows.
func (s *session) keep(l, n int, qkv []float32) {
	a := s.m.arch
	w, q, k := a.kvWidth(), a.qkvWidth(), a.qWidth()
	for i := range n {
		row := qkv[i*q+k:]
		copy(s.kv[l][(s.n+i)*w:], row[:w])
		copy(s.kv[l][(s.size+s.n+i)*w:], row[w:2*w])
	}
}

// attend lets the new rows look at all that was read, themselves included; key/value heads are spread over the workers.
func (s *session) attend(p *pass, l, n int, act *activations) {
	a := s.m.arch
	d, group, w, total := a.headDim, a.heads/a.kvHeads, a.kvWidth(), s.n+n
	keys, values := s.kv[l][:total*w], s.kv[l][s.size*w:][:total*w]
	kernels.Parallel(s.m.opts.Threads, a.kvHeads, func(lo, hi, worker int) {
		k := &p.workers[worker]
		cache := append(k.cache[:0], kernels.Stretch{Keys: keys[lo*d:], Values: values[lo*d:], N: total, Stride: w})
		k.cache = cache
		s.m.attendBlock(l, act.att[lo*group*d:], act.qkv[lo*group*d:], n, cache, hi-lo, k)
	})
}

// headRowsEach is how many vocabulary entries one packed part of the head holds: small enough to spread over cores.
const headRowsEach = 1024

// packHead packs the whole LM head, on first use: scoring needs two of its rows and never pays for it. The 8-bit products take K types as
// the file has them; all else is in bfloat16 or float32.
func (m *Model) packHead() ([]kernels.Matrix, error) {
	t, err := m.head()
	if err != nil {
		return nil, err
	}
	pack := kernels.PackBF16
	if m.opts.Numerics == "f32" {
		pack = kernels.PackF32
	}
	h, parts := m.arch.hidden, (m.arch.vocab+headRowsEach-1)/headRowsEach
	stored := kernels.KRows{Type: t.Type.String(), Out: headRowsEach}
	row := len(t.Raw) / t.Rows()
	asStored := m.opts.Numerics == "int8" && kernels.KStacks([]kernels.KRows{stored}, h)
	if asStored {
		if err := finiteBlocks(m.file, t, row); err != nil {
			return nil, err
		}
	}
	out, errs := make([]kernels.Matrix, parts), make([]error, parts)
	kernels.Parallel(m.opts.Threads, parts, func(lo, hi, _ int) {
		var rows []float32
		if !asStored {
			rows = make([]float32, headRowsEach*h)
		}
		for i := lo; i < hi; i++ {
			n := min(headRowsEach, m.arch.vocab-i*headRowsEach)
			if asStored {
				raw := t.Raw[i*headRowsEach*row:][:n*row]
				out[i] = kernels.PackK([]kernels.KRows{{Type: stored.Type, Out: n, Blocks: raw}}, h)
				continue
			}
			for r := range n {
				if err := t.Row(rows[r*h:(r+1)*h], i*headRowsEach+r); err != nil {
					errs[i] = err
					return
				}
			}
			out[i] = pack(rows[:n*h], n, h)
		}
	})
	return out, errors.Join(errs...)
}

// vocabulary gives the logits of all tokens behind the row x [hidden].
func (p *pass) vocabulary(x []float32) ([]float32, error) {
	m := p.m
	head, err := m.fullHead()
	if err != nil {
		return nil, err
	}
	h := m.arch.hidden
	y, out := make([]float32, h), make([]float32, m.arch.vocab)
	kernels.RMSNorm(y, x[:h], m.outNorm, m.arch.eps)
	kernels.Parallel(m.opts.Threads, len(head), func(lo, hi, worker int) {
		for i := lo; i < hi; i++ {
			n := head[i].Out()
			head[i].Mul(out[i*headRowsEach:], n, y, h, 1, false, &p.workers[worker].scratch)
		}
	})
	return out, nil
}
