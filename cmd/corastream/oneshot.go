package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/console"
	"github.com/corastream/corastream/cmd/internal/node"
)

// ask sends a request to the running `up`; ok is false when none answers.
func ask(ctx context.Context, cfg node.Config, path string, body any) (answer json.RawMessage, ok bool, err error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, false, err
	}
	return send(ctx, cfg, http.MethodPost, path, b)
}

func send(ctx context.Context, cfg node.Config, method, path string, body []byte) (answer json.RawMessage, ok bool, err error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+cfg.HTTP.Listen+path, bytes.NewReader(body))
	if err != nil {
		return nil, false, err
	}
	req.Header.Set("Content-Type", "application/json")
	if token := cfg.HTTP.Token.Reveal(); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, false, nil
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s%s answered %s: %s", cfg.HTTP.Listen, path, resp.Status, bytes.TrimSpace(answer))
	}
	return answer, true, err
}

func recommendCommand() *cobra.Command {
	var f common
	var user, seen string
	var history []string
	var n int
	c := &cobra.Command{
		Use:   "recommend",
		Short: "Recommend to one user, from the running `up` or from a data folder that nobody holds",
		Long: `Recommend prints one list as JSON: each item with its place, why it is there, and the probability that the user would like it.
--history lists items that a visitor liked, oldest first; they follow the user's own history, and --user may be left out then.`,
		Example: `  corastream recommend --user 42 -n 5
  corastream recommend --history 50,172,181
  corastream recommend --user 42 --data /var/lib/corastream --checkpoint cora.safetensors`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := f.load()
			if err != nil {
				return err
			}
			if len(history) == 0 {
				if err := required(map[string]string{"user": user}); err != nil {
					return err
				}
			}
			q := corastream.Request{User: user, N: n, Seen: seen}
			if q.History, err = pastLikes(history); err != nil {
				return err
			}
			if err := corastream.CheckSeen("--seen", seen); err != nil {
				return err
			}
			body := map[string]any{"user_id": user, "history": history, "seen": seen}
			if n > 0 {
				body["n"] = n
			}
			if f.data == "" {
				if answer, ok, err := ask(cmd.Context(), cfg, "/v1/recommend", body); ok || err != nil {
					return printAnswer(cmd.OutOrStdout(), answer, err)
				}
			}
			e, err := node.OpenOffline(cfg, version, log)
			if err != nil {
				return err
			}
			defer e.Close()
			recs, err := e.Pipeline.Recommend(cmd.Context(), []corastream.Owed{{User: user, Request: &q}})
			if err != nil {
				return err
			}
			r := recs[0]
			return console.JSONLine(cmd.OutOrStdout(), map[string]any{
				"user_id": r.User, "items": r.Items, "candidates": r.Candidates, "degraded": r.Degraded, "cold": r.Cold, "versions": r.Versions,
			})
		},
	}
	f.add(c, "data", "llm", "checkpoint")
	c.Flags().StringVar(&user, "user", "", "who")
	c.Flags().IntVarP(&n, "items", "n", 0, "how many items (0: as configured)")
	c.Flags().StringSliceVar(&history, "history", nil, "items liked, oldest first, of somebody whose events are in no log")
	c.Flags().StringVar(&seen, "seen", "", seenHelp)
	return c
}

const seenHelp = "which items of the history may be listed: auto, exclude, clicked (shown and not clicked) or include (default: as configured)"

// pastLikes are likes of these items, oldest first, a moment ago.
func pastLikes(items []string) (out []corastream.Interaction, err error) {
	if len(items) > corastream.MaxPast {
		return nil, corastream.Usagef("--history", fmt.Sprintf("give the last %d at most", corastream.MaxPast), "%d items", len(items))
	}
	for _, id := range items {
		out = append(out, corastream.Interaction{Item: id, Label: 1, Time: time.Now().UTC()})
	}
	return out, nil
}

func printAnswer(w io.Writer, answer json.RawMessage, err error) error {
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", bytes.TrimSpace(answer))
	return err
}

func scoreCommand() *cobra.Command {
	var f common
	var user string
	var items []string
	c := &cobra.Command{
		Use:     "score",
		Short:   "Score items for one user: P(Yes) by the LLM with the user's weights, and the CF probability",
		Example: "  corastream score --user 42 --item 50,172,181",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := f.load()
			if err != nil {
				return err
			}
			first := ""
			if len(items) > 0 {
				first = items[0]
			}
			if err := required(map[string]string{"user": user, "item": first}); err != nil {
				return err
			}
			if f.data == "" {
				if answer, ok, err := ask(cmd.Context(), cfg, "/v1/score", map[string]any{"user_id": user, "items": items}); ok || err != nil {
					return printAnswer(cmd.OutOrStdout(), answer, err)
				}
			}
			e, err := node.OpenOffline(cfg, version, log)
			if err != nil {
				return err
			}
			defer e.Close()
			recs, err := e.Pipeline.Recommend(cmd.Context(), []corastream.Owed{{User: user, Request: &corastream.Request{User: user, N: len(items), Candidates: items}}})
			if err != nil {
				return err
			}
			degraded := ""
			if recs[0].Versions.LLM == "" { // the score is the CF model's
				degraded = "cf"
			}
			for _, it := range recs[0].Items {
				if err := console.JSONLine(cmd.OutOrStdout(), map[string]any{
					"user_id": user, "item_id": it.Item, "title": it.Title, "score": it.Score, "cf": it.CF, "degraded": degraded,
				}); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f.add(c, "data", "llm", "checkpoint")
	c.Flags().StringVar(&user, "user", "", "who")
	c.Flags().StringSliceVar(&items, "item", nil, "items, comma-separated")
	return c
}
