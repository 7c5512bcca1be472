package main

import (
	"context"
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

Contents (--content, cf@CONTENT): what a hybrid knows of an item before any click: llm is the LLM's reading of its title, year its
release year, tfidf its title's letters, year+tfidf and year+llm both, permuted the LLM's dealt out anew between items, none nothing.

The report begins with the next item: HR, NDCG and MRR of each positive row's item among all items that its user may be shown, by a
full scan for CF models and counters, by its list for mix, for llm and cora among CF's best --rank-llm candidates, which costs one
LLM run each. --task unseen leaves out rows whose item the user had met, and ranks among the items not met; --task all ranks every
positive among all items; auto chooses all where at least a tenth of the log's positives repeat an item of their user. AUC and UAUC
come after, where rows have both labels.

--freshness 0s,1m,1h,1d replays every model with each of these label delays and once with nothing learnt after train, and reports
fresh less frozen with intervals, for mix also with the user's state or the model alone frozen. --seeds 5 replays the CF models from five starts. --dev 0.15 holds valid back: choices are
made on the last 15 % of train, by time. How many configurations were scored on the rows is printed and reported.

--shards 4 --sync-events 100 learns as a cluster of four shards does, each on its own copies: what a shard learnt of another one's items
reaches their owner, and what owners made of them reaches all, a micro-batch of 100 events after it was sent, so a copy is stale by
up to 400 events. --sync-every 1s measures the same in the log's own time. CF models alone can be divided, and what ranks on them.`

// replayOptions are replay's flags over the configuration's section.
type replayOptions struct {
	delay                                        time.Duration
	freshness, content, task                     string
	seed                                         uint64
	bootstraps, epochs, seeds, rankRows, rankLLM int
	dev                                          float64
	shards                                       replay.Sharding
}

func (o *replayOptions) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	d := replay.Default()
	fl.DurationVar(&o.delay, "label-delay", 0, "how long after its row a label is learnt")
	fl.StringVar(&o.freshness, "freshness", "", "label delays to compare with learning nothing: 0s,1m,1h,1d")
	fl.StringVar(&o.content, "content", d.Content, "what a hybrid knows of an item before any click")
	fl.StringVar(&o.task, "task", d.Task, "what the next-item figures ask: unseen, all or auto")
	fl.Uint64Var(&o.seed, "seed", d.Seed, "seed of bootstrap and shuffling")
	fl.IntVar(&o.seeds, "seeds", d.Seeds, "starts of each CF model to replay, for the spread")
	fl.IntVar(&o.bootstraps, "bootstraps", d.Bootstraps, "user-clustered bootstrap draws; 0: no intervals")
	fl.IntVar(&o.epochs, "epochs", d.Epochs, "passes over train")
	fl.IntVar(&o.rankRows, "rank-rows", d.RankRows, "most rows of each split to rank among all items; 0: none")
	fl.IntVar(&o.rankLLM, "rank-llm", d.RankLLM, "CF candidates that llm and cora rank for each of them; 0: none")
	fl.Float64Var(&o.dev, "dev", 0, "score this last share of train instead of valid and test")
	fl.IntVar(&o.shards.Shards, "shards", d.Sharding.Shards, "learn as a cluster of so many shards would")
	fl.IntVar(&o.shards.Partitions, "partitions", d.Sharding.Partitions, "--shards: partitions over which users are spread")
	fl.IntVar(&o.shards.SyncEvents, "sync-events", 0, "--shards: they exchange what they learnt after so many events of the log")
	fl.DurationVar(&o.shards.SyncEvery, "sync-every", 0, "--shards: the same in time, by the events' own clock")
}

// apply puts the flags that were given over the configuration.
func (o *replayOptions) apply(cmd *cobra.Command, c *replay.Config) error {
	for name, set := range map[string]func(){
		"label-delay": func() { c.LabelDelay = o.delay }, "content": func() { c.Content = o.content }, "task": func() { c.Task = o.task }, "seed": func() { c.Seed = o.seed },
		"seeds": func() { c.Seeds = o.seeds }, "bootstraps": func() { c.Bootstraps = o.bootstraps }, "epochs": func() { c.Epochs = o.epochs },
		"rank-rows": func() { c.RankRows = o.rankRows }, "rank-llm": func() { c.RankLLM = o.rankLLM }, "dev": func() { c.Dev = o.dev },
		"shards": func() { c.Sharding.Shards = o.shards.Shards }, "partitions": func() { c.Sharding.Partitions = o.shards.Partitions },
		"sync-events": func() { c.Sharding.SyncEvents = o.shards.SyncEvents }, "sync-every": func() { c.Sharding.SyncEvery = o.shards.SyncEvery },
	} {
		if cmd.Flags().Changed(name) {
			set()
		}
	}
	if o.freshness == "" {
		return nil
	}
	var err error
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
