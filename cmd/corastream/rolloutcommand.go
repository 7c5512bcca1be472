package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/rollout"
	"github.com/corastream/corastream/serve"
)

// rolloutActions are the words of `corastream rollout`; the first one only asks.
var rolloutActions = []string{"status", rollout.ModeShadow, rollout.ModeCanary, "promote", "rollback"}

// rolloutCommand steers a running `up` through its admin address, for machines and containers without curl.
func rolloutCommand() *cobra.Command {
	var f common
	var share float64
	c := &cobra.Command{
		Use:   "rollout {status | shadow FILE | canary [FILE] --share S | promote | rollback}",
		Short: "Try a new checkpoint in a running `up`: unseen, on a share of the users, for all, and back",
		Long: `Rollout asks the admin address of a running ` + "`up`" + ` (http.admin_listen) to change which checkpoint answers whom, and prints how things
stand then. FILE is a name in rollout.dir. Shadow: the new checkpoint scores what the active one answers, and nobody sees it. Canary: it
answers a share of the users, always the same ones. Promote: it answers everybody. Rollback: the trial ends, or after a promotion the
checkpoint before answers again.`,
		Example: `  corastream rollout status -c rollout.yaml
  corastream rollout shadow new.safetensors -c rollout.yaml
  corastream rollout canary --share 0.05 -c rollout.yaml
  corastream rollout promote -c rollout.yaml
  corastream rollout rollback -c rollout.yaml`,
		Args: cobra.RangeArgs(1, 2), ValidArgs: rolloutActions,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, _, err := f.load()
			if err != nil {
				return err
			}
			admin := cfg.HTTP.AdminListen
			if admin == "" {
				return corastream.Usagef("http.admin_listen", "set it for `up` and here (-c), as 127.0.0.1:8643", "rollouts are changed on the admin address, and there is none")
			}
			if !slices.Contains(rolloutActions, args[0]) {
				return corastream.Usagef("rollout", "choose status, shadow, canary, promote or rollback", "%q is not known", args[0])
			}
			q := serve.RolloutRequest{Action: args[0], Share: share}
			if len(args) > 1 {
				q.Checkpoint = args[1]
			}
			return askRollout(cmd.Context(), "http://"+admin+"/v1/rollout", cfg.HTTP.Token.Reveal(), q, cmd.OutOrStdout())
		},
	}
	f.add(c)
	c.Flags().Float64Var(&share, "share", 0, "the canary's share of the users, over 0 and below 1")
	return c
}

func askRollout(ctx context.Context, url, token string, q serve.RolloutRequest, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute) // a checkpoint is read, and looks at the whole catalogue
	defer cancel()
	method, body := http.MethodPost, new(bytes.Buffer)
	if q.Action == rolloutActions[0] {
		method = http.MethodGet
	} else if err := json.NewEncoder(body).Encode(q); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("no admin address: %w (fix: start `corastream up` with the same http.admin_listen)", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	var refused struct{ Error serve.Failure }
	switch {
	case resp.StatusCode == http.StatusOK:
		var out bytes.Buffer
		if err := json.Indent(&out, bytes.TrimSpace(answer), "", "  "); err != nil {
			return fmt.Errorf("%s answered with something else than JSON: %w", url, err)
		}
		fmt.Fprintf(w, "%s\n", out.Bytes())
		return nil
	case json.Unmarshal(answer, &refused) == nil && refused.Error.Message != "" && resp.StatusCode/100 == 4:
		return corastream.Usagef(refused.Error.Field, refused.Error.Fix, "%s", refused.Error.Message)
	}
	return fmt.Errorf("%s: %s %.200s", url, resp.Status, answer)
}
