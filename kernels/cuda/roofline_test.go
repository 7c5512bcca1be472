package cuda

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every kernel has a cost, and every cost a kernel.
func TestEveryKernelHasACost(t *testing.T) {
	files, err := filepath.Glob("ptx/*.ptx")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	used := map[string]bool{}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, kernel := range entries(string(text)) {
			name := kernel
			for _, form := range []string{"gemm", "attend_back_q", "attend_back_kv", "attend"} {
				if strings.HasPrefix(kernel, form) {
					name = form
					break
				}
			}
			if costs[name] == nil {
				t.Errorf("%s has no cost", kernel)
			}
			used[name] = true
		}
	}
	for name := range costs {
		if !used[name] {
			t.Errorf("%s has a cost and is no kernel", name)
		}
	}
}

// The counter counts what the engines launch: here two launches that are easily counted by hand.
func TestCounterCountsLaunches(t *testing.T) {
	d, c, err := OpenCounter(H200)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	shape := AttendShape{HeadDim: 64, Group: 3, KVHeads: 3}
	plan := shape.Plan([]Run{{N: 100}, {Row: 100, N: 1, Out: 100, Ref: 100, Before: 40}}, make([]int32, 141))
	if err := d.Do(t.Context(), func(q *Queue) error {
		u := &uploads{q: q}
		u.run(func() error {
			return q.Gemm(Gemm{End: "add", M: 256, N: 64, K: 96, K2: 32, A: 1, W: 1, A2: 1, W2: 1, LDA: 96, LDW: 96, LDA2: 32, LDW2: 32, Out: 1, LDO: 64})
		})
		few, many, runs := u.ints(plan.Few), u.ints(plan.Many), u.ints(plan.Runs)
		u.run(func() error {
			return q.Attend(plan, Attend{QKV: 1, LDQ: 960, QWidth: 576, KVWidth: 192, Few: few, Many: many, Runs: runs, Out: 1, LDO: 576})
		})
		return u.err
	}); err != nil {
		t.Fatal(err)
	}
	got := map[string]Work{}
	for _, w := range c.Counted() {
		got[w.Kernel] = w.Work
	}
	want := map[string]Work{
		"gemm_add_small": {Launches: 1, Tensor: 2 * 256 * 64 * 128, BytesRead: 2*256*128 + 2*64*128 + 4*256*64, BytesWrite: 4 * 256 * 64},
		// 100 queries see 1 to 100 keys, in 9 heads; scores and sums take 2 products each
		"attend_64_4": {Launches: 1, Tensor: 4 * 64 * 9 * 5050, BytesRead: 2*100*576 + 4*100*192, BytesWrite: 2 * 100 * 576},
		"attend_64_1": {Launches: 1, Tensor: 4 * 64 * 9 * 41, BytesRead: 2*576 + 4*41*192, BytesWrite: 2 * 576},
	}
	for k, w := range want {
		if got[k] != w {
			t.Errorf("%s: %+v, want %+v", k, got[k], w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d kernels counted, want %d", len(got), len(want))
	}
	if s, bound := got["gemm_add_small"].Seconds(H200); bound != "memory" || s != got["gemm_add_small"].Bytes()/4.8e12 {
		t.Errorf("%v s, by %s", s, bound)
	}
}
