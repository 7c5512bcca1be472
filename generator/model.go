package generator

import (
	"fmt"
	"math"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
)

// NormEps is added to the sum of squares before its root, in the serving and in the training forward.
const NormEps = 1e-12

// LayerNormEps is added to a variance; BERT and the Q-Former of the paper use the same.
const LayerNormEps = 1e-12

// Model is a generator: a spec and its tensors. Forward is safe for concurrent use as long as nobody writes to Params.
type Model struct {
	Spec   Spec
	Params Params

	at  map[string][]float32
	qf  []qformerLayer
	out struct{ weight, bias []float32 }
}

// NewModel makes a generator with starting values drawn from seed. The spec must be valid.
func NewModel(s Spec, seed uint64) (*Model, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	m := &Model{Spec: s, Params: paramsOf(s)}
	m.Params.initialise(seed)
	m.bind()
	return m, nil
}

// bind looks the tensors up once.
func (m *Model) bind() {
	m.at = make(map[string][]float32, len(m.Params))
	for _, p := range m.Params {
		m.at[p.Name] = p.Data
	}
	m.out.weight, m.out.bias = m.at["out.weight"], m.at["out.bias"]
	m.qf = nil
	if m.Spec.Kind == KindQFormer {
		for l := range m.Spec.QFormer.Layers {
			m.qf = append(m.qf, m.qformerLayer(l))
		}
	}
}

// Inputs gives the widths of the two input rows: the non-linear part's, and the linear path's (0 without one).
func (m *Model) Inputs() (nonlinear, linear int) {
	if m.Spec.Linear {
		linear = m.Spec.linearInputs()
	}
	return m.Spec.inputs(), linear
}

// UserInput writes the inputs of the pair's user side: x [inputs] for the non-linear part, standardised, and lin
// [taste+2] = [t, mu+b_u, 1] for the linear path (nil without one). For `inputs: paper` x is concat(e_u, e_i).
func (m *Model) UserInput(x, lin []float32, p *corastream.Pair) error {
	s := &m.Spec
	want := s.Factors + s.Taste
	if len(p.User.Vec) != want {
		return fmt.Errorf("%w: user %q: an embedding of %d numbers, this generator reads %d (factors %d and taste %d)",
			corastream.ErrMismatch, p.UserID, len(p.User.Vec), want, s.Factors, s.Taste)
	}
	if s.PerPair() {
		if len(p.Item.Vec) != want {
			return fmt.Errorf("%w: item %q: an embedding of %d numbers, this generator reads %d (factors %d and taste %d)",
				corastream.ErrMismatch, p.ItemID, len(p.Item.Vec), want, s.Factors, s.Taste)
		}
		copy(x, p.User.Vec)
		x[want] = p.User.Bias
		copy(x[want+1:], p.Item.Vec)
		x[2*want+1] = p.Item.Bias
	} else {
		copy(x, p.User.Vec[s.Factors:])
		x[s.Taste] = p.User.Bias
	}
	mean, scale := m.at["in.mean"], m.at["in.scale"]
	for i := range x {
		x[i] = (x[i] - mean[i]) * scale[i]
	}
	if lin != nil {
		copy(lin, p.User.Vec[s.Factors:])
		lin[s.Taste], lin[s.Taste+1] = p.Mu+p.User.Bias, 1
	}
	return nil
}

// ItemColumn is A_b [hidden*rank], by which what behaviour says of the item enters (corastream.Pair.ItemScale): the linear path is linear in
// mu+b_u+b_i+p_u.q_i. nil without that path.
func (m *Model) ItemColumn() []float32 {
	if !m.Spec.Linear {
		return nil
	}
	n := m.Spec.Size()
	return m.at["lin.weight"][m.Spec.Taste*n : (m.Spec.Taste+1)*n]
}

// Forward computes dst [rows][hidden*rank] from the inputs x [rows][inputs] and lin [rows][taste+2]:
//
//	dst = lin L + gain * raw/|raw|,  raw = MLP(x) or Linear(mean over queries of QFormer(x))
//
// with gain 1 where there is no linear path (the paper). A row does not depend on the others.
func (m *Model) Forward(dst, x, lin []float32, rows int) {
	n, in := m.Spec.Size(), m.Spec.inputs()
	var body []float32
	width := m.Spec.Width
	if m.Spec.Kind == KindMLP {
		body = make([]float32, rows*width)
		affine(body, x, m.at["mlp.0.weight"], m.at["mlp.0.bias"], rows, in, width)
		kernels.GELU(body, body)
	} else {
		width = m.Spec.queryWidth()
		body = m.qformer(x, rows)
	}
	affine(dst, body, m.out.weight, m.out.bias, rows, width, n)
	gain := float32(1)
	if m.Spec.Linear {
		gain = m.at["gain"][0]
	}
	for r := range rows {
		row := dst[r*n : (r+1)*n]
		kernels.Scale(gain/norm(row), row)
	}
	if m.Spec.Linear {
		k := m.Spec.linearInputs()
		kernels.Gemm(dst, n, lin, k, m.at["lin.weight"], n, rows, n, k, false, false, true)
	}
}

func norm(x []float32) float32 {
	return float32(math.Sqrt(float64(kernels.Dot(x, x)) + NormEps))
}

// affine computes y [rows][out] = x [rows][in] w [in][out] + b [out].
func affine(y, x, w, b []float32, rows, in, out int) {
	for r := range rows {
		copy(y[r*out:(r+1)*out], b)
	}
	kernels.Gemm(y, out, x, in, w, out, rows, out, in, false, false, true)
}
