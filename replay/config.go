package replay

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/corastream/corastream"
)

// The modes: learn from train alone, or go on learning each row after it was scored.
const (
	Static      = "static"
	Prequential = "prequential"
)

// The models. What each of them is stands in the package's doc.
const (
	Bias         = "bias"
	CF           = "cf"
	Popularity   = "popularity"
	Recent       = "recent"
	ItemKNN      = "itemknn"
	EASE         = "ease"
	Mix          = "mix"
	Words        = "words"
	All          = "all"
	Reader       = "reader"
	LLM          = "llm"
	Stack        = "stack"
	Cora         = "cora"
	CoraShuffled = "cora-shuffled"
	CoraBlank    = "cora-blank"
)

// Models lists the models that replay knows by itself. Beside them, cf@CONTENT is the CF model on another content of Contents, and each of
// Config.Kinds is another CF model.
var Models = []string{
	Bias, CF, Popularity, Recent, ItemKNN, EASE, Mix, Words, All, Reader, LLM, Stack, Cora, CoraShuffled, CoraBlank,
}

// isList says that a model is a list model of its own name, and needs nothing of the CF model. Cora and CoraShuffled are list models with
// the LLM's part; where there is a checkpoint, they have a score for each row besides.
func isList(model string) bool { return model == Mix || model == Words || model == All }

// steered says that a list model reads item codes.
func steered(model string) bool { return model == All || model == Cora || model == CoraShuffled }

// ReadsCodes says whether any of the models reads item codes.
func ReadsCodes(models []string) bool { return slices.ContainsFunc(models, steered) }

// ReadsContent says whether any of the models reads the items' contents.
func ReadsContent(models []string, checkpoint bool) bool {
	return slices.ContainsFunc(models, func(m string) bool {
		return !isList(m) && !slices.Contains(counters, m) && (checkpoint || !steered(m))
	})
}

// counters are replay's own models that count likes.
var (
	counters = []string{Popularity, Recent, ItemKNN, EASE}
)

// contentOf is the content that a model learns on: X of cf@X, else "" (that of the run).
func contentOf(model string) string {
	name, content, _ := strings.Cut(model, "@")
	if name != CF {
		return ""
	}
	return content
}

// isLearner says that Deps.NewModel makes the model: all but replay's own.
func isLearner(model string) bool {
	return model == Bias || model == CF || !slices.Contains(Models, model)
}

func (c Config) isModel(name string) bool {
	return slices.Contains(Models, name) || slices.Contains(c.Kinds, name) || slices.Contains(Contents, contentOf(name))
}

// Config says what is evaluated, and how.
//
// A field without a YAML key is a flag of the command, or a constant that the figures of
// docs/measured/quality.md were measured with.
type Config struct {
	// Mode is static or prequential. Default static.
	Mode string `yaml:"-"`
	// Models to evaluate. Default popularity, cf, mix.
	Models []string `yaml:"-"`
	// Kinds are the names of further CF models that Deps.NewModel makes: cfstream's kinds. Default none.
	Kinds []string `yaml:"-"`
	// Content is what a hybrid knows of an item before any click: one of Contents. Default llm.
	Content string `yaml:"-"`
	// LabelDelay is how long after its row a label is learnt, in prequential mode. Default 0, range 0..8760h.
	LabelDelay time.Duration `yaml:"-"`
	// Freshness lists label delays: every model is also replayed prequentially with each of them, and once with nothing
	// learnt after train, and the differences are reported. Default none, at most 8 delays of 0..8760h.
	Freshness []time.Duration `yaml:"-"`
	// Epochs over train before the evaluation starts. Default 6, range 1..1000.
	Epochs int `yaml:"-"`
	// Dev, when not 0, holds valid back: the models learn the first 1-dev of train and are scored on the rest, reported
	// as valid. Choices belong here; valid and test are then not read. Default 0, range 0..0.9.
	Dev float64 `yaml:"-"`
	// Bootstraps is how many times users are drawn for the intervals: at 2000 the ends of a 95 % interval rest on 50 draws
	// each, and move by less than a tenth of its width between seeds. Default 2000, range 0..100000; 0 gives none.
	Bootstraps int `yaml:"-"`
	// Seed of bootstrap and shuffling. Default 1.
	Seed uint64 `yaml:"-"`
	// Seeds is how many starts of each CF model are replayed, for the spread of its figures. What draws nothing has none;
	// the models of a checkpoint have the checkpoint's. Default 1, range 1..20.
	Seeds int `yaml:"-"`
	// Task is what the next-item figures ask: `unseen` ranks the positives whose item is new to the user among the items the user has
	// not met, `all` ranks every positive among all items, `auto` chooses all where at least a tenth of the log's positives repeat
	// an item of their user. Default auto.
	Task string `yaml:"-"`
	// RankRows is the most rows of each split that the next-item figures rank among all items, evenly spaced; 0 ranks none.
	// Default 1000000, range 0..1000000.
	RankRows int `yaml:"-"`
	// RankLLM is how many of CF's best candidates `llm` and `cora` rank for each of these rows, each of them one run of
	// the LLM; an item outside counts as missed. 0 ranks none. Default 0, range 0..200.
	RankLLM int `yaml:"-"`
	// BatchRows is how many rows one call of generator and LLM scores. Default 256, range 1..65536.
	BatchRows int `yaml:"-"`
	// History is how many liked titles go into a `history` prompt; 0 makes `item` prompts. Default 0, range 0..50.
	History int `yaml:"-"`
	// ReaderShare is the last part of train on which the reader and the stack are fitted. Default 0.3, range 0.01..0.9.
	ReaderShare float64 `yaml:"-"`
	// Window is how long after a logged list a like of a listed item counts as its doing (off-policy values). Default 30m,
	// range 1s..8760h.
	Window time.Duration `yaml:"-"`
	// Demand is the weight of an item's demand in the ranking of all items (NDCG@10, HR@10) by a CF model; `corastream replay` takes
	// retriever.demand. Default 2.
	Demand float64 `yaml:"-"`
	// HalfLife is after how long a click counts half in `recent`. Default 720h, range 1m..87600h.
	HalfLife time.Duration `yaml:"-"`
	// KNNShrink is added to the norm of an item's neighbours in `itemknn`. Default 10, range 0..1e6.
	KNNShrink float64 `yaml:"-"`
	// EASEPenalty is the ridge of `ease`. Default 250, range 1e-3..1e9.
	EASEPenalty float64 `yaml:"-"`
	// Sharding is how a cluster would learn the log.
	Sharding Sharding `yaml:"-"`
}

// Default returns the defaults above.
func Default() Config {
	return Config{
		Mode: Static, Models: []string{Popularity, CF, Mix}, Content: ContentLLM, Epochs: 6, Bootstraps: 2000, Seed: 1, Seeds: 1, Task: TaskAuto, RankRows: 1e6, Demand: corastream.DemandWeight,
		BatchRows: 256, ReaderShare: 0.3, Window: 30 * time.Minute, HalfLife: 720 * time.Hour, KNNShrink: 10, EASEPenalty: 250, Sharding: DefaultSharding(),
	}
}

// Names lists what Models may name, but for cf@CONTENT.
func (c Config) Names() []string {
	names := slices.Clone(Models)
	for _, k := range c.Kinds {
		if !slices.Contains(names, k) {
			names = append(names, k)
		}
	}
	return names
}

// Validate reports all problems at once.
func (c Config) Validate() error {
	var errs []error
	if c.Mode != Static && c.Mode != Prequential {
		errs = append(errs, corastream.Usagef("mode", "choose static or prequential", "%q is not a mode", c.Mode))
	}
	if c.Task != TaskAuto && c.Task != TaskUnseen && c.Task != TaskAll {
		errs = append(errs, corastream.Usagef("task", "choose unseen, all or auto", "%q is not a task", c.Task))
	}
	choose := "choose from " + strings.Join(c.Names(), ",") + ",cf@CONTENT"
	if len(c.Models) == 0 {
		errs = append(errs, corastream.Usagef("models", choose, "no model to evaluate"))
	}
	for i, m := range c.Models {
		if !c.isModel(m) {
			errs = append(errs, corastream.Usagef("models", choose, "%q is not a model", m))
		} else if slices.Contains(c.Models[:i], m) {
			errs = append(errs, corastream.Usagef("models", "name each once", "%q is named twice", m))
		}
	}
	if !slices.Contains(Contents, c.Content) {
		errs = append(errs, corastream.Usagef("content", "choose from "+strings.Join(Contents, ","), "%q is not a content", c.Content))
	}
	if c.LabelDelay != 0 && c.Mode == Static {
		errs = append(errs, corastream.Usagef("label_delay", "drop it, or choose mode prequential", "static mode learns no labels"))
	}
	for i, d := range c.Freshness {
		errs = append(errs, inRange("freshness (hours)", d.Hours(), 0, 8760))
		if slices.Contains(c.Freshness[:i], d) {
			errs = append(errs, corastream.Usagef("freshness", "name each delay once", "%v is named twice", d))
		}
	}
	errs = append(errs,
		inRange("freshness (delays)", float64(len(c.Freshness)), 0, 8),
		inRange("label_delay (hours)", c.LabelDelay.Hours(), 0, 8760), inRange("epochs", float64(c.Epochs), 1, 1000),
		inRange("dev", c.Dev, 0, 0.9),
		inRange("bootstraps", float64(c.Bootstraps), 0, 100000), inRange("seeds", float64(c.Seeds), 1, 20),
		inRange("rank_rows", float64(c.RankRows), 0, 1e6), inRange("rank_llm", float64(c.RankLLM), 0, 200),
		inRange("batch_rows", float64(c.BatchRows), 1, 65536),
		inRange("history", float64(c.History), 0, 50), inRange("reader_share", c.ReaderShare, 0.01, 0.9),
		inRange("window (seconds)", c.Window.Seconds(), 1, 8760*3600),
		inRange("half_life (hours)", c.HalfLife.Hours(), 1./60, 87600), inRange("knn_shrink", c.KNNShrink, 0, 1e6),
		inRange("ease_penalty", c.EASEPenalty, 1e-3, 1e9), c.Sharding.Validate())
	if c.Sharding.Shards > 1 {
		for _, m := range c.Models {
			if slices.Contains(counters, m) || isList(m) {
				errs = append(errs, corastream.Usagef("models", "leave "+m+" out, or drop --study shards", "%s can not be divided into shards", m))
			}
		}
	}
	return errors.Join(errs...)
}

func inRange(key string, v, lo, hi float64) error {
	if math.IsNaN(v) || v < lo || v > hi {
		return corastream.Usagef(key, fmt.Sprintf("choose from %g to %g", lo, hi), "%g is out of range", v)
	}
	return nil
}

// Data is what is replayed. Items carry their Content when the CF model is to use it. Valid or Test may be empty.
type Data struct {
	Items              []corastream.Item
	Train, Valid, Test []corastream.Event
	// Lists are logged recommendations of a stochastic policy, for what each model would have earned; Plain counts those of
	// a deterministic one that were left out.
	Lists []List
	Plain int
}

// Model is what a CF model must do to be replayed.
type Model interface {
	corastream.Learner
	corastream.Predictor
}

// Deps are the other stages, handed in through the root's interfaces.
type Deps struct {
	// NewModel makes a CF model: kind is Bias, CF or one of Config.Kinds. Seed 0 is the configured start; others draw anew.
	NewModel func(kind string, seed uint64) (Model, error)
	// NewRanker makes the list model of that name: Mix, Words, All, Cora or CoraShuffled. all says that items the user met may be listed.
	// nil where none is offered.
	NewRanker func(model string, all bool) (corastream.Ranker, error)
	// Codes gives the item codes of Data.Items, in their order, nil for an item without; nil where no LLM reads for lists.
	Codes func(ctx context.Context) ([][]float32, error)
	// Content gives the content vectors of Data.Items, in their order, nil for an item without; nil: the items' own Content
	// is the only one there is.
	Content func(ctx context.Context, name string) ([][]float32, error)
	// Generator and Scorer belong to a checkpoint and its LLM; nil where there is none. `llm` needs the Scorer alone.
	Generator corastream.Generator
	Scorer    corastream.Scorer
	// Blank refits the generator with one constant prompt; nil where that is not offered.
	Blank func(ctx context.Context) (corastream.Generator, corastream.Prompt, error)
	// Resume is a folder in which each model's scores are kept until the report is out, so that a run which was stopped goes
	// on there; "" keeps none.
	Resume string
	// Progress is told how far a step has come; may be nil.
	Progress func(step string, done, total int)
	// Manifest are digests and settings of the caller's (files, checkpoint, LLM, build), copied into the report.
	Manifest map[string]string
}

// check refuses models that the deps can not make.
func (d Deps) check(models []string) error {
	for _, m := range models {
		switch {
		case (m == LLM || m == Stack) && d.Scorer == nil:
			return corastream.Usagef("models", "give --llm FILE, or leave "+m+" out", "%s needs the LLM", m)
		case isList(m) && d.NewRanker == nil:
			return corastream.Usagef("models", "leave "+m+" out", "no list model is on offer here")
		case contentOf(m) != "" && d.Content == nil:
			return corastream.Usagef("models", "leave "+m+" out", "no other content is on offer here")
		case m == All && d.Codes == nil:
			return corastream.Usagef("models", "give --llm FILE, or leave "+m+" out", "%s needs the LLM", m)
		case steered(m) && d.NewRanker != nil && d.Codes != nil:
		case strings.HasPrefix(m, Cora) && (d.Scorer == nil || d.Generator == nil):
			return corastream.Usagef("models", "give --checkpoint CKPT and its LLM, or leave "+m+" out", "%s needs a checkpoint and its LLM", m)
		case m == CoraBlank && d.Blank == nil:
			return corastream.Usagef("models", "leave cora-blank out", "cora-blank needs a refit with one constant prompt, which is not on offer here")
		}
	}
	return nil
}

func (d Deps) progress(step string, done, total int) {
	if d.Progress != nil {
		d.Progress(step, done, total)
	}
}
