package generator

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Group says how a parameter is trained.
type Group int

// The groups: fixed numbers, ordinary weights, the linear path (a lower rate: it starts right), and biases, norms and the
// gain (no weight decay).
const (
	Fixed Group = iota
	Weight
	LinearPath
	Scalar
)

// Param is one tensor of a generator. Shape has two entries, or three for a stack of equal matrices (one for each head).
type Param struct {
	Name  string
	Shape []int
	Data  []float32
	Group Group
}

// Params is every tensor of a generator, in the checkpoint's order.
type Params []*Param

// Get returns the tensor of that name, nil when there is none.
func (p Params) Get(name string) *Param {
	for _, x := range p {
		if x.Name == name {
			return x
		}
	}
	return nil
}

// Clone returns a deep copy.
func (p Params) Clone() Params {
	out := make(Params, len(p))
	for i, x := range p {
		c := *x
		c.Shape = append([]int(nil), x.Shape...)
		c.Data = append([]float32(nil), x.Data...)
		out[i] = &c
	}
	return out
}

func (p *Params) add(group Group, name string, shape ...int) {
	*p = append(*p, &Param{Name: name, Shape: shape, Group: group})
}

// count is the number of values that the shape asks for.
func (p *Param) count() int {
	n := 1
	for _, d := range p.Shape {
		n *= d
	}
	return n
}

// paramsOf lists the tensors of a spec, without their values.
func paramsOf(s Spec) Params {
	var p Params
	in, size := s.inputs(), s.Size()
	p.add(Fixed, "in.mean", 1, in)
	p.add(Fixed, "in.scale", 1, in)
	switch s.Kind {
	case KindMLP:
		p.add(Weight, "mlp.0.weight", in, s.Width)
		p.add(Scalar, "mlp.0.bias", 1, s.Width)
		p.add(Weight, "out.weight", s.Width, size)
	case KindQFormer:
		w, h := s.queryWidth(), s.QFormer.Heads
		d := w / h
		p.add(Weight, "qf.query", s.QFormer.Queries, w)
		for l := range s.QFormer.Layers {
			at := fmt.Sprintf("qf.%d.", l)
			for _, x := range []string{"q", "k", "v"} {
				p.add(Weight, at+"self."+x+".weight", h, w, d)
				p.add(Scalar, at+"self."+x+".bias", h, 1, d)
			}
			p.add(Weight, at+"self.o.weight", h, d, w)
			p.add(Scalar, at+"self.o.bias", 1, w)
			p.norm(at+"self.norm", w)
			p.add(Weight, at+"cross.v.weight", in, w)
			p.add(Scalar, at+"cross.v.bias", 1, w)
			p.add(Weight, at+"cross.o.weight", w, w)
			p.add(Scalar, at+"cross.o.bias", 1, w)
			p.norm(at+"cross.norm", w)
			p.add(Weight, at+"ffn.0.weight", w, 4*w)
			p.add(Scalar, at+"ffn.0.bias", 1, 4*w)
			p.add(Weight, at+"ffn.1.weight", 4*w, w)
			p.add(Scalar, at+"ffn.1.bias", 1, w)
			p.norm(at+"ffn.norm", w)
		}
		p.add(Weight, "out.weight", w, size)
	}
	p.add(Scalar, "out.bias", 1, size)
	if s.Linear {
		p.add(LinearPath, "lin.weight", s.linearInputs(), size)
		p.add(Scalar, "gain", 1, 1)
	}
	return p
}

func (p *Params) norm(name string, w int) {
	p.add(Scalar, name+".weight", 1, w)
	p.add(Scalar, name+".bias", 1, w)
}

// initialise draws the starting values from a seed: matrices uniform in +-1/sqrt(in) (as PyTorch's Linear), queries from
// N(0, 0.02) (the paper), norms and the gain 1, biases and the linear path 0, inputs neither shifted nor scaled.
func (p Params) initialise(seed uint64) {
	for i, x := range p {
		x.Data = make([]float32, x.count())
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		switch {
		case x.Name == "gain" || x.Name == "in.scale" || x.Group == Scalar && hasSuffix(x.Name, ".norm.weight"):
			fill(x.Data, 1)
		case x.Name == "qf.query":
			for j := range x.Data {
				x.Data[j] = float32(0.02 * r.NormFloat64())
			}
		case x.Group == Weight:
			in := x.Shape[len(x.Shape)-2]
			if hasSuffix(x.Name, "self.o.weight") {
				in *= x.Shape[0] // the heads' parts add up
			}
			bound := 1 / math.Sqrt(float64(in))
			for j := range x.Data {
				x.Data[j] = float32(bound * (2*r.Float64() - 1))
			}
		}
	}
}

func hasSuffix(s, suffix string) bool {
	return len(s) >= len(suffix) && s[len(s)-len(suffix):] == suffix
}

func fill(x []float32, v float32) {
	for i := range x {
		x[i] = v
	}
}
