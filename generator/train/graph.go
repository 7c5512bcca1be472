package train

import (
	"fmt"
	"math"

	_ "go4.org/unsafe/assume-no-moving-gc" // gorgonia panics at start on a Go newer than it knows without this release
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/corastream/corastream/generator"
)

// graph differentiates sum(W_A * D) through the generator for a fixed number of rows, where D = dLoss/dW_A comes from the
// frozen LLM's backward pass. The nodes of the parameters share their memory with the model, so that an optimiser's step
// is seen at once.
//
// Gorgonia's traps that this file steers around, each seen to give silently wrong numbers: a Reshape of an input or parameter
// before a Broadcast op (nodes have their final shape from the start; only computed nodes are reshaped), InverseSqrt's
// gradient (Sqrt and a division instead), and gradients that add up over runs (cleared after each).
type graph struct {
	rows, in, lin, size int
	g                   *G.ExprGraph
	vm                  G.VM
	x, linear, upstream *G.Node
	w                   *G.Node
	weights             G.Value
	leaves              []leaf
}

// leaf is one node of a parameter: the whole of it, or one head's matrix.
type leaf struct {
	node *G.Node
	grad []float32 // where its gradient goes
}

// newGraph builds the graph for a model. Grads has one slice for each of the model's Params (nil for a fixed one).
func newGraph(m *generator.Model, rows int) (gr *graph, grads [][]float32, err error) {
	useKernels()
	defer func() { // G.Must panics on shapes that do not fit: a bug here, but a caller deserves an error
		if r := recover(); r != nil {
			err = fmt.Errorf("build the training graph of a %s generator: %v", m.Spec.Kind, r)
		}
	}()
	in, lin := m.Inputs()
	b := &builder{g: G.NewGraph(), m: m, rows: rows, nodes: map[string][]*G.Node{}}
	gr = &graph{rows: rows, in: in, lin: lin, size: m.Spec.Size(), g: b.g}
	grads = make([][]float32, len(m.Params))
	for i, p := range m.Params {
		if p.Group != generator.Fixed {
			grads[i] = make([]float32, len(p.Data))
			gr.leaves = append(gr.leaves, b.param(p, grads[i])...)
		}
	}
	gr.x = b.input("x", rows, in)
	gr.upstream = b.input("upstream", rows, gr.size)
	var body *G.Node
	if m.Spec.Kind == generator.KindMLP {
		body = b.gelu(b.affine(gr.x, "mlp.0"))
	} else {
		body = b.qformer(gr.x)
	}
	gr.w = b.normalise(b.affine(body, "out"), gr.size)
	if lin > 0 {
		gr.linear = b.input("linear", rows, lin)
		path := G.Must(G.Mul(gr.linear, b.at("lin.weight")))
		gr.w = G.Must(G.Add(path, G.Must(G.BroadcastHadamardProd(gr.w, b.at("gain"), nil, []byte{0, 1}))))
	}
	G.Read(gr.w, &gr.weights)
	cost := G.Must(G.Sum(G.Must(G.HadamardProd(gr.w, gr.upstream))))
	nodes := make(G.Nodes, len(gr.leaves))
	for i, l := range gr.leaves {
		nodes[i] = l.node
	}
	if _, err := G.Grad(cost, nodes...); err != nil {
		return nil, nil, fmt.Errorf("differentiate a %s generator: %w", m.Spec.Kind, err)
	}
	gr.vm = G.NewTapeMachine(b.g, G.BindDualValues(nodes...))
	return gr, grads, nil
}

// run computes the gradients for inputs x [rows][in], linear [rows][lin] and D [rows][size], into newGraph's grads.
func (gr *graph) run(x, linear, upstream []float32) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("run the training graph: %v", r)
		}
	}()
	feed := []struct {
		node *G.Node
		data []float32
		cols int
	}{{gr.x, x, gr.in}, {gr.upstream, upstream, gr.size}, {gr.linear, linear, gr.lin}}
	for _, f := range feed {
		if f.node == nil {
			continue
		}
		if err := G.Let(f.node, tensor.New(tensor.WithShape(gr.rows, f.cols), tensor.WithBacking(f.data))); err != nil {
			return err
		}
	}
	if err := gr.vm.RunAll(); err != nil {
		return err
	}
	for _, l := range gr.leaves {
		v, err := l.node.Grad()
		if err != nil {
			return err
		}
		data, ok := v.Data().([]float32)
		if !ok || len(data) != len(l.grad) {
			return fmt.Errorf("gradient of %s: %T of shape %v", l.node.Name(), v.Data(), v.Shape())
		}
		copy(l.grad, data)
		clear(data) // gorgonia adds to it in the next run
	}
	gr.vm.Reset()
	return nil
}

func (gr *graph) close() error { return gr.vm.Close() }

// builder turns a model's tensors into nodes.
type builder struct {
	g     *G.ExprGraph
	m     *generator.Model
	rows  int
	nodes map[string][]*G.Node
}

func (b *builder) input(name string, rows, cols int) *G.Node {
	return G.NewMatrix(b.g, tensor.Float32, G.WithShape(rows, cols), G.WithName(name))
}

// param makes the nodes of a tensor: one, or one for each matrix of a stack.
func (b *builder) param(p *generator.Param, grad []float32) []leaf {
	count, rows, cols := 1, p.Shape[0], p.Shape[1]
	if len(p.Shape) == 3 {
		count, rows, cols = p.Shape[0], p.Shape[1], p.Shape[2]
	}
	var leaves []leaf
	for c := range count {
		from, to := c*rows*cols, (c+1)*rows*cols
		value := tensor.New(tensor.WithShape(rows, cols), tensor.WithBacking(p.Data[from:to:to]))
		node := G.NewMatrix(b.g, tensor.Float32, G.WithShape(rows, cols), G.WithName(fmt.Sprintf("%s.%d", p.Name, c)), G.WithValue(value))
		b.nodes[p.Name] = append(b.nodes[p.Name], node)
		leaves = append(leaves, leaf{node, grad[from:to]})
	}
	return leaves
}

func (b *builder) at(name string) *G.Node          { return b.nodes[name][0] }
func (b *builder) head(name string, c int) *G.Node { return b.nodes[name][c] }

// affine is x w + b for the tensors name.weight and name.bias.
func (b *builder) affine(x *G.Node, name string) *G.Node {
	return plus(G.Must(G.Mul(x, b.at(name+".weight"))), b.at(name+".bias"))
}

// plus adds a row [1][n] to every row of x [rows][n].
func plus(x, row *G.Node) *G.Node { return G.Must(G.BroadcastAdd(x, row, nil, []byte{0})) }

func (b *builder) scalar(v float64) *G.Node { return G.NewConstant(float32(v)) }

// gelu is the tanh form, as kernels.GELU: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
func (b *builder) gelu(x *G.Node) *G.Node {
	cubic := G.Must(G.HadamardProd(b.scalar(0.044715), G.Must(G.Cube(x))))
	inner := G.Must(G.HadamardProd(b.scalar(math.Sqrt(2/math.Pi)), G.Must(G.Add(x, cubic))))
	half := G.Must(G.HadamardProd(b.scalar(0.5), x))
	return G.Must(G.HadamardProd(half, G.Must(G.Add(b.scalar(1), G.Must(G.Tanh(inner))))))
}

// normalise divides each row of x [rows][cols] by its length.
func (b *builder) normalise(x *G.Node, cols int) *G.Node {
	sum := G.Must(G.Sum(G.Must(G.Square(x)), 1))
	length := G.Must(G.Sqrt(G.Must(G.Add(sum, b.scalar(generator.NormEps)))))
	return G.Must(G.BroadcastHadamardDiv(x, G.Must(G.Reshape(length, tensor.Shape{x.Shape()[0], 1})), nil, []byte{1}))
}
