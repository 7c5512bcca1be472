package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/corastream/corastream/serve/llm"
)

// compareLogits runs every prompt of the file in float32 and returns the largest difference, in standard deviations of the row.
func compareLogits(model, path string, tolerance float64) (float64, error) {
	o := llm.Default()
	o.Numerics = "f32"
	m, err := llm.Open(model, o)
	if err != nil {
		return 0, err
	}
	defer m.Close()
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	in := bufio.NewReader(f)
	var head struct {
		Magic         [8]byte
		Prompts, Size uint32
	}
	if err := binary.Read(in, binary.LittleEndian, &head); err != nil || string(head.Magic[:]) != "CORALOG1" {
		return 0, fmt.Errorf("%s: not a file of logits.py (%v)", path, err)
	}
	all, top := 0.0, 0
	for i := range head.Prompts {
		var n uint32
		if err := binary.Read(in, binary.LittleEndian, &n); err != nil || n == 0 || n > 1<<16 {
			return 0, fmt.Errorf("%s: prompt %d has %d tokens (%v)", path, i, n, err)
		}
		ids, want := make([]int32, n), make([]float32, head.Size)
		if err := binary.Read(in, binary.LittleEndian, ids); err != nil {
			return 0, fmt.Errorf("%s: prompt %d: %w", path, i, err)
		}
		if err := binary.Read(in, binary.LittleEndian, want); err != nil {
			return 0, fmt.Errorf("%s: prompt %d: %w", path, i, err)
		}
		got, err := m.Logits(context.Background(), ids)
		if err != nil {
			return 0, err
		}
		if len(got) != len(want) {
			return 0, fmt.Errorf("%d logits, want %d", len(got), len(want))
		}
		off, same := difference(got, want)
		if off > tolerance {
			fmt.Printf("prompt %d, %d tokens: %.1e standard deviations\n", i, n, off)
		}
		if all = max(all, off); same {
			top++
		}
		if off != off {
			return off, nil
		}
	}
	if _, err := in.ReadByte(); err != io.EOF {
		return 0, fmt.Errorf("%s: there is more after the last prompt", path)
	}
	fmt.Printf("%s: %d prompts, the highest logit is the same in %d, largest difference %.1e standard deviations\n", path, head.Prompts, top, all)
	return all, nil
}

// difference is the largest one in standard deviations of want, and whether the highest logit is the same one.
func difference(got, want []float32) (float64, bool) {
	var sum, squares, worst float64
	a, b := 0, 0
	for i, w := range want {
		sum, squares = sum+float64(w), squares+float64(w)*float64(w)
		if d := math.Abs(float64(got[i]) - float64(w)); d > worst || d != d {
			worst = d
		}
		if got[i] > got[a] {
			a = i
		}
		if w > want[b] {
			b = i
		}
	}
	mean := sum / float64(len(want))
	return worst / math.Sqrt(squares/float64(len(want))-mean*mean), a == b
}
