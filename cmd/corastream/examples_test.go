package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// onlyParsed are examples that TestExamplesRun does not run, with what runs the command instead; others' flags and arguments are
// held by TestEveryCommandHasHelpAndAnExampleThatParses.
var onlyParsed = map[string]string{
	"corastream demo":               "`make run`, which needs the fetched model and data",
	"corastream train":              "generator/train's tests, and CORASTREAM_LLM's",
	"corastream bench":              "TestBenchPrintsJSONLines",
	"corastream export":             "TestExport*",
	"corastream store rerun":        "TestKill*, against the log that the state was learnt from",
	"corastream replay --order":     "the same",
	"corastream replay --mode":      "TestReplay* with a checkpoint",
	"corastream recommend":          "run here without the checkpoint of one example",
	"corastream gpu":                "where there is a GPU",
	"corastream up --bootstrap":     "the tests against brokers",
	"corastream rollout":            "its own tests: it steers a running `up`",
	"corastream config docs":        "TestConfigurationReferenceIsUpToDate",
	"corastream erase --from":       "its own test",
	"corastream healthcheck --list": "TestHealthcheckAsksARunningUp",
}

// scene is a folder as a newcomer has it: data files of the names that the examples use, a language model where `make fetch` puts it.
type scene struct {
	t    *testing.T
	dir  string
	ran  map[string]bool
	addr string // of the running broker
}

func newScene(t *testing.T) *scene {
	s := &scene{t: t, dir: t.TempDir(), ran: map[string]bool{}}
	put := func(name, content string) {
		path := filepath.Join(s.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var clicks, items, lines strings.Builder
	items.WriteString("item_id,title\n")
	clicks.WriteString(csvHeader)
	began := time.Now().Add(-30 * time.Minute).Unix()
	for n := range 200 {
		fmt.Fprintf(&items, "%d,%q\n", n, title(n))
		fmt.Fprintf(&clicks, "%d,%d,%d,%d\n", 30+n%20, n*n%50+50, n*7%5/3, began+int64(n))
		fmt.Fprintf(&lines, `{"user_id":"%d","item_id":"%d","label":%d,"timestamp":%d}`+"\n", 30+n%20, n*n%50+50, n*7%5/3, began+int64(n))
	}
	for _, name := range []string{"clicks.csv", "train.csv", "valid.csv", "test.csv"} {
		put(name, clicks.String())
	}
	put("items.csv", items.String())
	put("clicks.jsonl", lines.String())
	small := "llm: {file: .cache/smollm2-135m-instruct-q4_1.gguf, context_tokens: 200, threads: 1}\nhttp: {listen: \"127.0.0.1:0\"}\ncf: {content: 8}\n"
	put("configs/default.yaml", small)
	put("configs/demo.yaml", small)
	put("a.yaml", noLLM)
	put("b.yaml", "llm: {file: \"off\"}\ncf: {kind: bias}\n")
	b, err := os.ReadFile(tinyLLM(t, 7))
	if err != nil {
		t.Fatal(err)
	}
	put(".cache/smollm2-135m-instruct-q4_1.gguf", string(b))
	return s
}

func (s *scene) command(line string, more ...string) *exec.Cmd {
	s.ran[line] = true
	line = strings.NewReplacer("kafka:9092", s.addr, "127.0.0.1:9092", s.addr, "/var/lib/corastream", "data").Replace(line)
	cmd := exec.Command(program, append(strings.Fields(line)[1:], more...)...)
	cmd.Dir = s.dir
	return cmd
}

// run runs an example to its end; more are flags that keep it from what a test must not touch, a fixed port for one.
func (s *scene) run(line string, more ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	cmd := s.command(line, more...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if strings.Contains(line, "produce -") {
		cmd.Stdin = strings.NewReader(`{"user_id":"42","item_id":"60"}` + "\n")
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	if err := cmd.Wait(); err != nil {
		s.t.Errorf("%s: %v\n%s%s", line, err, tailOf(out.String(), 500), tailOf(errs.String(), 1500))
	}
	return out.String()
}

// TestExamplesRun runs what --help shows, in an order that makes sense, against one data folder.
func TestExamplesRun(t *testing.T) {
	s := newScene(t)
	s.run("corastream version")
	s.run("corastream completion bash")
	s.run("corastream config check configs/default.yaml")
	s.run("corastream config print -c configs/demo.yaml")
	s.run("corastream validate clicks.csv items.csv")
	s.run("corastream validate clicks.jsonl -c configs/default.yaml --strict")
	for _, line := range []string{
		"corastream replay --log clicks.csv --items items.csv --dry-run", "corastream replay --log clicks.csv --items items.csv --out report",
		"corastream replay --train train.csv --valid valid.csv --items items.csv --out report",
		"corastream replay --compare a.yaml b.yaml --log clicks.csv --items items.csv --out report",
	} {
		more := []string{"--bootstraps", "10", "--epochs", "1", "--models", "bias,cf"}
		if !strings.Contains(line, "--compare") {
			more = append(more, "-c", "configs/default.yaml")
		}
		s.run(line, more...)
	}
	s.run("corastream produce items.csv")
	s.run("corastream produce clicks.csv --rate 500")
	s.run("corastream up --exit-when-idle", "--listen", "127.0.0.1:0", "-c", "configs/default.yaml")
	s.run("corastream replay --topic corastream.interactions --from last=2h --out report", "-c", "configs/default.yaml", "--bootstraps", "10", "--epochs", "1", "--models", "bias,cf")

	up := s.start("corastream up -c configs/default.yaml")
	s.addr = up.logged(t, "embedded broker", "address")
	up.url(t)
	s.run("corastream doctor -c configs/default.yaml --bootstrap-server kafka:9092")
	s.run("corastream produce - --bootstrap-server kafka:9092")
	s.run("corastream requests --user 42 -n 5")
	s.run("corastream consume --dead-letters --from earliest")
	s.run("corastream validate --topic corastream.interactions --from last=2h --bootstrap-server 127.0.0.1:9092")
	eventually(t, "readiness", func() bool {
		r, err := http.Get(up.url(t) + "/readyz")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	s.run("corastream healthcheck", "--listen", strings.TrimPrefix(up.url(t), "http://"))
	follow := s.start("corastream consume --follow")
	eventually(t, "a recommendation that `consume --follow` prints", func() bool {
		b, err := os.ReadFile(follow.out)
		return err == nil && bytes.Contains(b, []byte(`"items"`))
	})
	follow.kill()
	up.signal(syscall.SIGTERM)
	if r := up.wait(t); r.code != 0 {
		t.Errorf("up ended with %d: %s", r.code, tailOf(r.stderr, 800))
	}

	s.run("corastream recommend --user 42 -n 5", "-c", "configs/default.yaml")
	s.run("corastream score --user 42 --item 50,172,181", "-c", "configs/default.yaml")
	s.run("corastream store check --data data")
	s.run("corastream store digest --data data")
	s.run("corastream store snapshot backup.snap --data data")
	s.run("corastream store snapshot backup.snap --restore --data new")
	s.run("corastream erase 42 --data data")

	walk(newRoot(), func(c *cobra.Command) {
		for _, line := range commandLines(c.Example) {
			ran := s.ran[line]
			for begin := range onlyParsed {
				ran = ran || strings.HasPrefix(line, begin)
			}
			if !ran {
				t.Errorf("%s: nothing runs the example %q: add it here", c.CommandPath(), line)
			}
		}
	})
}

// start runs an example beside the test.
func (s *scene) start(line string) *process {
	s.t.Helper()
	cmd := s.command(line)
	p := &process{args: cmd.Args[1:], out: filepath.Join(s.t.TempDir(), "out"), err: filepath.Join(s.t.TempDir(), "err"), cmd: cmd, ended: make(chan struct{})}
	out, err := os.Create(p.out)
	if err != nil {
		s.t.Fatal(err)
	}
	errs, err := os.Create(p.err)
	if err != nil {
		s.t.Fatal(err)
	}
	defer out.Close()
	defer errs.Close()
	cmd.Stdout, cmd.Stderr = out, errs
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait()
		close(p.ended)
	}()
	s.t.Cleanup(p.kill)
	return p
}
