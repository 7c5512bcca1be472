package llm

import (
	"context"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/corastream/corastream/kernels"
	"github.com/corastream/corastream/serve/llm/gguf"
)

// A scale that is not a number would spread over all scores: the file is refused by the name of its tensor, and its row.
func TestBlocksThatAreNotFiniteAreRefused(t *testing.T) {
	for _, c := range []struct {
		typ    gguf.Type
		tensor string
		at     int // of a float16, in the block
	}{
		{gguf.Q4_1, "blk.1.attn_output.weight", 0},
		{gguf.Q4_1, "blk.1.ffn_up.weight", 2},
		{gguf.Q4_K, "blk.1.attn_k.weight", 0},
		{gguf.Q4_K, "blk.1.ffn_gate.weight", 2},
		{gguf.Q5_K, "blk.1.ffn_gate.weight", 2},
		{gguf.Q4_K, "blk.1.ffn_down.weight", 208},
	} {
		path := tinyFile(t, c.typ)
		f, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		tensor, err := f.Tensor(c.tensor)
		if err != nil {
			t.Fatal(err)
		}
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		row := len(tensor.Raw) / tensor.Rows()
		at := strings.Index(string(whole), string(tensor.Raw)) + 5*row + c.at
		whole[at], whole[at+1] = 0, 0x7c // infinity
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, whole, 0o644); err != nil {
			t.Fatal(err)
		}
		o := tinyOptions()
		o.Numerics = "int8"
		m, err := Open(path, o)
		if err == nil {
			m.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.tensor) || !strings.Contains(err.Error(), "row 5 ") {
			t.Errorf("%s at %d: %v", c.tensor, c.at, err)
		}
	}
}

// The head that talks takes K types as they are, too. Measured: off by .006 of the logits' size, where the states are brought to 8 bits.
func TestTheHeadTakesKTypesAsTheyAre(t *testing.T) {
	o := tinyOptions()
	o.Numerics = "int8"
	m := openFile(t, tinyFile(t, gguf.Q4_K), o)
	head, err := m.fullHead()
	if err != nil {
		t.Fatal(err)
	}
	if form, _ := kernels.Image(head[0]); form != "k" {
		t.Errorf("the head is packed as %s", form)
	}
	p, err := m.borrow(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer m.giveBack(p)
	x, y := make([]float32, m.arch.hidden), make([]float32, m.arch.hidden)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	got, err := p.vocabulary(x)
	if err != nil {
		t.Fatal(err)
	}
	kernels.RMSNorm(y, x, m.outNorm, m.arch.eps)
	row := make([]float32, len(y))
	var off, size float64
	for i, v := range got {
		if err := m.embedding.Row(row, i); err != nil {
			t.Fatal(err)
		}
		want := float64(kernels.Dot(y, row))
		off, size = off+(float64(v)-want)*(float64(v)-want), size+want*want
	}
	if ratio := math.Sqrt(off / size); !(ratio < .025) || len(got) != m.arch.vocab {
		t.Errorf("%d logits are off by %v of their size", len(got), ratio)
	} else {
		t.Logf("%d logits are off by %.2g of their size", len(got), ratio)
	}
}
