package node

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml"
	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/cfstream/mix"
	"github.com/corastream/corastream/cmd/internal/cluster"
	"github.com/corastream/corastream/cmd/internal/rollout"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/generator/train"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/replay"
	"github.com/corastream/corastream/serve"
	"github.com/corastream/corastream/serve/llm"
	"github.com/corastream/corastream/store"
)

// Config is the whole configuration: one section for each stage, every key with a default.
type Config struct {
	// Data is the folder for state, caches and the embedded broker. Default "data".
	Data string `yaml:"data"`
	// LLM is the frozen language model.
	LLM LLMConfig `yaml:"llm"`
	// Checkpoint is the generator's safetensors file. Without one the probability of a like is that of CF. Default "".
	Checkpoint string `yaml:"checkpoint"`

	Kafka     ingest.Config              `yaml:"kafka"`
	Broker    BrokerConfig               `yaml:"broker"`
	Cluster   cluster.Config             `yaml:"cluster"`
	Store     store.Config               `yaml:"store"`
	CF        cfstream.Spec              `yaml:"cf"`
	Mix       mix.Spec                   `yaml:"mix"`
	Generator generator.StageConfig      `yaml:"generator"`
	Pipeline  corastream.PipelineConfig  `yaml:"pipeline"`
	Filters   corastream.Filter          `yaml:"filters"`
	Recommend corastream.RecommendConfig `yaml:"recommend"`
	Explore   corastream.ExploreConfig   `yaml:"explore"`
	Rollout   rollout.Config             `yaml:"rollout"`
	Retriever serve.RetrieverConfig      `yaml:"retriever"`
	HTTP      serve.Config               `yaml:"http"`
	Replay    replay.Config              `yaml:"replay"`
	Train     train.Config               `yaml:"train"`
	Log       LogConfig                  `yaml:"log"`
}

// LLMConfig is the model file and how it is read.
type LLMConfig struct {
	// File is a GGUF of an architecture that docs/reference/models.md lists; "off" runs without one. Default: what `make fetch` got.
	File string `yaml:"file"`
	// ListLayers is how many layers items are read through for lists. 0 is all of them: an item's code is then made of its answer token
	// after the last layer and of the mean of its text after two thirds. With a smaller number it is made of the mean after that many
	// alone, and reading takes so much less time. Changing it has the catalogue read again. Default 0, range 0..the model's layers
	// less 1.
	ListLayers int `yaml:"list_layers"`

	llm.Options `yaml:",inline"`
}

// BrokerConfig is the embedded broker, used when kafka.brokers is empty.
type BrokerConfig struct {
	// Listen is its address; port 0 takes a free one. Default 127.0.0.1:0.
	Listen string `yaml:"listen"`
	// SyncWrites flushes each append to disk. Default false: it survives the process, not a power loss.
	SyncWrites bool `yaml:"sync_writes"`
}

// LogConfig is what goes to standard error.
type LogConfig struct {
	// Level is debug, info, warn or error. Default info.
	Level string `yaml:"level"`
	// Format is console or json. Default: console on a terminal, json elsewhere.
	Format string `yaml:"format"`
}

// DefaultLLM is where `make fetch` puts the model, relative to the working folder.
const DefaultLLM = ".cache/smollm2-135m-instruct-q4_1.gguf"

// Default gathers every package's defaults.
func Default() Config {
	replays := replay.Default()
	replays.Kinds = cfstream.Kinds
	return Config{
		Data: "data", LLM: LLMConfig{File: DefaultLLM, Options: llm.Default()},
		Kafka: ingest.Default(), Broker: BrokerConfig{Listen: "127.0.0.1:0"}, Cluster: cluster.Default(), Store: store.Default(), CF: cfstream.Default(), Mix: mix.Default(),
		Generator: generator.DefaultStageConfig(), Pipeline: corastream.DefaultPipelineConfig(),
		Filters: corastream.DefaultFilter(), Recommend: corastream.DefaultRecommend(), Explore: corastream.DefaultExplore(),
		Retriever: serve.DefaultRetrieverConfig(), HTTP: serve.DefaultConfig(), Replay: replays, Train: train.Default(),
		Log: LogConfig{Level: "info"},
	}
}

// pipeline is the pipeline's section with those that have a name of their own.
func (c Config) pipeline() corastream.PipelineConfig {
	p := c.Pipeline
	p.Filter, p.Explore, p.Recommend = c.Filters, c.Explore, c.Recommend
	return p
}

// spread copies the keys that hold for several sections.
func (c *Config) spread() {
	c.Generator.Device = generator.DeviceChoice(c.LLM.Device)
	c.HTTP.MaxIDBytes, c.HTTP.MaxCandidates = c.Kafka.MaxIDBytes, c.Kafka.MaxArray
	c.Replay.History, c.Train.History = c.Pipeline.History, c.Pipeline.History
	c.Train.Spec.Linear = c.Train.Spec.Inputs == generator.InputsUser
	c.Train.Spec.Rank = max(c.Train.Spec.Rank, c.Train.Spec.Layers)
}

// Validate reports the problems of all sections at once. The broker addresses may still be empty: the embedded broker
// fills them in.
func (c Config) Validate() error {
	kafka := c.Kafka
	if len(kafka.Brokers) == 0 {
		kafka.Brokers = []string{"127.0.0.1:9092"}
	}
	errs := []error{
		Section("kafka", kafka.Validate()), Section("cluster", c.Cluster.Validate()), Section("store", c.Store.Validate()), Section("cf", c.CF.Validate()), Section("mix", c.Mix.Validate()),
		Section("llm", c.LLM.Options.Validate()), Section("generator", c.Generator.Validate()),
		Section("pipeline", c.Pipeline.Validate()), Section("filters", c.Filters.Validate()), Section("recommend", c.Recommend.Validate()),
		Section("explore", c.Explore.Validate()), Section("retriever", c.Retriever.Validate()),
		Section("http", c.HTTP.Validate()), Section("replay", c.Replay.Validate()), Section("train", c.Train.Validate()),
	}
	if _, err := zerolog.ParseLevel(c.Log.Level); err != nil || c.Log.Level == "" {
		errs = append(errs, corastream.Usagef("log.level", "choose debug, info, warn or error", "%q is not a level", c.Log.Level))
	}
	if c.Data == "" {
		errs = append(errs, corastream.Usagef("data", "name a folder", "no data folder"))
	}
	return errors.Join(errs...)
}

// Section puts the section's name before every problem's key, once.
func Section(name string, err error) error {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var errs []error
		for _, e := range many.Unwrap() {
			errs = append(errs, Section(name, e))
		}
		return errors.Join(errs...)
	}
	var u *corastream.UsageError
	if errors.As(err, &u) {
		v := *u
		if !strings.HasPrefix(v.Where, name) {
			v.Where = name + "." + v.Where
		}
		return &v
	}
	return fmt.Errorf("%s: %w", name, err)
}

// InSection is Section for an error whose key begins with the given part. It leaves any other as it is.
func InSection(name, part string, err error) error {
	var u *corastream.UsageError
	if errors.As(err, &u) && strings.HasPrefix(u.Where, part) {
		return Section(name, err)
	}
	return err
}

// Load reads a file over the defaults; "" is the defaults alone. Unknown keys are refused with file and line.
func Load(path string) (Config, error) {
	c := Default()
	if path == "" {
		secretsFromEnvironment(&c)
		return c, c.Validate()
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return c, corastream.Usagef(path, "check --config", "%v", err)
	}
	if at, err := decodeYAML(b, &c); err != nil {
		if err := checkRemoved(path, b); err != nil {
			return c, err
		}
		return c, corastream.Usagef(path+at, "`corastream config print` shows every key", "%v", err)
	}
	c.spread()
	secretsFromEnvironment(&c)
	if err := c.Validate(); err != nil {
		return c, corastream.Usagef(path, "", "%v", err)
	}
	return c, nil
}

// deepest is how many brackets may be open: the YAML library's memory grows with depth times length, and no key lies deeper than a few.
const deepest = 64

// tooDeep says whether, and where, more than deepest brackets are open.
func tooDeep(b []byte) (at string, deep bool) {
	depth := 0
	for i, c := range b {
		switch c {
		case '{', '[':
			depth++
		case '}', ']':
			depth = max(0, depth-1)
		}
		if depth > deepest {
			line := 1 + bytes.Count(b[:i], []byte("\n"))
			return fmt.Sprintf(":%d:%d", line, i-bytes.LastIndexByte(b[:i], '\n')), true
		}
	}
	return "", false
}

// decodeYAML reads b strictly. at is the place of a mistake, ":line:column"; the line itself is not shown, since it may
// hold a secret.
func decodeYAML(b []byte, into any) (at string, err error) {
	if at, deep := tooDeep(b); deep {
		return at, fmt.Errorf("over %d brackets are open", deepest)
	}
	if nothing.Match(b) { // the library would set everything to zero
		return "", nil
	}
	err = yaml.UnmarshalWithOptions(b, into, yaml.Strict())
	if err == nil || errors.Is(err, io.EOF) {
		return "", nil
	}
	var place yaml.Error
	if !errors.As(err, &place) {
		return "", err
	}
	what := place.GetMessage()
	if t := place.GetToken(); t != nil && t.Position != nil {
		at = fmt.Sprintf(":%d:%d", t.Position.Line, t.Position.Column)
		what = withoutValues(what, b, t.Position.Line)
		if colon := t.Prev; colon != nil && colon.Value == ":" && colon.Prev != nil { // t is a value: name its key
			what = colon.Prev.Value + ": " + what
		}
	}
	return at, errors.New(what)
}

// nothing is a file of blank lines and comments.
var nothing = regexp.MustCompile(`^(\s*(#.*|---|\.\.\.)?[ \t\r]*(\n|$))*$`)

// quoted is what a message of the parser repeats of the file.
var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)

// withoutValues hides what the file has beside its keys, should a message repeat it: a password that begins with * is an
// alias in YAML, and the parser names the alias that it does not find. Words are taken from the text itself, since where the parser gives
// up it has no values yet; short ones count on the line of the mistake alone, so that messages keep their own words.
func withoutValues(message string, b []byte, line int) string {
	keys := map[string]bool{}
	for i, text := range strings.Split(string(b), "\n") {
		shortest := 6
		if i+1 == line {
			shortest = 3
		}
		for _, word := range strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune("{}[],", r) }) {
			if key, ok := strings.CutSuffix(word, ":"); ok {
				keys[strings.Trim(key, `"'`)] = true
				continue
			}
			word = strings.Trim(word, `"'`)
			behind := word[strings.LastIndexByte(word, ':')+1:] // {"key":value}
			for _, w := range []string{word, behind, strings.TrimLeft(word, "*&!|>-?@%"), strings.TrimLeft(behind, "*&!|>-?@%\"'")} {
				if len(w) >= shortest {
					message = strings.ReplaceAll(message, w, "...")
				}
			}
		}
	}
	return quoted.ReplaceAllStringFunc(message, func(q string) string {
		if keys[strings.Trim(q, `"`)] {
			return q
		}
		return `"..."`
	})
}
