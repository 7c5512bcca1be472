package cuda

import (
	"fmt"
	"strings"
)

// Peak is what a device can do in a second, by its data sheet.
type Peak struct {
	Name                 string
	Bytes, Tensor, Float float64 // of memory; operations of dense bfloat16 on tensor cores; of float32 beside them
}

// H200 is NVIDIA's data sheet for the H200 SXM: 4.8 TB/s of HBM3e, 989 TFLOPS dense bfloat16 (1,979 with sparsity), 67 TFLOPS float32.
var H200 = Peak{Name: "H200", Bytes: 4.8e12, Tensor: 989e12, Float: 67e12}

// Work is what launches cost: operations (a multiplication with its addition is two) and bytes of device memory, every operand of a launch
// counted once, as if no launch found the one before in the second-level cache.
type Work struct {
	Launches              int
	Tensor, Float         float64 // operations
	BytesRead, BytesWrite float64
}

func (w Work) plus(x Work) Work {
	return Work{w.Launches + x.Launches, w.Tensor + x.Tensor, w.Float + x.Float, w.BytesRead + x.BytesRead, w.BytesWrite + x.BytesWrite}
}

// Bytes of both directions.
func (w Work) Bytes() float64 { return w.BytesRead + w.BytesWrite }

// Seconds is the roofline: the longest of what memory, tensor cores and the others need at their peaks, and which it is.
func (w Work) Seconds(p Peak) (s float64, bound string) {
	s, bound = w.Bytes()/p.Bytes, "memory"
	if t := w.Tensor / p.Tensor; t > s {
		s, bound = t, "tensor cores"
	}
	if t := w.Float / p.Float; t > s {
		s, bound = t, "float32"
	}
	return s, bound
}

// launched is one launch as its cost sees it.
type launched struct {
	kernel string
	grid   [3]int
	args   []uint64
	ints   func(at uint64, n int) []int32 // what was uploaded there
}

func (l launched) n(i int) float64 { return float64(int32(uint32(l.args[i]))) }

// list reads n ints that argument i points to.
func (l launched) list(i, n int) []int32 { return l.ints(l.args[i], n) }

// distinct counts different values.
func distinct(v []int32, every, from int) float64 {
	seen := map[int32]bool{}
	for i := from; i < len(v); i += every {
		if v[i] >= 0 {
			seen[v[i]] = true
		}
	}
	return float64(len(seen))
}

// costs says what a launch of each kernel takes, from its own arguments (see src/): products by what they multiply, the rest by what they
// read and write and by a count of operations for each value that leaves out what is done once a row.
var costs = map[string]func(l launched) Work{
	"gemm": func(l launched) Work {
		m, n, k := l.n(8), l.n(9), l.n(10)+l.n(11)
		w := Work{Tensor: 2 * m * n * k, BytesRead: 2*m*k + 2*n*k}
		if l.args[14] != 0 {
			w.BytesRead += 4 * n
		}
		switch strings.Split(l.kernel, "_")[1] {
		case "floats":
			w.BytesWrite = 4 * m * n
		case "add":
			w.BytesRead, w.BytesWrite = w.BytesRead+4*m*n, 4*m*n
		case "swiglu":
			w.BytesWrite = m * n
		default:
			w.BytesWrite = 2 * m * n
		}
		return w
	},
	"attend": func(l launched) Work {
		heads, group, q, kv := float64(l.grid[1]), l.n(13), l.n(2), l.n(3)
		var w Work
		for t, tiles := 0, l.list(7, 2*l.grid[0]); t < len(tiles); t += 2 {
			run := l.list(8, 8*int(tiles[t]+1))[8*tiles[t]:]
			first, rows, before := float64(tiles[t+1]), float64(run[1]), float64(run[4])
			width := 64 // rows of a tile: a query of each head of the group
			if strings.HasSuffix(l.kernel, "_1") {
				width = 16
			}
			n := min(float64(width/int(group)), rows-first)
			seen := n*(before+first) + n*(n+1)/2 // pairs of query and key
			w.Tensor += 4 * l.n(12) * seen * heads * group
			w.BytesRead, w.BytesWrite = w.BytesRead+2*n*q, w.BytesWrite+2*n*q
			if first+n == rows { // keys and values of a run once
				w.BytesRead += 4 * kv * (before + rows)
			}
		}
		return w
	},
	"rms_norm": func(l launched) Work {
		n := l.n(3) * l.n(4)
		return Work{Float: 4 * n, BytesRead: 4 * n, BytesWrite: 2 * l.n(3) * l.n(6)}
	},
	"gather": func(l launched) Work {
		n := 4 * l.n(6) * l.n(7)
		return Work{BytesRead: n, BytesWrite: n}
	},
	"head": func(l launched) Work {
		return Work{Float: 6 * l.n(4) * l.n(5), BytesRead: 4 * l.n(4) * l.n(5), BytesWrite: 8 * l.n(4)}
	},
	"read_titles": func(l launched) Work {
		items := l.list(3, l.grid[0]+1)
		n := float64(items[l.grid[0]]-items[0]) * l.n(1)
		return Work{Float: n, BytesRead: 4 * n, BytesWrite: 8 * float64(l.grid[0]) * l.n(1)}
	},
	"delta_down": func(l launched) Work {
		hidden, rank := l.n(5), l.n(6)
		tiles := l.list(2, 4*l.grid[0])
		w := Work{BytesRead: 2 * hidden * rank * (distinct(tiles, 4, 2) + distinct(tiles, 4, 3))}
		for t := 0; t < len(tiles); t += 4 {
			n, mats := float64(tiles[t+1]), 1.
			if tiles[t+3] >= 0 {
				mats = 2
			}
			w = w.plus(Work{Tensor: 2 * n * hidden * rank * mats, BytesRead: 2 * n * hidden, BytesWrite: 2 * n * rank})
		}
		return w
	},
	"swiglu": func(l launched) Work {
		n := float64(l.grid[0])
		return Work{Float: 5 * n * l.n(2), BytesRead: 4 * n * l.n(2), BytesWrite: 2 * n * l.n(4)}
	},
	"swiglu_back": func(l launched) Work {
		n := float64(l.grid[0]) * l.n(4)
		return Work{Float: 12 * n, BytesRead: 6 * n, BytesWrite: 4 * n}
	},
	"head_back": func(l launched) Work {
		n := l.n(6) * l.n(7)
		return Work{Float: 12 * n, BytesRead: 4 * n, BytesWrite: 6 * n}
	},
	"norm_back": func(l launched) Work {
		n := l.n(5) * l.n(6)
		return Work{Float: 12 * n, BytesRead: 12 * n, BytesWrite: 6 * n}
	},
	"turn_back": func(l launched) Work {
		n := float64(l.grid[0]) * l.n(1)
		return Work{Float: 3 * n, BytesRead: 4 * n, BytesWrite: 2 * n}
	},
	"scatter_rows": func(l launched) Work {
		n := float64(l.grid[0]) * l.n(3)
		return Work{BytesRead: 4 * n, BytesWrite: 4 * n}
	},
	"delta_up": func(l launched) Work {
		hidden, rank, tiles := l.n(6), l.n(7), l.list(3, 4*l.grid[0])
		w := Work{BytesRead: 2 * hidden * rank * (distinct(tiles, 4, 2) + distinct(tiles, 4, 3))}
		for t := 0; t < len(tiles); t += 4 {
			n := float64(tiles[t+1])
			w = w.plus(Work{Float: 2 * n * hidden * rank, BytesRead: 4 * n * (rank + hidden), BytesWrite: 4 * n * hidden})
		}
		return w
	},
	"delta_grad": func(l launched) Work {
		hidden, rank, spans := l.n(5), l.n(6), l.list(4, 2*l.grid[0])
		w := Work{BytesRead: 4 * float64(l.grid[0]) * hidden * rank, BytesWrite: 4 * float64(l.grid[0]) * hidden * rank}
		for s := 0; s < len(spans); s += 2 {
			n := float64(spans[s+1] - spans[s])
			w = w.plus(Work{Float: 2 * n * hidden * rank, BytesRead: n * (2*hidden + 4*rank)})
		}
		return w
	},
	"p_grad": func(l launched) Work {
		rows, out, rank := l.n(4), l.n(6), l.n(7)
		return Work{Float: 2 * rows * out * rank, BytesRead: 2 * rows * (out + rank), BytesWrite: 4 * float64(l.grid[1]) * out * rank}
	},
	"p_sum": func(l launched) Work {
		n := l.n(2)
		return Work{Float: n * l.n(1), BytesRead: 4 * n * (l.n(1) + 1), BytesWrite: 4 * n}
	},
	"attend_back_q": func(l launched) Work {
		tasks, head, heads := l.list(7, 2*l.grid[0]), l.n(13), float64(l.grid[1])
		var w Work
		for t := 0; t < len(tasks); t += 2 {
			run := l.list(8, 8*int(tasks[t]+1))[8*tasks[t]:]
			keys := float64(run[4] + tasks[t+1] + 1)
			w.Float += 6 * keys * head * heads
			if tasks[t+1] == run[1]-1 { // keys and values of a run once
				w.BytesRead += 4 * l.n(3) * keys
			}
			w.BytesRead, w.BytesWrite = w.BytesRead+6*head*heads, w.BytesWrite+4*head*heads+12*heads
		}
		return w
	},
	"attend_back_kv": func(l launched) Work {
		tasks, head, kvs, group := l.list(4, 2*l.grid[0]), l.n(10), float64(l.grid[1]), l.n(11)
		var w Work
		for t := 0; t < len(tasks); t += 2 {
			run := l.list(5, 8*int(tasks[t]+1))[8*tasks[t]:]
			queries := float64(run[1] - max(0, tasks[t+1]-run[4]))
			w = w.plus(Work{Float: 8 * queries * head * kvs * group, BytesRead: 4 * head * kvs, BytesWrite: 8 * head * kvs})
			if tasks[t+1] == 0 { // a run's queries and the gradients of their outputs once
				w.BytesRead += 6 * float64(run[1]) * head * kvs * group
			}
		}
		return w
	},
	"mlp_rows": func(l launched) Work {
		rows, in, width := float64(l.grid[0]), l.n(7), l.n(8)
		return Work{Float: rows * (2*in*width + 2*(width+1)*(width+1)), BytesRead: 4*rows*(in+l.n(9)) + 4*(in+1)*width + 4*(width+1)*(width+1), BytesWrite: 2 * rows * l.n(11)}
	},
	"qf_start": func(l launched) Work {
		n := float64(l.grid[0]) * l.n(2)
		return Work{BytesRead: 4 * l.n(1) * l.n(2), BytesWrite: 6 * n}
	},
	"qf_attend": func(l launched) Work {
		n := float64(l.grid[0]) * l.n(2) * l.n(3)
		return Work{Float: 4 * n * l.n(2), BytesRead: 6 * n, BytesWrite: 2 * n}
	},
	"qf_norm": func(l launched) Work {
		n := l.n(7) * l.n(8)
		w := Work{Float: 7 * n, BytesRead: 4 * n, BytesWrite: 6 * n}
		if l.args[1] != 0 {
			w.BytesRead += 4 * n / l.n(3)
		}
		return w
	},
	"qf_mean": func(l launched) Work {
		n := float64(l.grid[0]) * l.n(2)
		return Work{Float: n * l.n(1), BytesRead: 4 * n * l.n(1), BytesWrite: 2 * n}
	},
	"unit_rows": func(l launched) Work {
		n := float64(l.grid[0]) * l.n(2)
		return Work{Float: 3 * n, BytesRead: 4 * n, BytesWrite: 4 * n}
	},
	"round_rows": func(l launched) Work {
		n := float64(l.grid[0]) * l.n(2)
		return Work{BytesRead: 4 * n, BytesWrite: 2 * n}
	},
	"learn_hidden": func(l launched) Work {
		rows, in, width := float64(l.grid[0]), l.n(3), l.n(4)
		return Work{Float: 2 * rows * in * width, BytesRead: 4 * (rows*in + in*width), BytesWrite: 8 * rows * width}
	},
	"learn_affine": func(l launched) Work {
		rows, k, size := l.n(3), l.n(4), l.n(5)
		return Work{Float: 2 * rows * k * size, BytesRead: 4 * (rows*k + k*size), BytesWrite: 4 * rows * size}
	},
	"learn_unit": func(l launched) Work {
		n := float64(l.grid[0]) * l.n(4)
		return Work{Float: 4 * n, BytesRead: 8 * n, BytesWrite: 2 * n}
	},
	"learn_unit_back": func(l launched) Work {
		n := float64(l.grid[0]) * l.n(4)
		return Work{Float: 8 * n, BytesRead: 8 * n, BytesWrite: 4 * n}
	},
	"learn_outer": func(l launched) Work {
		k, rows, size := l.n(1), l.n(3), l.n(4)
		return Work{Float: 2 * k * rows * size, BytesRead: 4 * rows * (k + size), BytesWrite: 4 * k * size}
	},
	"learn_back": func(l launched) Work {
		rows, k, size := float64(l.grid[0]), l.n(3), l.n(4)
		return Work{Float: 2 * rows * k * size, BytesRead: 4 * (rows*size + k*size), BytesWrite: 4 * rows * k}
	},
	"learn_gelu": func(l launched) Work { return Work{Float: 8 * l.n(1), BytesRead: 4 * l.n(1), BytesWrite: 4 * l.n(1)} },
	"learn_norm": func(l launched) Work {
		n := l.n(6) * l.n(7)
		return Work{Float: 8 * n, BytesRead: 4*n + 4*n/l.n(2), BytesWrite: 8 * n}
	},
	"learn_norm_back": func(l launched) Work {
		n := l.n(4) * l.n(5)
		return Work{Float: 9 * n, BytesRead: 8 * n, BytesWrite: 4 * n}
	},
	"learn_scale_back": func(l launched) Work {
		n := l.n(2) * l.n(3)
		return Work{Float: 2 * n, BytesRead: 8 * n, BytesWrite: 4 * l.n(3)}
	},
	"learn_mix": func(l launched) Work {
		n := float64(l.grid[0]) * l.n(3) * l.n(4)
		return Work{Float: 4 * n * l.n(3), BytesRead: 12 * n, BytesWrite: 4 * n}
	},
	"learn_mix_back": func(l launched) Work {
		n := float64(l.grid[0]) * l.n(5) * l.n(6)
		return Work{Float: 8 * n * l.n(5), BytesRead: 16 * n, BytesWrite: 12 * n}
	},
	"learn_sum": func(l launched) Work {
		n := float64(l.grid[0]) * l.n(4)
		return Work{Float: n * l.n(1), BytesRead: 4 * n * l.n(1), BytesWrite: 4 * n}
	},
	"learn_spread": func(l launched) Work {
		n := float64(l.grid[0]) * l.n(3)
		return Work{Float: n, BytesRead: 4 * l.n(2) * l.n(3), BytesWrite: 4 * n}
	},
	"put_rows": func(l launched) Work {
		n := float64(l.grid[0]) * l.n(2)
		return Work{BytesRead: 4 * n, BytesWrite: 4 * n}
	},
	"p_forms": func(l launched) Work {
		n := l.n(3) * l.n(4)
		return Work{Float: n, BytesRead: 4*n + 8*l.n(3), BytesWrite: 2*l.n(3)*l.n(6) + 2*n}
	},
	"p_take": func(l launched) Work {
		n := l.n(3) * l.n(4)
		return Work{Float: 2 * n, BytesRead: 8*n + 8*l.n(3), BytesWrite: 4 * n}
	},
	"grad_square": func(l launched) Work { return Work{Float: 2 * l.n(1), BytesRead: 4 * l.n(1)} },
	"grad_length": func(l launched) Work { return Work{Float: l.n(1), BytesRead: 8 * l.n(1)} },
	"adamw": func(l launched) Work {
		return Work{Float: 12 * l.n(4), BytesRead: 16 * l.n(4), BytesWrite: 12 * l.n(4)}
	},
}

// costOf finds a kernel's cost; products and attention have forms.
func costOf(l launched) (Work, error) {
	name := l.kernel
	if strings.HasPrefix(name, "gemm_") {
		name = "gemm"
	} else if strings.HasPrefix(name, "attend_") && !strings.HasPrefix(name, "attend_back") {
		name = "attend"
	}
	f := costs[name]
	if f == nil {
		return Work{}, fmt.Errorf("cuda: what %s costs is not known (roofline.go)", l.kernel)
	}
	w := f(l)
	w.Launches = 1
	return w, nil
}
