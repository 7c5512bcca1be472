package replay

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/gob"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A replay that was stopped goes on where it was: each model's scores over a pass are kept in Deps.Resume as soon as they are
// there, under a name that hashes all they depend on. A file that is damaged or of other data is no error: the model is run
// again.

// saved is an outcome as it is written.
type saved struct {
	Score, Alone, Gain, Hit []float64
	Above, Level            []int32
	Shown                   [2][]int32
	Last                    [2]map[int32][]int32
	Task                    string
	Ranks, Logit, Silent    bool
}

// fingerprint hashes what scores depend on: settings, data and the caller's manifest, but not which models, how many draws.
func (c Config) fingerprint(data Data, manifest map[string]string) string {
	c.Models, c.Bootstraps, c.Freshness, c.Seeds, c.Mode, c.LabelDelay = nil, 0, nil, 0, "", 0
	h := sha256.New()
	fmt.Fprintf(h, "2 %+v %s %s %s %s", c, itemsDigest(data.Items), eventsDigest(data.Train), eventsDigest(data.Valid), eventsDigest(data.Test))
	for _, k := range slices.Sorted(maps.Keys(manifest)) {
		fmt.Fprintf(h, " %q %q", k, manifest[k])
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func (e *evaluation) savedAt(p pass, model string) string {
	name := fmt.Sprintf("%s-%v%s-%v-%d-%s", e.print, p.learn, p.half, p.delay, p.seed, strings.NewReplacer("@", "-at-", "+", "-and-").Replace(model))
	return filepath.Join(e.deps.Resume, name)
}

// load finds what an earlier run came to.
func (e *evaluation) load(p pass, model string) (outcome, bool) {
	if e.deps.Resume == "" {
		return outcome{}, false
	}
	b, err := os.ReadFile(e.savedAt(p, model))
	if err != nil || len(b) < 4 || crc32.ChecksumIEEE(b[4:]) != binary.LittleEndian.Uint32(b) {
		return outcome{}, false
	}
	var s saved
	if gob.NewDecoder(bytes.NewReader(b[4:])).Decode(&s) != nil || len(s.Score) != len(e.rows) {
		return outcome{}, false
	}
	o := outcome{score: s.Score, alone: s.Alone, gain: s.Gain, hit: s.Hit, logit: s.Logit, silent: s.Silent}
	if s.Ranks {
		o.ranks = &ranks{task: s.Task, above: s.Above, level: s.Level, shown: s.Shown, last: s.Last}
	}
	e.deps.progress("resume "+model, len(e.rows), len(e.rows))
	return o, true
}

// store keeps an outcome for a run after a kill.
func (e *evaluation) store(p pass, model string, o outcome) error {
	if e.deps.Resume == "" {
		return nil
	}
	s := saved{Score: o.score, Alone: o.alone, Gain: o.gain, Hit: o.hit, Logit: o.logit, Silent: o.silent}
	if o.ranks != nil {
		s.Ranks, s.Above, s.Level, s.Shown, s.Last, s.Task = true, o.ranks.above, o.ranks.level, o.ranks.shown, o.ranks.last, o.ranks.task
	}
	b := bytes.NewBuffer(make([]byte, 4))
	if err := gob.NewEncoder(b).Encode(s); err != nil {
		return fmt.Errorf("keep scores of %s: %w", model, err)
	}
	binary.LittleEndian.PutUint32(b.Bytes(), crc32.ChecksumIEEE(b.Bytes()[4:]))
	if err := os.MkdirAll(e.deps.Resume, 0o755); err != nil {
		return fmt.Errorf("keep scores of %s: %w", model, err)
	}
	path := e.savedAt(p, model)
	if err := os.WriteFile(path+".tmp", b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("keep scores of %s: %w", model, err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("keep scores of %s: %w", model, err)
	}
	return nil
}
