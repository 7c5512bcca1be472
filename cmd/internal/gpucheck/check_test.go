//go:build gpu

package gpucheck

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream/kernels/cuda"
)

// A part that fails is told and the others go on: memory that runs out costs its part alone, a lost device sends the rest to the program
// started anew, and what nobody measured is no goal reached. The summary is of all.
func TestGPUCheckGoesOnBehindAFailure(t *testing.T) {
	if os.Getenv("CORASTREAM_LIBCUDA") == "" {
		t.Skip("faults are injected by the emulated driver alone (`make test-cuda`)")
	}
	before := startAnew
	defer func() { startAnew = before }()
	stopped := errors.New("started anew")
	var carry string
	startAnew = func(_ []string, carried string) error {
		carry = carried
		return stopped
	}
	o := Options{Seconds: .001, Limit: 1, Tiny: true} // the time is over at once: only what was carried is told
	var out bytes.Buffer
	run := func(fault string, f func(c *checker) error) (errors int) {
		t.Helper()
		out.Reset()
		d, err := cuda.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		t.Setenv("CORASTREAM_EMULATE", fault)
		c := &checker{Sizes: TinySizes(), asked: o, w: &out, d: d, length: time.Millisecond, began: time.Now(), until: time.Now().Add(time.Hour), figures: map[string]float64{"scores, base": 7}}
		if err := f(c); err != nil && err != stopped {
			t.Error(err)
		}
		t.Setenv("CORASTREAM_EMULATE", "")
		return strings.Count(out.String(), `"gpu":"error"`)
	}
	products := func(c *checker) error { return c.products(t.Context()) }
	if n := run("alloc:2:2", products); n != 4 || carry != "" { // every later allocation fails too
		t.Errorf("memory that runs out: %d errors, carried %q\n%s", n, carry, &out)
	}
	if n := run("launch:1:700", products); n != 1 || !strings.Contains(carry, `"After":"product: qkv"`) {
		t.Errorf("a lost device: %d errors, carried %q\n%s", n, carry, &out)
	}
	hang := func(c *checker) error {
		return c.part(t.Context(), "hang", time.Millisecond, func() error { time.Sleep(time.Second); return nil })
	}
	if n := run("", hang); n != 1 || !strings.Contains(out.String(), "no end within") || !strings.Contains(carry, `"After":"hang","Bad":0,"Failed":1`) {
		t.Errorf("a part that hangs: %d errors, carried %q\n%s", n, carry, &out)
	}
	o.Carried = strings.Replace(carry, "hang", "catalogue", 1)
	out.Reset()
	err := Run(t.Context(), Deps{}, TinySizes(), o, &out)
	if err == nil || !strings.Contains(err.Error(), "4 parts failed") { // that, two of training, freshness
		t.Errorf("%v", err)
	}
	for _, want := range []string{`"error":"not measured"`, `"figure":7`, "not begun", `"parts_failed":4`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, &out)
		}
	}
	for _, never := range []string{`"ok":true`, "product"} {
		if strings.Contains(out.String(), never) {
			t.Errorf("%s in\n%s", never, &out)
		}
	}
}

// The count goes through on any machine, and what a case costs is what its products multiply: nothing is left to the CPU.
func TestGPURooflineCountsEveryCase(t *testing.T) {
	var out bytes.Buffer
	if err := Roofline(t.Context(), TinySizes(), &out); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, want := range []string{
		"| W_A, mlp, bf16, 40 users | 2 |", "Q-Former", "4 prompts of 20 tokens scored |", "of all layers", "a click, 4 candidates", "adapt all, 3 layers", "adapt last, 2 layers",
		"| adamw | 1 |", "| attend_16_",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// docs/measured/performance.md has the count of this code; `make roofline` writes it there.
func TestGPURooflineIsInTheDocs(t *testing.T) {
	mode := os.Getenv("CORASTREAM_ROOFLINE")
	if mode == "" {
		t.Skip("CORASTREAM_ROOFLINE=check counts the full sizes and compares; write writes (`make roofline`)")
	}
	var out bytes.Buffer
	if err := Roofline(t.Context(), FullSizes(), &out); err != nil {
		t.Fatal(err)
	}
	const file, begin, end = "../../../docs/measured/performance.md", "<!-- roofline: written by `make roofline` -->\n", "<!-- end of roofline -->"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(text), begin)
	old, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the roofline", file)
	}
	if old == out.String() {
		return
	}
	if mode != "write" {
		t.Fatalf("%s has another count than the code (run `make roofline`)", file)
	}
	if err := os.WriteFile(file, []byte(head+begin+out.String()+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}
