package generator

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/corastream/corastream"
)

// Format is the version that a checkpoint's metadata carries.
const Format = "corastream.generator/1"

// Made says what a checkpoint was made for, by digests and sizes.
type Made struct {
	LLM      string `json:"llm"`      // digest of the frozen LLM
	Template string `json:"template"` // digest of the prompt templates
	CF       string `json:"cf"`       // digest of the CF spec: kind and dimensions, never its moving state
	Layers   int    `json:"layers"`   // of the LLM
}

// Checkpoint is all that serving needs beside the frozen LLM: the content basis, the generator and the projection.
type Checkpoint struct {
	Made       Made
	Basis      *Basis
	Model      *Model
	Projection *corastream.Projection
	Catalogue  Catalogue
	// Figures are the training figures, by name, and TrainedUntil; they take no part in serving.
	Figures map[string]float64

	digest string
}

// TrainedUntil names the figure that tells when the newest event of the training log happened, in Unix seconds.
const TrainedUntil = "trained_until"

// Want says what a checkpoint has to fit; an empty field is not compared.
type Want struct {
	LLM, Template, CF, Basis string
	Hidden, Layers           int
	Out                      map[corastream.Target]int // output width of each target
}

// Open reads a checkpoint and refuses by name what does not fit.
func Open(path string, want Want) (*Checkpoint, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read checkpoint %s: %w", path, err)
	}
	c, err := Read(b, want)
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", path, err)
	}
	return c, nil
}

// Read parses a checkpoint's bytes.
func Read(file []byte, want Want) (*Checkpoint, error) {
	if len(file) > maxFile {
		return nil, fmt.Errorf("%w: more than %d bytes", corastream.ErrCorrupt, maxFile)
	}
	tensors, meta, err := ReadTensors(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", corastream.ErrCorrupt, err)
	}
	if meta["format"] != Format {
		return nil, fmt.Errorf("%w: format %q, this build reads %q", corastream.ErrMismatch, meta["format"], Format)
	}
	c, have := &Checkpoint{}, contentSum(tensors, meta)
	if err := c.decode(tensors, meta); err != nil {
		return nil, fmt.Errorf("%w: %w", corastream.ErrCorrupt, err)
	}
	if sum, ok := meta[sumKey]; ok && have != sum {
		return nil, fmt.Errorf("%w: the contents have SHA-256 %s, the metadata says %s (fix: copy the file again, or train anew)", corastream.ErrCorrupt, have, sum)
	}
	sum := sha256.Sum256(file)
	c.digest = hex.EncodeToString(sum[:16])
	return c, c.Fits(want)
}

// Fits reports every way in which the checkpoint does not fit, wrapping corastream.ErrMismatch.
func (c *Checkpoint) Fits(want Want) error {
	var errs []error
	differ := func(what, have, want string) {
		if want != "" && have != want {
			errs = append(errs, fmt.Errorf("%w: made for %s %s, here is %s", corastream.ErrMismatch, what, have, want))
		}
	}
	differ("LLM", c.Made.LLM, want.LLM)
	differ("prompt template", c.Made.Template, want.Template)
	differ("CF spec", c.Made.CF, want.CF)
	if want.Basis != "" {
		differ("content basis", c.Basis.Digest(), want.Basis)
	}
	if h := c.Model.Spec.Hidden; want.Hidden != 0 && want.Hidden != h {
		errs = append(errs, fmt.Errorf("%w: made for an LLM of width %d, here is %d", corastream.ErrMismatch, h, want.Hidden))
	}
	if n := c.Made.Layers; want.Layers != 0 && want.Layers != n {
		errs = append(errs, fmt.Errorf("%w: made for an LLM of %d layers, here are %d", corastream.ErrMismatch, n, want.Layers))
	}
	for slot, p := range c.Projection.P {
		if out, ok := want.Out[slot.Target]; ok && len(p) != out*c.Projection.Rank {
			errs = append(errs, fmt.Errorf("%w: P of target %s is %d wide, here %d", corastream.ErrMismatch, slot.Target, len(p)/c.Projection.Rank, out))
			break
		}
	}
	return errors.Join(errs...)
}

// Digest names the checkpoint by its file's content; it is the generator's version.
func (c *Checkpoint) Digest() (string, error) {
	if c.digest == "" {
		if _, err := c.Bytes(); err != nil {
			return "", err
		}
	}
	return c.digest, nil
}

// Round rounds the generator's and the projection's matrices to bfloat16, in which the file keeps them: after it, saving
// and opening changes no bit. Biases, norms, input scales, basis and statistics stay f32.
func (c *Checkpoint) Round() error {
	for _, p := range c.Model.Params {
		if half(p.Group) {
			if err := roundBF16(p.Data); err != nil {
				return fmt.Errorf("tensor %s: %w", p.Name, err)
			}
		}
	}
	for slot, p := range c.Projection.P {
		if err := roundBF16(p); err != nil {
			return fmt.Errorf("projection of layer %d, target %s: %w", slot.Layer, slot.Target, err)
		}
	}
	c.digest = ""
	return nil
}

func half(g Group) bool { return g == Weight || g == LinearPath }

// Bytes is the checkpoint's file. It refuses matrices that Round has not seen, since the file could not keep them.
func (c *Checkpoint) Bytes() ([]byte, error) {
	tensors, meta, err := c.encode()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := WriteTensors(&b, tensors, meta); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b.Bytes())
	c.digest = hex.EncodeToString(sum[:16])
	return b.Bytes(), nil
}

// Save writes the file and renames it into place, so that a reader sees the old one or the new one.
func (c *Checkpoint) Save(path string) error {
	b, err := c.Bytes()
	if err != nil {
		return fmt.Errorf("save checkpoint: %w", err)
	}
	return WriteFile(path, b)
}

// WriteFile writes beside path, syncs, and renames into place.
func WriteFile(path string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err = f.Chmod(0o644); err != nil {
		return err
	}
	if _, err = f.Write(b); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
