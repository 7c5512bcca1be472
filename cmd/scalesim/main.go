// Command scalesim simulates a cluster that no machine here is large enough for. It is a tool for developers: what it prints is in
// docs/measured/scale.md.
//
//	go run ./cmd/scalesim --events 20000 --shards 16 --seconds 2
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/corastream/corastream/cmd/internal/cluster"
	"github.com/corastream/corastream/cmd/internal/console"
	"github.com/corastream/corastream/cmd/internal/scalesim"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := scaleCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "scalesim: "+err.Error())
		os.Exit(1)
	}
}

func scaleCommand() *cobra.Command {
	s := scalesim.Default(cluster.NewsLimit)
	var times string
	c := &cobra.Command{
		Use: "scalesim", SilenceUsage: true, SilenceErrors: true, Short: "Simulate a cluster under load: what saturates first, and what then",
		Long: `Scalesim simulates learners, replicas and brokers millisecond by millisecond: every event's user and item are drawn by Zipf's law, every
micro-batch takes what has come and is busy for as long as that costs, and what it publishes is read by everybody else at the rate of their
networks. What a step costs was measured with this program on two cores (docs/measured/scale.md); --times FILE puts in other measurements. It prints
lag, freshness, bytes, memory, hot spots, recovery, and how much of each resource is used; the JSON is the last line. Equal seeds give
equal reports. A million events a second take about a second of one core for each two or three that are simulated.

As built, every learner follows the whole changelog of every other one, and writes its copies of their items to its own.
What is not built can be tried: --item-topic has items on a topic of their own, --copies-in-memory keeps others' items out of transactions,
--broadcast-every holds an item's vector back to send several changes as one, --replica-groups has each replica hold a part of the users.`,
		Example: `  go run ./cmd/scalesim
  go run ./cmd/scalesim --events 20000 --shards 16 --partitions 256 --replicas 40 --seconds 2
  go run ./cmd/scalesim --events 20000 --shards 16 --item-topic --broadcast-every 1s --seconds 2`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if times != "" {
				if err := s.ReadTimes(times); err != nil {
					return err
				}
			}
			if err := s.Validate(); err != nil {
				return err
			}
			sim := scalesim.New(s)
			bar := console.NewProgress(zerolog.New(os.Stderr).With().Timestamp().Logger(), "simulate")
			if err := sim.Run(cmd.Context(), bar.Set); err != nil {
				return err
			}
			r := sim.Report()
			w := cmd.OutOrStdout()
			fmt.Fprint(w, r.Table())
			if console.IsTerminal(w) {
				return nil
			}
			return console.Summary(w, r)
		},
	}
	fl := c.Flags()
	fl.Float64Var(&s.Events, "events", s.Events, "interactions a second")
	fl.IntVar(&s.Partitions, "partitions", s.Partitions, "partitions of the interactions topic")
	fl.IntVar(&s.Users, "users", s.Users, "users that are known")
	fl.IntVar(&s.Items, "items", s.Items, "items of the catalogue")
	fl.Float64Var(&s.UserExponent, "user-exponent", s.UserExponent, "Zipf's exponent of users")
	fl.Float64Var(&s.UserFlat, "user-flat", s.UserFlat, "added to a user's rank: the larger, the less hot the hottest")
	fl.Float64Var(&s.ItemExponent, "item-exponent", s.ItemExponent, "Zipf's exponent of items")
	fl.Float64Var(&s.ItemFlat, "item-flat", s.ItemFlat, "added to an item's rank")
	fl.IntVar(&s.Negatives, "negatives", s.Negatives, "negatives drawn for each event (clicks: 4; ratings: 0)")
	fl.Float64Var(&s.Answered, "answered", s.Answered, "share of moved users for whom a recommendation is made")
	fl.IntVar(&s.Shards, "shards", s.Shards, "shards that learn")
	fl.IntVar(&s.Hosted, "shards-per-machine", s.Hosted, "shards on one machine")
	fl.IntVar(&s.Replicas, "replicas", s.Replicas, "machines that answer")
	fl.IntVar(&s.Cores, "cores", s.Cores, "cores of a machine")
	fl.Float64Var(&s.Network, "network", s.Network, "bytes a second of a machine's network, each way")
	fl.IntVar(&s.Brokers, "brokers", s.Brokers, "Kafka's brokers")
	fl.IntVar(&s.Copies, "replication", s.Copies, "copies that Kafka keeps")
	fl.BoolVar(&s.ItemTopic, "item-topic", s.ItemTopic, "items have a topic of their own (not built)")
	fl.BoolVar(&s.InMemory, "copies-in-memory", s.InMemory, "--item-topic: learners keep others' items in memory, not in their store (not built)")
	fl.DurationVar(&s.Broadcast, "broadcast-every", s.Broadcast, "--item-topic: an item is sent no oftener than this (not built)")
	fl.IntVar(&s.Groups, "replica-groups", s.Groups, "--item-topic: groups of replicas that share out the users (not built)")
	fl.Float64Var(&s.Seconds, "seconds", s.Seconds, "seconds to simulate")
	fl.Float64Var(&s.Warm, "warm", s.Warm, "seconds to simulate before measuring")
	fl.Uint64Var(&s.Seed, "seed", s.Seed, "seed of all that is drawn")
	fl.StringVar(&times, "times", "", "JSON file of service times and record sizes, as the summary's service and bytes")
	return c
}
