package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/console"
	"github.com/corastream/corastream/cmd/internal/node"
	"github.com/corastream/corastream/replay"
)

// replaying is one call of `replay`: its flags, and what was read.
type replaying struct {
	common
	files                    logFiles
	out, mode, models, order string
	log                      string // one file to be split
	topic, from, to          string
	warmup                   float64
	lists                    string
	dryRun                   bool
	compare                  []string
	opt                      replayOptions
}

func replayCommand() *cobra.Command {
	var r replaying
	c := &cobra.Command{
		Use:   "replay",
		Short: "Evaluate offline: score each row of a log before it is learnt; writes report.json and report.html",
		Long: `Replay runs the stages over a log: files (--train, --valid, --test), one file (--log), or a range of a topic (--topic, --from,
--to). A log or range is cut in time: its first --warmup share is learnt, the rest scored. It writes nothing but --out: no
record, no group, no offset, no state; the data folder is read for caches and the embedded broker alone.
--mode static learns from train alone. --mode prequential (the default for a log or topic) scores each row with what was known
before it, then learns it once its label delay is over. Two equal runs write equal bytes, but for "timing". A run that was
stopped goes on at the model it was at (OUT/.resume).
` + replayModels + `

--lists FILE (what ` + "`consume`" + ` prints) also tells what each model would have earned on lists made with explore: switched on (IPS and
SNIPS with effective sample sizes). --dry-run says what would be replayed, and ends. --compare a.yaml b.yaml runs two
configurations over the same rows and pairs them.`,
		Example: `  corastream replay --log clicks.csv --items items.csv --out report
  corastream replay --log clicks.csv --task all --models popularity,recent --out report
  corastream replay --train train.csv --valid valid.csv --items items.csv --out report
  corastream replay --topic corastream.interactions --from last=2h --out report
  corastream replay --log clicks.csv --items items.csv --dry-run
  corastream replay --mode prequential --label-delay 1h --models bias,cf,cora,cora-shuffled \
      --checkpoint configs/demo.safetensors --train train.csv --test test.csv --items items.csv --out report
  corastream replay --compare a.yaml b.yaml --log clicks.csv --items items.csv --out report
  corastream replay --order data --bootstrap-server 127.0.0.1:9092`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && len(r.compare) == 0 {
				return corastream.Usagef("", "see --help", "replay takes no argument %q", args[0])
			}
			r.compare = append(r.compare, args...)
			return r.run(cmd)
		},
	}
	r.common.add(c, "data", "llm", "checkpoint", "bootstrap")
	fl := c.Flags()
	fl.StringVar(&r.files.train, "train", "", "rows to learn from")
	fl.StringVar(&r.files.valid, "valid", "", "rows to score, reported as valid")
	fl.StringVar(&r.files.test, "test", "", "rows to score, reported as test")
	fl.StringVar(&r.files.items, "items", "", "the catalogue (item_id and what else is known, such as title; may be left out with --log; default with --topic: the items topic)")
	fl.StringVar(&r.log, "log", "", "one file of events, to be cut in time")
	fl.StringVar(&r.topic, "topic", "", "a topic of events, to be cut in time")
	fl.StringVar(&r.from, "from", "earliest", "where the topic's range begins: earliest, latest, an offset, a time (RFC 3339) or last=2h")
	fl.StringVar(&r.to, "to", "latest", "where it ends, in the same words")
	fl.Float64Var(&r.warmup, "warmup", 0.8, "share of a log or topic that is learnt before scoring begins")
	fl.StringVar(&r.lists, "lists", "", "logged recommendations (JSON lines), for what each model would have earned")
	fl.BoolVar(&r.dryRun, "dry-run", false, "say what would be replayed, and end")
	fl.StringSliceVar(&r.compare, "compare", nil, "two configuration files to hold against each other")
	fl.StringVar(&r.out, "out", "", "folder for report.json and report.html")
	fl.StringVar(&r.order, "order", "", "nothing but this: apply the log again in the journal order of data folder DIR and compare digests")
	fl.StringVar(&r.mode, "mode", "", "static or prequential")
	fl.StringVar(&r.models, "models", "", "comma-separated: "+strings.Join(node.Default().Replay.Names(), ",")+",cf@CONTENT")
	r.opt.add(c)
	return c
}

func (r *replaying) run(cmd *cobra.Command) error {
	cfg, log, err := r.load()
	if err != nil {
		return err
	}
	if r.order != "" {
		cfg.Data = r.order
		return compareRerun(cmd.Context(), cfg, node.NoShard, log, cmd.OutOrStdout())
	}
	if err := r.check(cfg); err != nil {
		return err
	}
	if len(r.compare) > 0 {
		return r.comparison(cmd, log)
	}
	side, done, err := r.side(cmd, cfg, log)
	if err != nil || r.dryRun {
		return err
	}
	defer done()
	report, err := replay.Run(cmd.Context(), side.Config, side.Data, side.Deps)
	if err != nil {
		return err
	}
	return r.finish(cmd.OutOrStdout(), report, "report.html")
}

// finish writes what a replay found into the folder --out, forgets what a resumed run would need, and prints the tables.
func (r *replaying) finish(w io.Writer, found interface {
	Write(dir string) error
	Table() string
}, page string,
) error {
	if err := found.Write(r.out); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(r.out, resumeFolder)); err != nil {
		return fmt.Errorf("remove what a resumed run would need: %w", err)
	}
	console.Say(w, found.Table())
	if console.IsTerminal(w) {
		fmt.Fprintln(w, "report:", filepath.Join(r.out, page))
		return nil
	}
	return console.Summary(w, found)
}

// resumeFolder is the folder of --out in which a stopped replay leaves what it knows.
const resumeFolder = ".resume"

// stream says whether the rows come from one log that is cut in time.
func (r *replaying) stream() bool { return r.log != "" || r.topic != "" }

// check refuses calls that name too little, or two logs at once.
func (r *replaying) check(cfg node.Config) error {
	need := map[string]string{"out": r.out}
	if r.dryRun {
		need = map[string]string{}
	}
	if !r.stream() {
		need["train"] = r.files.train
	}
	if !r.stream() {
		need["items"] = r.files.items
	}
	if err := required(need); err != nil {
		return err
	}
	switch {
	case r.log != "" && r.topic != "":
		return corastream.Usagef("", "give one of them", "--log and --topic are two logs")
	case r.stream() && r.files.train+r.files.valid+r.files.test != "":
		return corastream.Usagef("", "give --log or --topic alone: it is cut in time by --warmup", "--train, --valid and --test are another log")
	case r.stream() && !(r.warmup > 0 && r.warmup < 1):
		return corastream.Usagef("--warmup", "choose above 0 and below 1", "%v is out of range", r.warmup)
	case !r.stream() && r.files.valid == "" && r.files.test == "" && r.opt.study["dev"] == "":
		return corastream.Usagef("", "give --valid FILE, --test FILE or both, or --study dev=0.15", "no rows to score")
	case len(r.compare) > 0 && len(r.compare) != 2:
		return corastream.Usagef("--compare", "write --compare a.yaml b.yaml", "%d configurations", len(r.compare))
	}
	_, err := r.pace()
	return err
}

// settings lays the flags over the configuration's section.
func (r *replaying) settings(cmd *cobra.Command, cfg node.Config) (replay.Config, error) {
	rc := cfg.Replay
	rc.Demand = cfg.Retriever.Demand
	if r.mode != "" {
		rc.Mode = r.mode
	} else if r.stream() {
		rc.Mode = replay.Prequential
	}
	if r.models != "" {
		rc.Models = strings.Split(r.models, ",")
	} else if cfg.Checkpoint != "" {
		rc.Models = []string{replay.Bias, replay.CF, replay.Cora, replay.Mix}
	}
	if err := r.opt.apply(&rc); err != nil {
		return rc, err
	}
	return rc, rc.Validate()
}
