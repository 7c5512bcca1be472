package llm

import (
	"math"
	"testing"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/serve/llm/gguf"
)

// oracle is a plain forward pass in float64, one sequence at a time, straight from the file's tensors in the file's own row
// order: no cache, no batch, no shared code with the package but the file reader. Its delta acts on the positions that
// it is told.
type oracle struct {
	t      testing.TB
	f      *gguf.File
	m      *Model // for the shape alone
	tensor map[string][]float64
	// merge, when set, replaces the low-rank products: (alpha/r) P^T W_A^T is added to the dense weights.
	merge bool
}

func newOracle(t testing.TB, m *Model) *oracle {
	return &oracle{t: t, f: m.file, m: m, tensor: map[string][]float64{}}
}

func (o *oracle) get(name string) []float64 {
	if v, ok := o.tensor[name]; ok {
		return v
	}
	t, err := o.f.Tensor(name)
	if err != nil {
		o.t.Fatal(err)
	}
	v32 := make([]float32, t.Elements())
	if err := t.Float32(v32); err != nil {
		o.t.Fatal(err)
	}
	v := wide(v32)
	o.tensor[name] = v
	return v
}

func wide(v []float32) []float64 {
	w := make([]float64, len(v))
	for i, x := range v {
		w[i] = float64(x)
	}
	return w
}

// oracleDelta is one pair's W_A [hidden][rank] with P and the first position it acts on.
type oracleDelta struct {
	a    []float64
	p    map[corastream.Slot][]float64
	rank int
	s    float64
	from int
}

func deltaOf(w corastream.Weights, p *corastream.Projection, from int) *oracleDelta {
	dense := make([]float32, len(w.User))
	w.Dense(dense)
	d := &oracleDelta{a: wide(dense), p: map[corastream.Slot][]float64{}, rank: p.Rank, s: float64(p.Scale()), from: from}
	for k, v := range p.P {
		d.p[k] = wide(v)
	}
	return d
}

// fileRow is where output i of a q or k projection lies in the file: Llama's converters store turning pairs side by side.
func (o *oracle) fileRow(target corastream.Target, i int) int {
	if !o.m.arch.permuted || target != corastream.TargetQ && target != corastream.TargetK {
		return i
	}
	d := o.m.arch.headDim
	head, j := i/d, i%d
	return head*d + j%(d/2)*2 + j/(d/2)
}

// linear is y = Wx (+ b) (+ delta), outputs in file order.
func (o *oracle) linear(l int, target corastream.Target, tensor string, x []float64, d *oracleDelta, pos int) []float64 {
	w := o.get(name(l, tensor+".weight"))
	n := len(w) / len(x)
	y := make([]float64, n)
	slot := corastream.Slot{Layer: l, Target: target}
	var p []float64
	if d != nil && pos >= d.from {
		p = d.p[slot]
	}
	if p != nil && o.merge {
		w = append([]float64(nil), w...)
		for i := range n {
			row := w[o.fileRow(target, i)*len(x):]
			for k := range x {
				for r := range d.rank {
					row[k] += d.s * p[r*n+i] * d.a[k*d.rank+r]
				}
			}
		}
	}
	for i := range y {
		var a, b float64 // two sums: the loop is most of the tests' time
		row := w[i*len(x):][:len(x)]
		for k := 1; k < len(x); k += 2 {
			a += row[k-1] * x[k-1]
			b += row[k] * x[k]
		}
		if len(x)%2 == 1 {
			a += row[len(x)-1] * x[len(x)-1]
		}
		y[i] = a + b
	}
	if bias := name(l, tensor+".bias"); o.f.Has(bias) {
		for i, v := range o.get(bias) {
			y[i] += v
		}
	}
	if p != nil && !o.merge {
		for r := range d.rank {
			var t float64
			for k, v := range x {
				t += v * d.a[k*d.rank+r]
			}
			for i := range n {
				y[o.fileRow(target, i)] += d.s * t * p[r*n+i]
			}
		}
	}
	return y
}

func (o *oracle) norm(x []float64, w []float64) []float64 {
	var ss float64
	for _, v := range x {
		ss += v * v
	}
	r := 1 / math.Sqrt(ss/float64(len(x))+float64(o.m.arch.eps))
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = v * r * w[i]
	}
	return y
}

func (o *oracle) rotate(l int, v []float64, heads, pos int) {
	d := o.m.arch.headDim
	freqs := o.m.arch.freqs
	if o.m.arch.sees(l) > 0 {
		freqs = o.m.arch.local
	}
	for h := range heads {
		for i := range d / 2 {
			a, b := h*d+i, h*d+i+d/2
			if o.m.arch.permuted {
				a, b = h*d+2*i, h*d+2*i+1
			}
			s, c := math.Sincos(float64(pos) * float64(freqs[i]))
			v[a], v[b] = v[a]*c-v[b]*s, v[a]*s+v[b]*c
		}
	}
}

// trace is what a pass leaves behind, by layer and position.
type trace struct {
	x, att [][][]float64 // [layer][pos]: the residual stream at the layer's input, the o-projection's input
	gate   [][][]float64 // the input of gate and up
	final  []float64     // normed state of the last position
}

// heads norms each head of v in place, in families that do.
func (o *oracle) heads(l int, tensor string, v []float64) {
	d := o.m.arch.headDim
	for h := 0; o.f.Has(name(l, tensor)) && h < len(v); h += d {
		copy(v[h:h+d], o.norm(v[h:h+d], o.get(name(l, tensor))))
	}
}

// added norms what a layer adds, in families that do.
func (o *oracle) added(l int, tensor string, v []float64) []float64 {
	if !o.f.Has(name(l, tensor)) {
		return v
	}
	return o.norm(v, o.get(name(l, tensor)))
}

func (o *oracle) forward(ids []int32, d *oracleDelta) *trace {
	a := o.m.arch
	tr := &trace{}
	emb := o.get("token_embd.weight")
	x := make([][]float64, len(ids))
	for i, id := range ids {
		x[i] = append([]float64(nil), emb[int(id)*a.hidden:(int(id)+1)*a.hidden]...)
		for j := range x[i] {
			if a.name == "gemma3" {
				x[i][j] *= math.Sqrt(float64(a.hidden))
			}
		}
	}
	for l := range a.layers {
		in := make([][]float64, len(x))
		ks, vs, atts, gates := make([][]float64, len(x)), make([][]float64, len(x)), make([][]float64, len(x)), make([][]float64, len(x))
		for i := range x {
			in[i] = append([]float64(nil), x[i]...)
			n := o.norm(x[i], o.get(name(l, "attn_norm.weight")))
			q := o.linear(l, corastream.TargetQ, "attn_q", n, d, i)
			ks[i] = o.linear(l, corastream.TargetK, "attn_k", n, d, i)
			vs[i] = o.linear(l, corastream.TargetV, "attn_v", n, d, i)
			o.heads(l, "attn_q_norm.weight", q)
			o.heads(l, "attn_k_norm.weight", ks[i])
			o.rotate(l, q, a.heads, i)
			o.rotate(l, ks[i], a.kvHeads, i)
			from := 0
			if n := a.sees(l); n > 0 {
				from = max(0, i+1-n)
			}
			att := make([]float64, a.qWidth())
			for h := range a.heads {
				g := h / (a.heads / a.kvHeads) * a.headDim
				var sum float64
				e := make([]float64, i+1)
				for t := from; t <= i; t++ {
					var s float64
					for j := range a.headDim {
						s += q[h*a.headDim+j] * ks[t][g+j]
					}
					e[t] = math.Exp(s / math.Sqrt(float64(a.headDim)))
					sum += e[t]
				}
				for t := from; t <= i; t++ {
					for j := range a.headDim {
						att[h*a.headDim+j] += e[t] / sum * vs[t][g+j]
					}
				}
			}
			atts[i] = att
			for j, v := range o.added(l, "post_attention_norm.weight", o.linear(l, corastream.TargetO, "attn_output", att, d, i)) {
				x[i][j] += v
			}
			n = o.norm(x[i], o.get(name(l, "ffn_norm.weight")))
			gates[i] = n
			gate := o.linear(l, corastream.TargetGate, "ffn_gate", n, d, i)
			up := o.linear(l, corastream.TargetUp, "ffn_up", n, d, i)
			for j, g := range gate {
				if a.name == "gemma3" {
					up[j] *= g / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(g+.044715*g*g*g)))
				} else {
					up[j] *= g / (1 + math.Exp(-g))
				}
			}
			for j, v := range o.added(l, "post_ffw_norm.weight", o.linear(l, "down", "ffn_down", up, d, i)) {
				x[i][j] += v
			}
		}
		tr.x, tr.att, tr.gate = append(tr.x, in), append(tr.att, atts), append(tr.gate, gates)
	}
	tr.final = o.norm(x[len(x)-1], o.get("output_norm.weight"))
	return tr
}

// logit of one vocabulary entry.
func (o *oracle) logit(tr *trace, id int) float64 {
	head := "output.weight"
	if !o.f.Has(head) {
		head = "token_embd.weight"
	}
	var s float64
	for i, w := range o.get(head)[id*len(tr.final) : (id+1)*len(tr.final)] {
		s += w * tr.final[i]
	}
	return s
}
