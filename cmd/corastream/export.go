package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/adapter"
	"github.com/corastream/corastream/cmd/internal/console"
	"github.com/corastream/corastream/cmd/internal/node"
	"github.com/corastream/corastream/serve"
)

func exportCommand() *cobra.Command {
	var f common
	var ask serve.AdapterRequest
	var out string
	c := &cobra.Command{
		Use:   "export",
		Short: "Write a user's weights as a LoRA adapter that other LLM servers load: a PEFT folder, and a GGUF for llama.cpp; or the log's events or items",
		Long: `Export writes the low-rank weights as they stand now: with --item the pair's, which give this program's score in any server that
runs the same base model in the same precision; without it the user's part, whose scores lack the item's bias. It asks the running
` + "`up`" + `, or with --data reads a data folder that nobody holds. README.md and corastream.json in the folder say what is in it.`,
		Example: `  corastream export --user 42 --item 50 --out pair --gguf
  corastream export --user 42 --out user --data /var/lib/corastream --checkpoint cora.safetensors --base HuggingFaceTB/SmolLM2-135M-Instruct`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := f.load()
			if err != nil {
				return err
			}
			if err := required(map[string]string{"user": ask.User, "out": out}); err != nil {
				return err
			}
			if err := adapter.Writable(out); err != nil {
				return err
			}
			if f.data == "" {
				if files, ok, err := fetchAdapter(cmd.Context(), cfg, ask); err != nil {
					return err
				} else if ok {
					return printExport(cmd.OutOrStdout(), out, files)
				}
			}
			e, err := node.OpenOffline(cfg, version, log)
			if err != nil {
				return err
			}
			defer e.Close()
			files, err := e.Adapters().Adapter(cmd.Context(), ask)
			if errors.Is(err, corastream.ErrUnknown) || errors.Is(err, corastream.ErrDegraded) {
				err = corastream.Usagef("", "check --user, --item, --data and --checkpoint", "%v", err)
			}
			if err != nil {
				return err
			}
			return printExport(cmd.OutOrStdout(), out, files)
		},
	}
	c.AddCommand(exportEventsCommand(), exportItemsCommand())
	f.add(c, "data", "llm", "checkpoint")
	c.Flags().StringVar(&ask.User, "user", "", "who")
	c.Flags().StringVar(&ask.Item, "item", "", "with this item's bias: the weights of one pair (default: the user's part)")
	c.Flags().StringVar(&ask.Base, "base", "", "how the consumer calls the base model, for adapter_config.json (default: the GGUF's file name)")
	c.Flags().BoolVar(&ask.GGUF, "gguf", false, "also write "+adapter.GGUFName+" for llama.cpp")
	c.Flags().StringVar(&out, "out", "", "folder to write; one of an earlier export is replaced")
	return c
}

// fetchAdapter asks the running `up`; ok is false when none answers.
func fetchAdapter(ctx context.Context, cfg node.Config, ask serve.AdapterRequest) (files map[string][]byte, ok bool, err error) {
	q := url.Values{}
	for k, v := range map[string]string{"item": ask.Item, "base": ask.Base} {
		if v != "" {
			q.Set(k, v)
		}
	}
	if ask.GGUF {
		q.Set("gguf", "true")
	}
	at := "http://" + cfg.HTTP.Listen + "/v1/adapters/" + url.PathEscape(ask.User) + "?" + q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, false, err
	}
	if token := cfg.HTTP.Token.Reveal(); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, false, ctx.Err()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, adapter.MaxBytes))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answered %s: %s", cfg.HTTP.Listen, resp.Status, bytes.TrimSpace(body))
		if resp.StatusCode/100 == 4 {
			err = corastream.Usagef("", "check --user and --item", "%v", err)
		}
	}
	if err != nil {
		return nil, true, err
	}
	files, err = adapter.Unzip(body)
	return files, true, err
}

// printExport writes an export's folder. The note is the last line of standard output.
func printExport(w io.Writer, dir string, files map[string][]byte) error {
	note, err := adapter.Write(dir, files)
	if err != nil {
		return err
	}
	return console.JSONLine(w, note)
}
