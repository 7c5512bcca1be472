package generator

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/bounded"
)

func TestCheckpointComesBackBitForBit(t *testing.T) {
	eachKind(t, func(t *testing.T, spec Spec) {
		c := smallCheckpoint(t, spec, 6)
		path := filepath.Join(t.TempDir(), "demo.safetensors")
		if err := c.Save(path); err != nil {
			t.Fatal(err)
		}
		got, err := Open(path, Want{
			LLM: "llm", Template: "template", CF: "cf", Basis: c.Basis.Digest(), Hidden: spec.Hidden, Layers: 5,
			Out: map[corastream.Target]int{"q": 4, "o": 4},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got.Model.Spec.Digest() != spec.Digest() || got.Made != c.Made || got.Basis.Digest() != c.Basis.Digest() || got.Figures["valid.cora.auc"] != 0.75 {
			t.Errorf("spec %+v, made %+v, figures %v", got.Model.Spec, got.Made, got.Figures)
		}
		for i, p := range c.Model.Params {
			if q := got.Model.Params[i]; q.Name != p.Name || q.Group != p.Group || !equalBits(p.Data, q.Data) {
				t.Errorf("%s differs", p.Name)
			}
		}
		if len(got.Projection.P) != len(c.Projection.P) || got.Projection.Scale() != c.Projection.Scale() || got.Projection.Adapt != c.Projection.Adapt {
			t.Errorf("projection %+v", got.Projection)
		}
		for slot, p := range c.Projection.P {
			if !equalBits(p, got.Projection.P[slot]) {
				t.Errorf("P of %v differs", slot)
			}
		}
		was, err1 := c.Digest()
		is, err2 := got.Digest()
		if err1 != nil || err2 != nil || was != is || was == "" {
			t.Errorf("digest %q then %q (%v, %v)", was, is, err1, err2)
		}
		r := rand.New(rand.NewPCG(3, 3))
		in, lin := c.Model.Inputs()
		x, l := normal(r, in), normal(r, lin)
		a, b := make([]float32, spec.Size()), make([]float32, spec.Size())
		c.Model.Forward(a, x, l, 1)
		got.Model.Forward(b, x, l, 1)
		if !equalBits(a, b) {
			t.Error("the opened generator makes other weights")
		}
	})
}

func TestUnroundedCheckpointIsNotSaved(t *testing.T) {
	c := smallCheckpoint(t, smallSpec(KindMLP, InputsUser), 6)
	c.Model.Params.Get("lin.weight").Data[0] = math.Pi
	if _, err := c.Bytes(); err == nil || !strings.Contains(err.Error(), "generator.lin.weight") {
		t.Errorf("an unrounded matrix: %v", err)
	}
}

func TestMismatchIsRefusedByName(t *testing.T) {
	c := smallCheckpoint(t, smallSpec(KindMLP, InputsUser), 6)
	file, err := c.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for want, w := range map[string]Want{
		"LLM llm":         {LLM: "other"},
		"prompt template": {Template: "other"},
		"CF spec":         {CF: "other"},
		"content basis":   {Basis: "other"},
		"width 6":         {Hidden: 576},
		"5 layers":        {Layers: 30},
		"target":          {Out: map[corastream.Target]int{"q": 9}},
	} {
		if _, err := Read(file, w); !errors.Is(err, corastream.ErrMismatch) || !strings.Contains(err.Error(), want) {
			t.Errorf("want a mismatch naming %q, got %v", want, err)
		}
	}
	if _, err := Read(file, Want{}); err != nil {
		t.Errorf("nothing wanted: %v", err)
	}
	_, err = Read(file, Want{LLM: "other", CF: "other"})
	if err == nil || strings.Count(err.Error(), "made for") != 2 {
		t.Errorf("two mismatches give %v", err)
	}
}

// spoil rewrites a checkpoint's tensors and metadata.
func spoil(t *testing.T, change func(map[string]Tensor, map[string]string)) []byte {
	t.Helper()
	c := smallCheckpoint(t, smallSpec(KindMLP, InputsUser), 6)
	tensors, meta, err := c.encode()
	if err != nil {
		t.Fatal(err)
	}
	change(tensors, meta)
	var b strings.Builder
	if err := WriteTensors(&b, tensors, meta); err != nil {
		t.Fatal(err)
	}
	return []byte(b.String())
}

func TestCorruptCheckpointIsRefused(t *testing.T) {
	for want, change := range map[string]func(map[string]Tensor, map[string]string){
		"format":                  func(_ map[string]Tensor, m map[string]string) { m["format"] = "corastream.generator/99" },
		"spec: ":                  func(_ map[string]Tensor, m map[string]string) { m["spec"] = "{}x" },
		"generator.kind":          func(_ map[string]Tensor, m map[string]string) { m["spec"] = "{}" },
		"unknown field":           func(_ map[string]Tensor, m map[string]string) { m["spec"] = `{"evil":1}` },
		"items":                   func(_ map[string]Tensor, m map[string]string) { m["items"] = "-4" },
		"basis has digest":        func(_ map[string]Tensor, m map[string]string) { m["basis"] = "beef" },
		"tensor p.3.o is missing": func(x map[string]Tensor, _ map[string]string) { delete(x, "p.3.o") },
		"tensor p.9.q is none":    func(x map[string]Tensor, _ map[string]string) { x["p.9.q"] = x["p.3.q"] },
		"generator.gain":          func(x map[string]Tensor, _ map[string]string) { delete(x, "generator.gain") },
		"layers adapted": func(_ map[string]Tensor, m map[string]string) {
			m["made"] = strings.Replace(m["made"], `"layers":5`, `"layers":1`, 1)
		},
		"has shape": func(_ map[string]Tensor, m map[string]string) { // claims terabytes
			m["spec"] = strings.NewReplacer(`"width":5`, `"width":4096`, `"hidden":6`, `"hidden":16384`, `"rank":3`, `"rank":256`).Replace(m["spec"])
		},
		"wide": func(x map[string]Tensor, _ map[string]string) {
			x["p.3.o"] = Tensor{Shape: []int{3, 2}, Data: make([]float32, 6), BF16: true}
		},
	} {
		_, err := Read(spoil(t, change), Want{})
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, corastream.ErrCorrupt) && want != "format" {
			t.Errorf("want an error naming %q, got %v", want, err)
		}
	}
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, []byte("GGUF"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Want{}); !errors.Is(err, corastream.ErrCorrupt) || !strings.Contains(err.Error(), path) {
		t.Errorf("another file: %v", err)
	}
	if _, err := Open(path+"none", Want{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func FuzzReadCheckpoint(f *testing.F) {
	for _, kind := range []string{KindMLP, KindQFormer} {
		c := smallCheckpoint(f, smallSpec(kind, InputsPaper), 6)
		file, err := c.Bytes()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(file)
		f.Add(file[:len(file)-3])
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		var c *Checkpoint
		var err error
		bounded.Parse(t, len(file), func() { c, err = Read(file, Want{}) })
		if err != nil {
			return
		}
		spec := c.Model.Spec
		if spec.Size() > 1<<16 {
			return
		}
		in, lin := c.Model.Inputs()
		c.Model.Forward(make([]float32, spec.Size()), make([]float32, in), make([]float32, lin), 1)
	})
}

// TestOtherCataloguesAreToldApart: a sample of the trained catalogue is familiar, one whose contents lie elsewhere is not.
// TestAFlippedBitInACheckpointIsRefused: a matrix with one bit changed is numbers like any other, so only a sum can tell. A
// file from before there was one is read as it is.
func TestAFlippedBitInACheckpointIsRefused(t *testing.T) {
	c := smallCheckpoint(t, smallSpec(KindMLP, InputsUser), 6)
	file, err := c.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for at := range file {
		for _, bit := range []int{0, 3, 7} {
			file[at] ^= 1 << bit
			got, err := Read(file, Want{})
			file[at] ^= 1 << bit
			if err != nil {
				if !errors.Is(err, corastream.ErrCorrupt) && !errors.Is(err, corastream.ErrMismatch) {
					t.Fatalf("bit %d of byte %d: %v", bit, at, err)
				}
				continue
			}
			if same, err := got.Bytes(); err != nil || !bytes.Equal(same, file) {
				t.Errorf("bit %d of byte %d: another checkpoint and no error (%v)", bit, at, err)
			}
		}
	}
	tensors, meta, err := ReadTensors(file)
	if err != nil {
		t.Fatal(err)
	}
	delete(meta, sumKey)
	var old bytes.Buffer
	if err := WriteTensors(&old, tensors, meta); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(old.Bytes(), Want{}); err != nil {
		t.Errorf("without a sum: %v", err)
	}
}

func TestOtherCataloguesAreToldApart(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	const m = 16
	draw := func(n int, shift, spread float32) [][]float32 {
		out := make([][]float32, n)
		for i := range out {
			out[i] = normal(r, m)
			for j := range out[i] {
				out[i][j] = (out[i][j]*spread + shift) * float32(m-j) / m
			}
		}
		return out
	}
	films := draw(2000, 0, 1)
	catalogue, err := CatalogueOf(films)
	if err != nil {
		t.Fatal(err)
	}
	c := &Checkpoint{Catalogue: catalogue}
	for _, n := range []int{1, 5, 50, 2000} {
		if ok, d := c.Familiar(draw(n, 0, 1)); !ok {
			t.Errorf("a sample of %d is unfamiliar: %v", n, d)
		}
	}
	for what, other := range map[string][][]float32{"shifted": draw(500, 1.5, 1), "narrow": draw(500, 0, 0.2), "none": nil, "another width": {{1, 2}}} {
		if ok, d := c.Familiar(other); ok {
			t.Errorf("%s: familiar at distance %v", what, d)
		}
	}
	if i := slices.Index(c.Catalogue.Spread, 0); i >= 0 {
		t.Errorf("component %d has no spread", i)
	}
}
