package node

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"

	"github.com/corastream/corastream"
)

// removedKeys are keys that an earlier version took, and what a file should have in their place. A file that still has one is refused,
// since a value that is silently dropped would be worse.
var removedKeys = map[string]string{
	// The steps and decays of the CF models, measured per kind (cfstream.Spec).
	"cf.mu_rate":          constant("0.01"),
	"cf.bias_rate":        constant("0.1"),
	"cf.bias_start":       constant("0.3"),
	"cf.bias_settle":      constant("10"),
	"cf.item_bias_rate":   constant("0.15"),
	"cf.count_rate":       constant("0.001"),
	"cf.bias_decay":       constant("0.01"),
	"cf.content_rate":     constant("0.1"),
	"cf.content_decay":    constant("0.001"),
	"cf.taste_rate":       constant("0.01"),
	"cf.taste_decay":      constant("0.5"),
	"cf.factor_rate":      constant("one for each cf.kind"),
	"cf.factor_decay":     constant("one for each cf.kind"),
	"cf.factor_init":      constant("one for each cf.kind"),
	"cf.factor_damp":      constant("0.0001"),
	"cf.block_rate":       constant("0.01"),
	"cf.block_decay":      constant("0.003"),
	"cf.damp":             constant("1"),
	"cf.clip":             constant("4"),
	"cf.seed":             constant("0; `replay --study seeds=N` tries others"),
	"cf.negative_weight":  constant("1"),
	"cf.negatives":        constant("4"),
	"cf.demand_half_life": constant("336h"),

	"mix.neighbours": constant("256; mix.memory_limit_bytes lowers it for a large catalogue"),
	"mix.history":    constant("50"),
	"mix.factors":    constant("32"),
	"mix.ease_items": constant("3000"),
	"mix.train_rows": constant("20000"),
	"mix.judge":      constant("2000"),

	"store.journal_limit": constant("0: the journal is kept whole"),

	"generator.batch":  constant("64"),
	"generator.device": "llm.device holds for the generator too",

	"train.generator.hidden":  "it is the LLM's",
	"train.generator.taste":   "it is cf.content",
	"train.generator.factors": "it is cf.factors",
	"train.generator.alpha":   constant("32"),
	"train.generator.width":   constant("64"),
	"train.generator.qformer": constant("4 queries, 8 layers, 8 heads"),
	"train.generator.score":   constant("yes-no"),
	"train.warm":              constant("0.6"),
	"train.holdout":           constant("0.15"),
	"train.judges":            constant("6000"),
	"train.report":            constant("20000"),
	"train.swapped":           constant("0.5"),
	"train.patience":          constant("3"),
	"train.batch":             constant("32"),
	"train.linear_rate":       constant("0.0001"),
	"train.decay":             constant("0.001"),
	"train.warm_up":           constant("50"),
	"train.clip":              constant("1"),
	"train.ridge":             constant("1000"),
	"train.state_every":       constant("30s"),
	"train.history":           "pipeline.history holds for training too",

	"replay.mode":         "pass --mode",
	"replay.models":       "pass --models",
	"replay.label_delay":  "pass --label-delay",
	"replay.freshness":    "pass --freshness",
	"replay.epochs":       "pass --epochs",
	"replay.dev":          "pass --study dev=SHARE",
	"replay.bootstraps":   "pass --bootstraps",
	"replay.seed":         "pass --seed",
	"replay.task":         "pass --task",
	"replay.rank_llm":     "pass --study rank-llm=N",
	"replay.history":      "pipeline.history holds for replay too",
	"replay.content":      "pass --study content=NAME, or name the model cf@CONTENT",
	"replay.seeds":        "pass --study seeds=N",
	"replay.rank_rows":    "pass --study rank-rows=N",
	"replay.sharding":     "pass --study shards=N,sync-events=N or --study shards=N,sync-every=TIME",
	"replay.batch_rows":   constant("256"),
	"replay.reader_share": constant("0.3"),
	"replay.window":       constant("30m"),
	"replay.half_life":    constant("720h"),
	"replay.knn_shrink":   constant("10"),
	"replay.ease_penalty": constant("250"),

	"http.max_id_bytes":          "kafka.max_id_bytes holds for HTTP too",
	"http.max_connections":       constant("4096"),
	"http.queue_timeout_ms":      constant("2000; http.max_queue bounds how many wait"),
	"http.max_generation_queue":  constant("16; 2 are answered at once"),
	"http.max_generations":       constant("2"),
	"http.generation_timeout_ms": constant("120000"),
	"http.learnt_wait_ms":        constant("2000"),
	"http.recent":                constant("200"),
	"http.pages":                 constant("1000"),

	"retriever.max_candidates": constant("1000"),
	"retriever.workers":        constant("2"),
	"retriever.demand":         constant("2"),
	"llm.read_layer":           constant("two thirds of the LLM's layers"),
	"llm.batch_tokens":         constant("1024"),
	"llm.score":                constant("yes-no"),
	"kafka.fetch_bytes":        constant("1 MiB"),
	"kafka.max_fetch_bytes":    constant("64 MiB"),
	"kafka.gap_patience":       constant("10s"),
	"kafka.commit_every":       constant("1s"),
	"explore.seed":             constant("1"),

	"telemetry.service":  "set the environment variable OTEL_SERVICE_NAME",
	"telemetry.endpoint": "set the environment variable OTEL_EXPORTER_OTLP_ENDPOINT",
	"telemetry.sample":   "set OTEL_TRACES_SAMPLER=parentbased_traceidratio and OTEL_TRACES_SAMPLER_ARG in the environment",

	"rollout.mode":       "ask the running `up`: `corastream rollout shadow FILE` or `corastream rollout canary FILE --share S`; it outlives a restart",
	"rollout.checkpoint": "ask the running `up`: `corastream rollout shadow FILE`",
	"rollout.share":      "ask the running `up`: `corastream rollout canary --share S`",

	"cf.layers":                constant("2 for lightgcn, none for the others"),
	"cf.window":                constant("10"),
	"mix.text":                 constant("fields"),
	"mix.train_after":          constant("1000"),
	"pipeline.recommend_batch": constant("16"),
	"pipeline.read_batch":      constant("32"),
	"generator.cache_bytes":    constant("64 MiB"),
	"store.max_dirty":          constant("12000"),
	"train.seed":               constant("1"),
	"train.align":              constant("4"),
	"train.labels":             constant("1"),
	"train.generator.linear":   "leave it out: train.generator.inputs decides it",
	"train.generator.rank":     constant("16, or as many as train.generator.layers"),

	"kafka.exit_when_idle": "pass `up --exit-when-idle`",
	"kafka.max_batch_wait": constant("50ms"),
	"http.max_candidates":  "kafka.max_array holds for HTTP too",
	"http.rate_burst":      constant("twice http.rate_per_second"),
	"http.gorse":           "pass --gorse to `up` or `run`",
}

func constant(value string) string { return "leave it out: it is a constant now (" + value + ")" }

// checkRemoved refuses a file that has removed keys, each with its line. It finds none in a file that can
// not be parsed, which the decoder has refused.
func checkRemoved(path string, b []byte) error {
	if _, deep := tooDeep(b); deep {
		return nil
	}
	file, err := parser.ParseBytes(b, 0)
	if err != nil {
		return nil
	}
	type found struct {
		line, column int
		key          string
	}
	var all []found
	for key := range removedKeys {
		at, err := yaml.PathString("$." + key)
		if err != nil {
			panic("removed key " + key + ": " + err.Error())
		}
		node, err := at.FilterFile(file)
		if err != nil || node == nil || node.GetToken() == nil {
			continue
		}
		t := node.GetToken() // of the value; its key stands on the same line, or above where the value is a section
		for last := key[strings.LastIndexByte(key, '.')+1:]; t.Prev != nil && t.Value != last; {
			t = t.Prev
		}
		all = append(all, found{t.Position.Line, t.Position.Column, key})
	}
	slices.SortFunc(all, func(a, b found) int { return (a.line-b.line)*10000 + a.column - b.column })
	var errs []error
	for _, f := range all {
		errs = append(errs, corastream.Usagef(fmt.Sprintf("%s:%d:%d", path, f.line, f.column), removedKeys[f.key], "%s is not a key any more", f.key))
	}
	return errors.Join(errs...)
}
