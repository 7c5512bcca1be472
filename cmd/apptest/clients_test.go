//go:build app

package apptest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestRealClients runs the real LLM and the demo's checkpoint, and lets clients that people have ask it: OpenAI's, Cohere's, curl,
// and schemathesis, which makes requests up from the description. .ci/test.sh makes the environment that CORASTREAM_CLIENTS names;
// CORASTREAM_FUZZ_EXAMPLES asks for the long form: so many requests made up for each operation, and every phase of schemathesis.
func TestRealClients(t *testing.T) {
	python := os.Getenv("CORASTREAM_CLIENTS")
	if python == "" {
		t.Skip("CORASTREAM_CLIENTS names no Python with the clients (make one: .ci/clients/venv.sh .cache/clients)")
	}
	h := newHome(t, "", "llm: {file: "+realLLM(t)+"}\ncheckpoint: "+demoCheckpoint(t)+"\n")
	admin := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	h.amend(t, `http: {listen: "127.0.0.1:0"}`, `http: {listen: "127.0.0.1:0", rate_per_second: 0, max_generated_tokens: 16, admin_listen: "`+admin+`"}`)
	up := h.up(t)
	url := up.url(t)
	const films = 24 // fewer than the gate judges by: the titles are invented
	var items, clicks []string
	for i := range films {
		items = append(items, fmt.Sprintf(`{"item_id":"i%d","title":"The %s of Number %d (%d)","kind":"%s"}`, i, []string{"Return", "Fall"}[i%2], i, 1940+60*(i%2), []string{"even", "odd"}[i%2]))
		if i < 8 {
			clicks = append(clicks, fmt.Sprintf(`{"user_id":"old","item_id":"i%d","type":"rating","label":%d,"timestamp":%d}`, i, 1-i%2, firstTime+i))
		}
	}
	h.produce(t, "items", items...)
	h.produce(t, "interactions", clicks...)
	eventually(t, "catalogue and clicks", func() bool {
		return counter(url, "corastream_items_read_total") == films && counter(url, "corastream_events_total") == len(clicks)
	})
	ctx := withTimeout(t)
	if os.Getenv("CORASTREAM_FUZZ_EXAMPLES") != "" {
		ctx = t.Context()
	}
	dir, err := filepath.Abs("../../.ci/clients")
	if err != nil {
		t.Fatal(err)
	}
	examples, phases := "6", "examples,fuzzing"
	if n := os.Getenv("CORASTREAM_FUZZ_EXAMPLES"); n != "" {
		examples, phases = n, "examples,coverage,fuzzing,stateful"
	}
	// What is on the admin address is asked there; --url goes over the address that the description names.
	fuzz := func(more ...string) []string {
		return append([]string{
			filepath.Join(filepath.Dir(python), "schemathesis"), "run", url + "/openapi.json", "--seed", "1", "--max-examples", examples, "--phases", phases, "--workers", "2",
			"--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance", "--suppress-health-check", "all",
			"--warnings", "off",
		}, more...)
	}
	for name, command := range map[string][]string{
		"openai": {python, filepath.Join(dir, "openai_client.py"), url},
		"rerank": {python, filepath.Join(dir, "rerank_client.py"), url},
		"curl":   {"bash", filepath.Join(dir, "curl.sh"), url},

		"schemathesis":       fuzz("--exclude-operation-id", "changeRollout"),
		"schemathesis admin": fuzz("--include-operation-id", "changeRollout", "--url", "http://"+admin),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(command[0]); err != nil {
				t.Skip(err)
			}
			cmd := exec.CommandContext(ctx, command[0], command[1:]...)
			cmd.Dir = t.TempDir() // schemathesis keeps its examples where it runs
			cmd.Env = append(os.Environ(), "SCHEMATHESIS_HOOKS=schemathesis_hooks", "PYTHONPATH="+dir)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Logf("%s", out)
		})
	}
	up.signal(syscall.SIGTERM)
	if r := up.wait(t); r.code != 0 {
		t.Errorf("up: exit %d\n%s", r.code, tailOf(r.stderr, 1500))
	}
}
