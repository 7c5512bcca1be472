package train

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/generator"
)

// A state file is a safetensors file: every trained slice with its moments, the best epoch's slices, and in the metadata
// where training stands and the digest of the run. It is exact, so that a resumed run ends in the same bytes.
const stateFormat = "corastream.training/1"

func (r *runner) statePath() string { return r.cfg.Out + ".state" }

func (r *runner) saveState(at *progress) error {
	r.pull(at)
	if r.cfg.Out == "" {
		return nil
	}
	where, err := json.Marshal(at)
	if err != nil {
		return err
	}
	tensors := map[string]generator.Tensor{}
	put := func(name string, data []float32) {
		tensors[name] = generator.Tensor{Shape: []int{len(data)}, Data: data}
	}
	for i, s := range r.opt.slots {
		put("now."+s.name, s.data)
		put("first."+s.name, s.first)
		put("second."+s.name, s.second)
		if at.best != nil {
			put("best."+s.name, at.best[i])
		}
	}
	var b bytes.Buffer
	meta := map[string]string{"format": stateFormat, "run": r.digest, "at": string(where), "steps": fmt.Sprint(r.opt.step)}
	if err := generator.WriteTensors(&b, tensors, meta); err != nil {
		return fmt.Errorf("keep the training state: %w", err)
	}
	if err := generator.WriteFile(r.statePath(), b.Bytes()); err != nil {
		return fmt.Errorf("keep the training state: %w", err)
	}
	r.clock.saved = time.Now()
	return nil
}

// resume loads the state file where there is one; a run without one starts at the first step.
func (r *runner) resume() (*progress, error) {
	r.clock.saved = time.Now()
	if r.cfg.Out == "" {
		return &progress{}, nil
	}
	file, err := os.ReadFile(r.statePath())
	if errors.Is(err, os.ErrNotExist) {
		return &progress{}, nil
	}
	if err != nil {
		return nil, err
	}
	at, err := r.decodeState(file)
	if err != nil {
		return nil, corastream.Usagef(r.statePath(), "delete it to start afresh, or choose another output", "training state: %v", err)
	}
	r.report.Resumed = true
	return at, nil
}

func (r *runner) decodeState(file []byte) (*progress, error) {
	tensors, meta, err := generator.ReadTensors(file)
	if err != nil {
		return nil, err
	}
	if meta["format"] != stateFormat {
		return nil, fmt.Errorf("format %q, this build reads %q", meta["format"], stateFormat)
	}
	if meta["run"] != r.digest {
		return nil, fmt.Errorf("of another run: configuration, data, LLM or CF differ")
	}
	at := &progress{}
	if err := json.Unmarshal([]byte(meta["at"]), at); err != nil {
		return nil, fmt.Errorf("metadata, at: %w", err)
	}
	if _, err := fmt.Sscan(meta["steps"], &r.opt.step); err != nil {
		return nil, fmt.Errorf("metadata, steps: %w", err)
	}
	if total := r.cfg.Align + r.cfg.Labels; at.Epoch < 0 || at.Epoch > total || at.Step < 0 || at.Best < 0 || at.Best > at.Epoch {
		return nil, fmt.Errorf("epoch %d, step %d, best epoch %d of %d", at.Epoch, at.Step, at.Best, total)
	}
	take := func(name string, into []float32) error {
		if len(tensors[name].Data) != len(into) {
			return fmt.Errorf("tensor %s has %d values, %d were due", name, len(tensors[name].Data), len(into))
		}
		copy(into, tensors[name].Data)
		return nil
	}
	var errs []error
	for _, s := range r.opt.slots {
		errs = append(errs, take("now."+s.name, s.data), take("first."+s.name, s.first), take("second."+s.name, s.second))
		if at.Best > 0 {
			best := make([]float32, len(s.data))
			errs = append(errs, take("best."+s.name, best))
			at.best = append(at.best, best)
		}
	}
	return at, errors.Join(errs...)
}

// runDigest hashes all that decides a run's result.
func runDigest(cfg *Config, data *Data, deps *Deps) string {
	h := sha256.New()
	spec, err := json.Marshal(cfg)
	if err != nil {
		panic("train: a configuration that does not marshal: " + err.Error())
	}
	fmt.Fprintf(h, "%s %q %q %q\n", spec, deps.LLM.Digest, deps.LLM.Template, deps.CFDigest)
	if deps.Basis != nil {
		fmt.Fprintln(h, deps.Basis.Digest())
	}
	for _, log := range [][]corastream.Event{data.Train, data.Valid} {
		fmt.Fprintln(h, len(log))
		for i := range log {
			hashEvent(h, &log[i])
		}
	}
	for _, it := range data.Items {
		names := make([]string, 0, len(it.Fields))
		for name, v := range it.Fields {
			names = append(names, fmt.Sprintf("%q=%q", name, v))
		}
		sort.Strings(names)
		fmt.Fprintf(h, "%q %q %s %v\n", it.ID, it.Title, strings.Join(names, " "), it.Removed)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func hashEvent(h io.Writer, ev *corastream.Event) {
	implicit := uint8(0)
	if ev.Implicit {
		implicit = 1
	}
	fmt.Fprintf(h, "%q %q ", ev.User, ev.Item)
	binary.Write(h, binary.LittleEndian, struct {
		Label, Weight float32
		Time          int64
		Implicit      uint8
	}{ev.Label, ev.Weight, ev.Time.UnixNano(), implicit})
}
