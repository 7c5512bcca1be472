package train

import (
	"fmt"
	"math"

	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/corastream/corastream/generator"
)

// qformer is generator.Model's Q-Former over memory x [rows][in]: the mean over the queries [rows][width].
func (b *builder) qformer(x *G.Node) *G.Node {
	spec := b.m.Spec.QFormer
	nq := spec.Queries
	h := G.Must(G.Mul(b.constant("tile", b.rows*nq, nq, func(i, j int) bool { return i%nq == j }, 1), b.at("qf.query")))
	spread := b.constant("spread", b.rows*nq, b.rows, func(i, j int) bool { return i/nq == j }, 1)
	for l := range spec.Layers {
		at := fmt.Sprintf("qf.%d.", l)
		h = b.layerNorm(G.Must(G.Add(h, b.selfAttention(h, at))), at+"self.norm")
		value := b.affine(b.affine(x, at+"cross.v"), at+"cross.o")
		h = b.layerNorm(G.Must(G.Add(h, G.Must(G.Mul(spread, value)))), at+"cross.norm")
		wide := b.gelu(b.affine(h, at+"ffn.0"))
		h = b.layerNorm(G.Must(G.Add(h, b.affine(wide, at+"ffn.1"))), at+"ffn.norm")
	}
	mean := b.constant("mean", b.rows, b.rows*nq, func(i, j int) bool { return j/nq == i }, 1/float32(nq))
	return G.Must(G.Mul(mean, h))
}

// constant is a matrix with v where on says so. Copying rows by a product with it keeps every node two-dimensional.
func (b *builder) constant(name string, rows, cols int, on func(i, j int) bool, v float32) *G.Node {
	data := make([]float32, rows*cols)
	for i := range data {
		if on(i/cols, i%cols) {
			data[i] = v
		}
	}
	return G.NewMatrix(b.g, tensor.Float32, G.WithShape(rows, cols), G.WithName(name),
		G.WithValue(tensor.New(tensor.WithShape(rows, cols), tensor.WithBacking(data))))
}

// selfAttention attends within each row's queries; the heads' outputs add up.
func (b *builder) selfAttention(h *G.Node, at string) *G.Node {
	spec := b.m.Spec.QFormer
	var sum *G.Node
	for c := range spec.Heads {
		project := func(name string) *G.Node {
			y := plus(G.Must(G.Mul(h, b.head(at+"self."+name+".weight", c))), b.head(at+"self."+name+".bias", c))
			return G.Must(G.Reshape(y, tensor.Shape{b.rows, spec.Queries, y.Shape()[1]}))
		}
		q, k, v := project("q"), project("k"), project("v")
		d := q.Shape()[2]
		scores := G.Must(G.HadamardProd(b.scalar(1/math.Sqrt(float64(d))), G.Must(G.BatchedMatMul(q, k, false, true))))
		mix := G.Must(G.BatchedMatMul(G.Must(G.SoftMax(scores, 2)), v))
		flat := G.Must(G.Reshape(mix, tensor.Shape{b.rows * spec.Queries, d}))
		part := G.Must(G.Mul(flat, b.head(at+"self.o.weight", c)))
		if sum == nil {
			sum = part
		} else {
			sum = G.Must(G.Add(sum, part))
		}
	}
	return plus(sum, b.at(at+"self.o.bias"))
}

// layerNorm normalises each row of x, then scales and shifts it.
func (b *builder) layerNorm(x *G.Node, name string) *G.Node {
	column := func(v *G.Node) *G.Node { return G.Must(G.Reshape(v, tensor.Shape{x.Shape()[0], 1})) }
	centred := G.Must(G.BroadcastSub(x, column(G.Must(G.Mean(x, 1))), nil, []byte{1}))
	variance := G.Must(G.Mean(G.Must(G.Square(centred)), 1))
	std := G.Must(G.Sqrt(G.Must(G.Add(variance, b.scalar(generator.LayerNormEps)))))
	unit := G.Must(G.BroadcastHadamardDiv(centred, column(std), nil, []byte{1}))
	return plus(G.Must(G.BroadcastHadamardProd(unit, b.at(name+".weight"), nil, []byte{0})), b.at(name+".bias"))
}
