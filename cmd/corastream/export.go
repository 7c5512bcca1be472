package main

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/serve"
)

func exportCommand() *cobra.Command {
	var f common
	var ask serve.AdapterRequest
	var out string
	c := &cobra.Command{
		Use:   "export",
		Short: "Write a user's weights as a LoRA adapter that other LLM servers load: a PEFT folder, and a GGUF for llama.cpp",
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
			if err := exportable(out); err != nil {
				return err
			}
			if f.data == "" {
				if files, ok, err := fetchAdapter(cmd.Context(), cfg, ask); err != nil {
					return err
				} else if ok {
					return writeExport(cmd.OutOrStdout(), out, files)
				}
			}
			e, err := openOffline(cfg, log)
			if err != nil {
				return err
			}
			defer e.close()
			files, err := e.adapter(cmd.Context(), ask)
			if errors.Is(err, corastream.ErrUnknown) || errors.Is(err, corastream.ErrDegraded) {
				err = corastream.Usagef("", "check --user, --item, --data and --checkpoint", "%v", err)
			}
			if err != nil {
				return err
			}
			return writeExport(cmd.OutOrStdout(), out, files)
		},
	}
	f.add(c, "data", "llm", "checkpoint")
	c.Flags().StringVar(&ask.User, "user", "", "who")
	c.Flags().StringVar(&ask.Item, "item", "", "with this item's bias: the weights of one pair (default: the user's part)")
	c.Flags().StringVar(&ask.Base, "base", "", "how the consumer calls the base model, for adapter_config.json (default: the GGUF's file name)")
	c.Flags().BoolVar(&ask.GGUF, "gguf", false, "also write "+ggufAdapter+" for llama.cpp")
	c.Flags().StringVar(&out, "out", "", "folder to write; one of an earlier export is replaced")
	return c
}

// The files of an export beside PEFT's own.
const (
	ggufAdapter = "adapter.gguf"
	exportNote  = "corastream.json"
	exportText  = "README.md"
)

// exportNames are all files that an export may hold.
var exportNames = []string{generator.PEFTWeights, ggufAdapter, exportText, generator.PEFTConfig, exportNote}

// exportable refuses a folder that holds something else.
func exportable(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return corastream.Usagef("--out", "name a folder", "%v", err)
	}
	for _, e := range entries {
		if !slices.Contains(exportNames, e.Name()) {
			return corastream.Usagef("--out", "name a new folder, or one of an earlier export", "%s holds %s, which is no export", dir, e.Name())
		}
	}
	return nil
}

// writeExport writes the files one by one, each whole or not at all, and corastream.json last; what an earlier export
// left and this one lacks goes first. The note is the last line of standard output.
func writeExport(w io.Writer, dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range exportNames {
		path := filepath.Join(dir, name)
		body, ok := files[name]
		if !ok {
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			continue
		}
		if err := generator.WriteFile(path, body); err != nil {
			return err
		}
	}
	var note map[string]any
	if err := json.Unmarshal(files[exportNote], &note); err != nil {
		return fmt.Errorf("%s: %w", exportNote, err)
	}
	note["out"] = dir
	return jsonLine(w, note)
}

// maxExport bounds what is read of a running `up`.
const maxExport = 1 << 30

// fetchAdapter asks the running `up`; ok is false when none answers.
func fetchAdapter(ctx context.Context, cfg Config, ask serve.AdapterRequest) (files map[string][]byte, ok bool, err error) {
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
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxExport))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answered %s: %s", cfg.HTTP.Listen, resp.Status, bytes.TrimSpace(body))
		if resp.StatusCode/100 == 4 {
			err = corastream.Usagef("", "check --user and --item", "%v", err)
		}
	}
	if err != nil {
		return nil, true, err
	}
	files, err = unzip(body)
	return files, true, err
}

// unzip reads an export's files; names that are none of its own are refused, so that nothing lands elsewhere.
func unzip(body []byte) (map[string][]byte, error) {
	z, err := zip.NewReader(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		return nil, fmt.Errorf("the answer is no zip file: %w", err)
	}
	files := map[string][]byte{}
	for _, f := range z.File {
		if !slices.Contains(exportNames, f.Name) || files[f.Name] != nil {
			return nil, fmt.Errorf("the answer holds a file %q, which is no part of an export", f.Name)
		}
		r, err := f.Open()
		if err != nil {
			return nil, fmt.Errorf("the answer's file %q: %w", f.Name, err)
		}
		b, err := io.ReadAll(io.LimitReader(r, maxExport))
		if err = errors.Join(err, r.Close()); err != nil {
			return nil, fmt.Errorf("the answer's file %q: %w", f.Name, err)
		}
		files[f.Name] = b
	}
	for _, name := range []string{generator.PEFTConfig, generator.PEFTWeights, exportNote} {
		if files[name] == nil {
			return nil, fmt.Errorf("the answer lacks %s (it has %s)", name, strings.Join(exportNames, ", "))
		}
	}
	return files, nil
}
