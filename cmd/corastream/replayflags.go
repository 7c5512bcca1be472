package main

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/replay"
)

// replayModels is the part of replay's help that says what can be evaluated.
var replayModels = `
Models (--models): bias is mu + b_u + b_i, the yardstick; cf the CF model of the configuration, and cf@CONTENT the same on another
content; each kind of cf.kind (` + strings.Join(cfstream.Kinds, ", ") + `) that CF model; popularity, recent (half_life), itemknn and ease count likes and rank, so they
have no log loss; mix is the list model, which learns what is taken next and gives lists alone, by titles where it reads text; words is mix with
the words of titles and fields, all is words with the LLM's part, which is what up serves; reader is a logistic regression on the generator's inputs, without an LLM; llm is cora's prompt with no weights;
stack a logistic regression on cf and llm; cora the frozen LLM with each pair's weights, cora-shuffled with another row's prompt.
The lists of cora are mix with the LLM's part, and those of cora-shuffled the same with each item's code at another item. They need no
checkpoint: the LLM reads each item's title and fields once, and the list model trains on the rows that it learns.

Contents (--study content=NAME, cf@NAME): what a hybrid knows of an item before any click: llm is the LLM's reading of its title, year its
release year, tfidf its title's letters, year+tfidf and year+llm both, permuted the LLM's dealt out anew between items, none nothing.

The report begins with the next item: HR, NDCG and MRR of each positive row's item among all items that its user may be shown, by a
full scan for CF models and counters, by its list for mix, for llm and cora among some of CF's best candidates, which costs one
LLM run each. --task unseen leaves out rows whose item the user had met, and ranks among the items not met; --task all ranks every
positive among all items; auto chooses all where at least a tenth of the log's positives repeat an item of their user. AUC and UAUC
come after, where rows have both labels.

--freshness 0s,1m,1h,1d replays every model with each of these label delays and once with nothing learnt after train, and reports
fresh less frozen with intervals, for mix also with the user's state or the model alone frozen. How many configurations were scored on
the rows is printed and reported.

Experiments (--study NAME=VALUE,...):
  content=NAME         what a hybrid knows of an item, as above
  dev=0.15             hold valid and test back: score the last 15 % of train, by time, to make choices on
  seeds=5              replay the CF models from five starts, for the spread
  rank-rows=N          most rows of each split to rank among all items; 0: none
  rank-llm=N           CF candidates that llm and cora rank for each of them; 0: none
  speed=60             read the log sixty times as fast as it happened (default max)
  shards=4             learn as a cluster of four shards does, each on its own copies. CF models alone can be divided, and what ranks on them
  partitions=N         over which the users of these shards are spread
  sync-events=100      with shards: they exchange what they learnt after a micro-batch of 100 events. A shard's news reaches the owner of an
                       item, and then all others, so a copy is stale by up to 400 events
  sync-every=1s        the same in the log's own time`

// replayOptions are replay's flags over the defaults.
type replayOptions struct {
	delay              time.Duration
	freshness, task    string
	seed               uint64
	bootstraps, epochs int
	study              map[string]string
}

func (o *replayOptions) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	d := replay.Default()
	fl.DurationVar(&o.delay, "label-delay", 0, "how long after its row a label is learnt")
	fl.StringVar(&o.freshness, "freshness", "", "label delays to compare with learning nothing: 0s,1m,1h,1d")
	fl.StringVar(&o.task, "task", d.Task, "what the next-item figures ask: unseen, all or auto")
	fl.Uint64Var(&o.seed, "seed", d.Seed, "seed of bootstrap and shuffling")
	fl.IntVar(&o.bootstraps, "bootstraps", d.Bootstraps, "user-clustered bootstrap draws; 0: no intervals")
	fl.IntVar(&o.epochs, "epochs", d.Epochs, "passes over train")
	fl.StringToStringVar(&o.study, "study", nil, "settings of an experiment, as dev=0.15,seeds=5 (see above)")
}

// studies are the settings that --study takes: each puts its value into the replay's configuration.
var studies = map[string]func(c *replay.Config, v string) error{
	"content":     func(c *replay.Config, v string) error { c.Content = v; return nil },
	"dev":         func(c *replay.Config, v string) (err error) { c.Dev, err = strconv.ParseFloat(v, 64); return err },
	"partitions":  func(c *replay.Config, v string) (err error) { c.Sharding.Partitions, err = strconv.Atoi(v); return err },
	"rank-llm":    func(c *replay.Config, v string) (err error) { c.RankLLM, err = strconv.Atoi(v); return err },
	"rank-rows":   func(c *replay.Config, v string) (err error) { c.RankRows, err = strconv.Atoi(v); return err },
	"seeds":       func(c *replay.Config, v string) (err error) { c.Seeds, err = strconv.Atoi(v); return err },
	"shards":      func(c *replay.Config, v string) (err error) { c.Sharding.Shards, err = strconv.Atoi(v); return err },
	"speed":       func(*replay.Config, string) error { return nil }, // it is the source's: replaysource.go
	"sync-events": func(c *replay.Config, v string) (err error) { c.Sharding.SyncEvents, err = strconv.Atoi(v); return err },
	"sync-every": func(c *replay.Config, v string) (err error) {
		c.Sharding.SyncEvery, err = time.ParseDuration(v)
		return err
	},
}

// apply puts the flags that were given over the configuration.
func (o *replayOptions) apply(c *replay.Config) (err error) {
	c.LabelDelay, c.Task, c.Seed, c.Bootstraps, c.Epochs = o.delay, o.task, o.seed, o.bootstraps, o.epochs
	for _, name := range slices.Sorted(maps.Keys(o.study)) {
		set := studies[name]
		if set == nil {
			return corastream.Usagef("--study", "choose from "+strings.Join(slices.Sorted(maps.Keys(studies)), ", "), "%q is not a setting", name)
		}
		if err := set(c, o.study[name]); err != nil {
			return corastream.Usagef("--study "+name, "see `corastream replay --help`", "%v", err)
		}
	}
	if o.freshness == "" {
		return nil
	}
	if c.Freshness, err = replay.ParseDelays(o.freshness); err != nil {
		return corastream.Usagef("--freshness", "give delays like 0s,1m,1h,1d", "%v", err)
	}
	return nil
}

// contentMaker offers replay the contents it may ask for; the items hold the LLM's.
func contentMaker(width int, seed uint64, items []corastream.Item) func(context.Context, string) ([][]float32, error) {
	return func(_ context.Context, name string) ([][]float32, error) {
		return replay.MakeContent(name, items, width, seed, func() ([][]float32, error) {
			out := make([][]float32, len(items))
			some := false
			for i := range items {
				out[i] = items[i].Content
				some = some || out[i] != nil
			}
			if !some && name != replay.ContentLLM {
				return nil, corastream.Usagef("content", "give --llm FILE, or choose year, tfidf, year+tfidf or none", "%s needs the LLM", name)
			}
			return out, nil
		})
	}
}
