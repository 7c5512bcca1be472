package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/node"
)

// TestRealClients runs the real LLM and the demo's checkpoint, and lets clients that people have ask it: OpenAI's, Cohere's, curl,
// and schemathesis, which makes requests up from the description. .ci/test.sh makes the environment that CORASTREAM_CLIENTS names;
// CORASTREAM_FUZZ_EXAMPLES asks for the long form: so many requests made up for each operation, and every phase of schemathesis.
func TestRealClients(t *testing.T) {
	python := os.Getenv("CORASTREAM_CLIENTS")
	if python == "" {
		t.Skip("CORASTREAM_CLIENTS names no Python with the clients (make one: .ci/clients/venv.sh .cache/clients)")
	}
	cfg := node.Default()
	cfg.Data, cfg.LLM.CacheDir, cfg.HTTP.Listen = t.TempDir(), "", "127.0.0.1:0"
	cfg.LLM.File, cfg.Checkpoint = realLLM(t), demoCheckpoint(t)
	cfg.HTTP.RatePerSecond, cfg.HTTP.MaxGeneratedTokens, cfg.HTTP.AdminListen = 0, 16, "127.0.0.1:0"
	e, err := node.Open(t.Context(), cfg, version, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ctx := withTimeout(t)
	if os.Getenv("CORASTREAM_FUZZ_EXAMPLES") != "" {
		ctx = t.Context()
	}
	err = e.Run(ctx, func(ctx context.Context) error { return clients(ctx, t, e, python) })
	if err := e.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func clients(ctx context.Context, t *testing.T, e *node.Node, python string) error {
	const films = 24 // fewer than the gate judges by: the titles are invented
	var items []corastream.Item
	var clicks []corastream.Event
	for i := range films {
		id := fmt.Sprint("i", i)
		items = append(items, corastream.Item{ID: id, Title: fmt.Sprintf("The %s of Number %d (%d)", []string{"Return", "Fall"}[i%2], i, 1940+60*(i%2)),
			Fields: map[string]string{"kind": []string{"even", "odd"}[i%2]}})
		if i < 8 {
			clicks = append(clicks, corastream.Event{User: "old", Item: id, Kind: "rating", Label: float32(1 - i%2), Weight: 1, Time: time.Now()})
		}
	}
	if err := e.Producer.Items(ctx, items); err != nil {
		return err
	}
	if err := e.Producer.Events(ctx, clicks); err != nil {
		return err
	}
	eventually(t, "catalogue and clicks", func() bool {
		return e.Pipeline.Stats.ItemsRead.Load() == films && e.Pipeline.Stats.Events.Load() == int64(len(clicks))
	})
	url := strings.TrimSuffix(e.HTTP.URL(), "/")
	dir, err := filepath.Abs("../../.ci/clients")
	if err != nil {
		return err
	}
	examples, phases := "6", "examples,fuzzing"
	if n := os.Getenv("CORASTREAM_FUZZ_EXAMPLES"); n != "" {
		examples, phases = n, "examples,coverage,fuzzing,stateful"
	}
	// What is on the admin address is asked there; --url goes over the address that the description names.
	fuzz := func(more ...string) []string {
		return append([]string{filepath.Join(filepath.Dir(python), "schemathesis"), "run", url + "/openapi.json", "--seed", "1", "--max-examples", examples, "--phases", phases, "--workers", "2",
			"--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance", "--suppress-health-check", "all",
			"--warnings", "off"}, more...)
	}
	for name, command := range map[string][]string{
		"openai": {python, filepath.Join(dir, "openai_client.py"), url},
		"rerank": {python, filepath.Join(dir, "rerank_client.py"), url},
		"curl":   {"bash", filepath.Join(dir, "curl.sh"), url},

		"schemathesis":       fuzz("--exclude-operation-id", "changeRollout"),
		"schemathesis admin": fuzz("--include-operation-id", "changeRollout", "--url", "http://"+e.HTTP.AdminAddr()),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(command[0]); err != nil {
				t.Skip(err)
			}
			cmd := exec.CommandContext(ctx, command[0], command[1:]...)
			cmd.Dir = t.TempDir() // schemathesis keeps its examples where it runs
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Logf("%s", out)
		})
	}
	return nil
}
