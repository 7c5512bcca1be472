// Command corastream recommends with a frozen language model whose low-rank weights follow every click.
//
// Exit codes: 0 done, 1 failed at run time, 2 bad usage or configuration. Logs go to standard error; when standard
// output is not a terminal, the last line of a long command is one JSON object: its summary.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
)

//go:generate env CORASTREAM_WRITE=1 go test -count=1 -run TestConfigurationReferenceIsUpToDate .
//go:generate env CORASTREAM_WRITE=1 go test -count=1 -run TestThePageOfEventsIsTheTable .

// version is set by the linker.
var version = "unversioned"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() { // a second Ctrl-C ends at once
		<-ctx.Done()
		stop()
	}()
	os.Exit(run(ctx, os.Args[1:]))
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string) int {
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "corastream: "+strings.TrimSpace(err.Error()))
	return exitCode(err)
}

// exitCode is 2 for what the caller can mend by calling differently, 1 for all else.
func exitCode(err error) int {
	var usage *corastream.UsageError
	if errors.As(err, &usage) {
		return 2
	}
	return 1
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "corastream",
		Short: "Recommendations from a frozen language model that learns from every click",
		Long: `corastream reads click events from Kafka, moves collaborative-filtering embeddings with each of them, makes fresh
low-rank weights from the moved embeddings (CoRA), and lets a frozen language model rank with them.`,
		Example:       "  corastream up -c configs/default.yaml\n  corastream demo --events 2000",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		if instead := removedFlag(c.Name(), err); instead != "" {
			return corastream.Usagef(c.CommandPath(), instead, "%v: it was removed", err)
		}
		return corastream.Usagef(c.CommandPath(), "see "+c.CommandPath()+" --help", "%v", err)
	})
	root.AddCommand(
		upCommand(), runCommand(), demoCommand(), produceCommand(), consumeCommand(), requestsCommand(),
		replayCommand(), trainCommand(), scoreCommand(), recommendCommand(), exportCommand(), benchCommand(),
		configCommand(), doctorCommand(), validateCommand(), storeCommand(), eraseCommand(), healthcheckCommand(), rolloutCommand(), completionCommand(), versionCommand(),
	)
	root.AddCommand(gpuCommands()...)
	usageArgs(root)
	return root
}

// usageArgs turns cobra's complaints about positional arguments and unknown commands into usage errors.
func usageArgs(c *cobra.Command) {
	check := c.Args
	if check == nil {
		check = cobra.ArbitraryArgs
		if c.HasSubCommands() {
			check = cobra.NoArgs
		}
	}
	if c.HasSubCommands() && !c.Runnable() { // cobra would print help for an unknown command, and exit 0
		c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	c.Args = func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			if len(args) > 0 && !cmd.HasParent() && args[0] == "simulate" {
				return corastream.Usagef("simulate", "run `go run ./cmd/scalesim` in a clone of the repository", "it is a developer's tool of its own now")
			}
			return corastream.Usagef("", "see "+cmd.CommandPath()+" --help", "%v", err)
		}
		return nil
	}
	for _, sub := range c.Commands() {
		usageArgs(sub)
	}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version, the kernel level and the build", Args: cobra.NoArgs,
		Example: "  corastream version",
		RunE: func(c *cobra.Command, _ []string) error {
			fmt.Fprintln(c.OutOrStdout(), buildInfo())
			return nil
		},
	}
}

func buildInfo() string {
	revision := ""
	if bi, ok := debug.ReadBuildInfo(); ok {
		for _, s := range bi.Settings {
			if s.Key == "vcs.revision" {
				revision = " " + s.Value
			}
		}
	}
	return fmt.Sprintf("corastream %s%s (%s, %s/%s, kernels %s)", version, revision, runtime.Version(), runtime.GOOS,
		runtime.GOARCH, kernels.Level())
}
