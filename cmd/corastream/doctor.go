package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/node"
	"github.com/corastream/corastream/cmd/internal/tracing"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/store"
)

func doctorCommand() *cobra.Command {
	var f common
	c := &cobra.Command{
		Use: "doctor", Short: "Check everything that `up` needs, and name the cause and the fix of what is wrong",
		Example: "  corastream doctor -c configs/default.yaml --bootstrap-server kafka:9092", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := f.load()
			if err != nil {
				return err
			}
			return examine(cmd.Context(), cfg, log.Level(zerolog.WarnLevel), cmd.OutOrStdout())
		},
	}
	f.add(c, "data", "llm", "checkpoint", "bootstrap")
	return c
}

// examine runs the checks in order and reports each; one that fails does not hide the next.
func examine(ctx context.Context, cfg node.Config, log zerolog.Logger, w io.Writer) error {
	bad := 0
	say := func(name string, err error, good string) {
		if err != nil {
			bad++
			fmt.Fprintf(w, "BAD  %-11s %v\n", name, err)
			return
		}
		fmt.Fprintf(w, "ok   %-11s %s\n", name, good)
	}
	fmt.Fprintf(w, "ok   %-11s %s\n", "build", buildInfo())
	s, state, err := examineState(cfg)
	say("data", err, state)
	if s != nil {
		defer s.Close()
		say("cf", boundTo(s, "cf", cfg.CF.String(), "set cf in the configuration back, or start with another --data folder"), cfg.CF.String())
	}
	model, err := node.OpenLLM(cfg.LLM, log)
	if model == nil && err == nil {
		say("llm", nil, "off: ranking by CF alone")
	} else if say("llm", err, cfg.LLM.File); err == nil {
		defer model.Close()
		ck, err := node.OpenCheckpoint(cfg, model)
		good := "none: degraded, ranking by CF alone (fix: `corastream train`, then --checkpoint FILE)"
		if ck != nil {
			good = cfg.Checkpoint
			if s != nil {
				err = boundTo(s, "basis", ck.Basis.Digest(), "use the checkpoint this store was made with, or another --data folder")
			}
		}
		say("checkpoint", err, good)
	}
	if len(cfg.Kafka.Brokers) == 0 {
		say("kafka", nil, "the embedded broker (fix: --bootstrap-server HOST:PORT for a real one)")
	} else {
		say("kafka", examineKafka(ctx, cfg.Kafka, s), fmt.Sprint(cfg.Kafka.Brokers))
	}
	where, err := examineTraces(ctx)
	say("traces", err, where)
	if bad > 0 {
		return fmt.Errorf("%d of the checks failed", bad)
	}
	return nil
}

// examineState looks at the data folder: whether it can be written, how much room there is, and, when no other process
// holds it, the store itself, which the caller closes.
func examineState(cfg node.Config) (s *store.Store, good string, err error) {
	if err := os.MkdirAll(cfg.Data, 0o755); err != nil {
		return nil, "", fmt.Errorf("%w (fix: give a folder that this user may write, with --data)", err)
	}
	if _, err := os.Stat(filepath.Join(cfg.Data, "store")); err != nil {
		return nil, cfg.Data + ", empty", writable(cfg.Data)
	}
	s, _, err = node.OpenStore(cfg, zerolog.Nop())
	var usage *corastream.UsageError
	if errors.As(err, &usage) {
		return nil, cfg.Data + ", held by a running process: ask its /readyz for the rest", nil
	}
	if err != nil {
		return nil, "", err
	}
	st, err := s.Stats()
	if err == nil && st.FreeBytes >= 0 && st.FreeBytes < cfg.Store.ReserveBytes {
		err = fmt.Errorf("%s has %d MiB free, learning waits below %d MiB (fix: free some space, or lower store.reserve_bytes)",
			cfg.Data, st.FreeBytes>>20, cfg.Store.ReserveBytes>>20)
	}
	return s, fmt.Sprintf("%s, %d users, %d items, %d MiB free", cfg.Data, st.Users, st.Items, st.FreeBytes>>20), err
}

func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".doctor")
	if err != nil {
		return fmt.Errorf("%w (fix: give a folder that this user may write, with --data)", err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// boundTo says whether a store was made with this value; one that was never bound takes any.
func boundTo(s *store.Store, key, value, fix string) error {
	have, err := s.Meta(key)
	if err == nil && have != "" && have != value {
		err = fmt.Errorf("%w: the store was made with %s %s, this configuration has %s (fix: %s)", corastream.ErrMismatch, key, have, value, fix)
	}
	return err
}

// examineKafka probes brokers, login, topics and, with a store, whether the log still holds what is to be read next.
func examineKafka(ctx context.Context, cfg ingest.Config, s *store.Store) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	h := ingest.Hooks{Log: zerolog.Nop()}
	if s != nil {
		h.Next, h.Meta = s.Next, s.Meta
	}
	return ingest.Probe(ctx, cfg, h)
}

// examineTraces says where traces go, and whether somebody listens there.
func examineTraces(ctx context.Context) (where string, err error) {
	if where, err = tracing.Wanted(); err != nil || where == "" {
		return "off", err
	}
	u, err := url.Parse(where)
	if err != nil || u.Hostname() == "" {
		return "", corastream.Usagef("OTEL_EXPORTER_OTLP_ENDPOINT", "write http://HOST:4318", "it is not the address of a collector")
	}
	port := u.Port()
	if port == "" {
		port = u.Scheme // net knows http and https by name
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return "", fmt.Errorf("%w (fix: start the collector, or correct OTEL_EXPORTER_OTLP_ENDPOINT; `up` runs without, and loses spans)", err)
	}
	return u.Redacted(), conn.Close()
}
