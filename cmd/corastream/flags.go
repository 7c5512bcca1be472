package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/corastream/corastream/cmd/internal/console"
	"github.com/corastream/corastream/cmd/internal/node"
)

// common are the flags that most commands share.
type common struct {
	config, data, llm, checkpoint, bootstrap, level string
}

func (f *common) add(c *cobra.Command, names ...string) {
	fl := c.Flags()
	fl.StringVarP(&f.config, "config", "c", "", "configuration file (default: built-in defaults)")
	fl.StringVar(&f.level, "log-level", "", "debug, info, warn or error")
	for _, n := range names {
		switch n {
		case "data":
			fl.StringVar(&f.data, "data", "", "folder for state, caches and the embedded broker")
		case "llm":
			fl.StringVar(&f.llm, "llm", "", "GGUF file of the frozen LLM, or off")
		case "checkpoint":
			fl.StringVar(&f.checkpoint, "checkpoint", "", "generator checkpoint (safetensors)")
		case "bootstrap":
			fl.StringVar(&f.bootstrap, "bootstrap-server", "", "Kafka brokers, host:port,... (default: the embedded broker)")
		}
	}
}

// load reads the configuration and lays the flags over it.
func (f *common) load() (node.Config, zerolog.Logger, error) {
	c, err := node.Load(f.config)
	if err != nil {
		return c, zerolog.Nop(), err
	}
	set := func(dst *string, v string) {
		if v != "" {
			*dst = v
		}
	}
	set(&c.Data, f.data)
	set(&c.LLM.File, f.llm)
	set(&c.Checkpoint, f.checkpoint)
	set(&c.Log.Level, f.level)
	if f.bootstrap != "" {
		c.Kafka.Brokers = strings.Split(f.bootstrap, ",")
	}
	if c.LLM.CacheDir == "" {
		c.LLM.CacheDir = node.CacheDir(c.Data)
	}
	if err := c.Validate(); err != nil {
		return c, zerolog.Nop(), err
	}
	return c, newLogger(c.Log), nil
}

func newLogger(c node.LogConfig) zerolog.Logger {
	level, _ := zerolog.ParseLevel(c.Level)
	var w io.Writer = os.Stderr
	if c.Format == "console" || c.Format == "" && console.IsTerminal(os.Stderr) {
		w = zerolog.ConsoleWriter{Out: os.Stderr, TimeFormat: "15:04:05"}
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}

func configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Check or print the configuration", Example: "  corastream config check configs/default.yaml"}
	check := &cobra.Command{
		Use: "check [FILE...]", Short: "Check configuration files; every problem is reported at once",
		Example: "  corastream config check configs/default.yaml", Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var errs []error
			for _, path := range args {
				if _, err := node.Load(path); err != nil {
					errs = append(errs, err)
					continue
				}
				fmt.Fprintf(c.OutOrStdout(), "%s: ok\n", path)
			}
			return errors.Join(errs...)
		},
	}
	var path string
	show := &cobra.Command{
		Use: "print", Short: "Print the configuration with every default filled in; secrets as ***",
		Example: "  corastream config print -c configs/demo.yaml", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := node.Load(path)
			if err != nil {
				return err
			}
			b, err := yaml.Marshal(cfg)
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(b)
			return err
		},
	}
	show.Flags().StringVarP(&path, "config", "c", "", "configuration file")
	c.AddCommand(check, show)
	return c
}
