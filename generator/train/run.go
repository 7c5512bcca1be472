package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/generator"
)

// runner is one training run. The steps of Run read top to bottom; every step is a function of the configuration, the
// data and the seed.
type runner struct {
	cfg    Config
	data   Data
	deps   Deps
	digest string // of all that decides the result
	clock  clock

	items  []corastream.Item // with contents
	states []corastream.States
	basis  *generator.Basis

	model *generator.Model
	proj  *corastream.Projection
	opt   *adamw
	graph *graph

	device *resident // nil: the CPU trains

	report Report
}

// Run trains a checkpoint. progress may be nil; it is called on the caller's goroutine.
func Run(ctx context.Context, cfg Config, data Data, deps Deps, progress func(Progress)) (*generator.Checkpoint, Report, error) {
	r, err := newRunner(cfg, data, deps, progress)
	if err != nil {
		return nil, Report{}, err
	}
	ckpt, err := r.run(ctx)
	if err != nil {
		return nil, r.report, fmt.Errorf("train: %w", err)
	}
	return ckpt, r.report, nil
}

func newRunner(cfg Config, data Data, deps Deps, progress func(Progress)) (*runner, error) {
	if progress == nil {
		progress = func(Progress) {}
	}
	if cfg.Spec.Hidden == 0 {
		cfg.Spec.Hidden = deps.LLM.Hidden
	}
	if err := errors.Join(cfg.Validate(), fits(cfg.Spec, deps.LLM)); err != nil {
		return nil, err
	}
	r := &runner{cfg: cfg, data: data, deps: deps, clock: clock{tell: progress}}
	r.digest = runDigest(&cfg, &data, &deps)
	return r, nil
}

// fits refuses by name what the LLM can not take.
func fits(s generator.Spec, llm LLM) error {
	var errs []error
	if s.Hidden != llm.Hidden {
		errs = append(errs, corastream.Usagef("generator.hidden", fmt.Sprintf("set train: {generator: {hidden: %d}}, or leave it out", llm.Hidden), "%d is not this LLM's width", s.Hidden))
	}
	if s.Layers > llm.Layers {
		errs = append(errs, corastream.Usagef("generator.layers", fmt.Sprintf("set train: {generator: {layers: %d}} or less", llm.Layers), "this LLM has no %d layers", s.Layers))
	}
	for _, t := range s.Targets {
		if in := llm.In[t]; in != s.Hidden {
			fix := fmt.Sprintf("leave %s out", t)
			if t == corastream.TargetO {
				fix += ", and add gate and up: the decoder reads their input then"
			}
			errs = append(errs, corastream.Usagef("generator.targets", fix, "this LLM's target %s can not be adapted: it does not read the %d numbers that W_A has rows for", t, s.Hidden))
		} else if llm.Out[t] <= 0 {
			errs = append(errs, corastream.Usagef("generator.targets", fmt.Sprintf("leave %s out", t), "this LLM has no target %s", t))
		}
	}
	return errors.Join(errs...)
}

func (r *runner) run(ctx context.Context) (*generator.Checkpoint, error) {
	if err := r.readCatalogue(ctx); err != nil {
		return nil, err
	}
	rows, err := r.snapshots(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.enough(rows); err != nil {
		return nil, err
	}
	if err := r.start(rows.train); err != nil {
		return nil, err
	}
	defer r.graph.close()
	if err := r.epochs(ctx, rows); err != nil {
		return nil, err
	}
	ckpt, err := r.checkpoint()
	if err != nil {
		return nil, err
	}
	if err := r.measure(ctx, rows); err != nil {
		return nil, err
	}
	r.figures(ckpt)
	if r.cfg.Out == "" {
		return ckpt, nil
	}
	if err := ckpt.Save(r.cfg.Out); err != nil {
		return nil, err
	}
	if err := os.Remove(r.statePath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return ckpt, nil
}

// readBatch is how many items go to the encoder at once: between two of them progress is told and a cancel is seen.
const readBatch = 64

// readCatalogue: titles -> states of the frozen LLM -> basis -> contents.
func (r *runner) readCatalogue(ctx context.Context) error {
	for _, it := range r.data.Items {
		if strings.TrimSpace(it.Title) != "" && !it.Removed {
			r.items = append(r.items, it)
		}
	}
	r.report.Items = len(r.items)
	for i := 0; i < len(r.items); i += readBatch {
		batch := r.items[i:min(i+readBatch, len(r.items))]
		states, err := r.deps.Encoder.Encode(ctx, batch)
		if err != nil {
			return fmt.Errorf("read the catalogue: %w", err)
		}
		if len(states) != len(batch) {
			return fmt.Errorf("read the catalogue: %d states of %d items", len(states), len(batch))
		}
		r.states = append(r.states, states...)
		r.tell(Progress{Phase: "read catalogue", Done: len(r.states), Total: len(r.items)})
	}
	r.tell(Progress{Phase: "basis", Total: 1})
	r.basis = r.deps.Basis
	if r.basis == nil {
		var err error
		if r.basis, err = generator.FitBasis(r.states, r.cfg.Spec.Contents()); err != nil {
			return err
		}
	} else if r.basis.Out != r.cfg.Spec.Contents() {
		return corastream.Usagef("generator.taste", fmt.Sprintf("set cf: {content: %d}", r.basis.Out), "the given basis has %d components", r.basis.Out)
	}
	for i := range r.items {
		var err error
		if r.items[i].Content, err = r.basis.Content(r.states[i]); err != nil {
			return fmt.Errorf("item %q: %w", r.items[i].ID, err)
		}
	}
	r.tell(Progress{Phase: "basis", Done: 1, Total: 1})
	return nil
}

// enough refuses a log that can not train anything.
func (r *runner) enough(s *snapshots) error {
	r.report.Rows, r.report.Skipped, r.report.Sampled = len(s.train), s.skipped, s.sampled
	if len(s.train) < r.cfg.Batch {
		return corastream.Usagef("train", "give a longer log",
			"%d rows are left for the generator, a step takes %d (%d events, %d of them on items without a title)",
			len(s.train), r.cfg.Batch, len(r.data.Train), s.skipped)
	}
	if figuresOf(cfScores(s.holdout), s.holdout).AUC == 0 {
		return corastream.Usagef("train", "give a longer log",
			"the %d held-out rows do not have both labels", len(s.holdout))
	}
	return nil
}

// start makes the generator from the rows, then all that trains it.
func (r *runner) start(rows []row) error {
	spec := r.cfg.Spec
	var err error
	if r.model, err = generator.NewModel(spec, r.cfg.Seed); err != nil {
		return err
	}
	r.scaleInputs(rows)
	if spec.Linear {
		r.tell(Progress{Phase: "decoder", Total: 1})
		if r.report.DecoderFit, err = r.startLinear(rows); err != nil {
			return err
		}
		r.tell(Progress{Phase: "decoder", Done: 1, Total: 1})
	}
	r.states = nil // a hundred megabytes nobody needs from here on
	return r.trainable()
}

// trainable makes the model's graph, its projection and the optimiser of both.
func (r *runner) trainable() (err error) {
	spec := r.cfg.Spec
	var grads [][]float32
	if r.graph, grads, err = newGraph(r.model, r.cfg.Batch); err != nil {
		return err
	}
	r.opt = &adamw{}
	for i, p := range r.model.Params {
		if p.Group != generator.Fixed && !(p.Name == "gain" && !spec.Linear) {
			r.opt.add(p.Name, p.Group, p.Data, grads[i], &r.cfg)
		}
	}
	r.proj = &corastream.Projection{Rank: spec.Rank, Alpha: spec.Alpha, Adapt: spec.Adapt, P: map[corastream.Slot][]float32{}}
	for _, slot := range spec.Slots(r.deps.LLM.Layers) {
		n := spec.Rank * r.deps.LLM.Out[slot.Target]
		p := make([]float32, n)
		r.proj.P[slot] = p
		r.opt.add(slotName(slot), generator.Weight, p, make([]float32, n), &r.cfg)
	}
	return nil
}

func slotName(s corastream.Slot) string { return fmt.Sprintf("p.%d.%s", s.Layer, s.Target) }

// scaleInputs brings the non-linear part's inputs to a common size: one factor for each vector (its directions keep their
// proportions), mean and spread for each bias.
func (r *runner) scaleInputs(rows []row) {
	mean, scale := r.model.Params.Get("in.mean").Data, r.model.Params.Get("in.scale").Data
	in, _ := r.model.Inputs()
	x := make([]float32, in)
	sum, square := make([]float64, in), make([]float64, in)
	for i := range rows {
		if err := r.model.UserInput(x, nil, &rows[i].pair); err != nil {
			continue // reported by the first step, with the row's names
		}
		for j, v := range x {
			sum[j] += float64(v) / float64(len(rows))
			square[j] += float64(v) * float64(v) / float64(len(rows))
		}
	}
	side := in // one vector and its bias; two of them for concat(e_u, e_i)
	if r.model.Spec.PerPair() {
		side /= 2
	}
	for from := 0; from < in; from += side {
		var size float64
		for j := from; j < from+side-1; j++ {
			size += square[j] / float64(side-1)
		}
		for j := from; j < from+side-1; j++ {
			scale[j] = inverse(size)
		}
		b := from + side - 1
		mean[b], scale[b] = float32(sum[b]), inverse(square[b]-sum[b]*sum[b])
	}
}

// inverse is 1/sqrt(v), 1 for what does not vary.
func inverse(v float64) float32 {
	if v < 1e-8 {
		return 1
	}
	return float32(1 / math.Sqrt(v))
}

// checkpoint packs the best epoch, rounded as the file keeps it: what is measured next is what will be served.
func (r *runner) checkpoint() (*generator.Checkpoint, error) {
	contents := make([][]float32, len(r.items))
	for i, it := range r.items {
		contents[i] = it.Content
	}
	catalogue, err := generator.CatalogueOf(contents)
	if err != nil {
		return nil, err
	}
	c := &generator.Checkpoint{
		Made:  generator.Made{LLM: r.deps.LLM.Digest, Template: r.deps.LLM.Template, CF: r.deps.CFDigest, Layers: r.deps.LLM.Layers},
		Basis: r.basis, Model: r.model, Projection: r.proj, Catalogue: catalogue,
	}
	return c, c.Round()
}

// figures puts the report's figures into the checkpoint.
func (r *runner) figures(c *generator.Checkpoint) {
	c.Figures = map[string]float64{
		"items": float64(r.report.Items), "rows": float64(r.report.Rows), "best_epoch": float64(r.report.Best),
		"decoder_fit": r.report.DecoderFit, "seed": float64(r.cfg.Seed),
	}
	var newest time.Time
	for _, ev := range r.data.Train {
		if ev.Time.After(newest) {
			newest = ev.Time
		}
	}
	if !newest.IsZero() {
		c.Figures[generator.TrainedUntil] = float64(newest.Unix())
	}
	for part, models := range map[string]map[string]Figures{"holdout": r.report.Holdout, "valid": r.report.Valid} {
		for name, f := range models {
			c.Figures[part+"."+name+".auc"], c.Figures[part+"."+name+".uauc"] = f.AUC, f.UAUC
		}
	}
}

// best copies the trained slices; restore puts them back.
func (r *runner) best() [][]float32 {
	out := make([][]float32, len(r.opt.slots))
	for i, s := range r.opt.slots {
		out[i] = slices.Clone(s.data)
	}
	return out
}

func (r *runner) restore(best [][]float32) {
	for i, s := range r.opt.slots {
		copy(s.data, best[i])
	}
}
