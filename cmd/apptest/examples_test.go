//go:build app

package apptest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/corastream/corastream/cmd/internal/testkit"
	"github.com/corastream/corastream/ingest/devbroker"
)

// onlyParsed are examples that TestExamplesRun does not run, with what runs the command instead; others' flags and arguments are
// held by TestEveryCommandHasHelpAndAnExampleThatParses.
var onlyParsed = map[string]string{
	"corastream demo":               "TestDemoEndsByItselfWithItsSummary, and `make run`",
	"corastream bench":              "TestBenchPrintsJSONLines",
	"corastream gpu":                "where there is a GPU",
	"corastream up --gorse":         "TestGorsesClientsWorkUnchanged",
	"corastream config docs":        "TestConfigurationReferenceIsUpToDate",
	"corastream healthcheck --list": "TestHealthcheckAsksARunningUp",
}

// scene is a folder as a newcomer has it: data files of the names that the examples use, a language model where `make fetch` puts it.
type scene struct {
	t    *testing.T
	dir  string
	ran  map[string]bool
	addr string // of the running broker
	// admin is the admin address of rollout.yaml
	admin string
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
	for _, name := range []string{"clicks.csv", "train.csv", "newer.csv", "valid.csv", "test.csv"} {
		put(name, clicks.String())
	}
	put("items.csv", items.String())
	put("clicks.jsonl", lines.String())
	small := "llm: {file: .cache/smollm2-135m-instruct-q4_1.gguf, context_tokens: 200, threads: 1}\nhttp: {listen: \"127.0.0.1:0\"}\ncf: {content: 8}\n"
	put("configs/default.yaml", small)
	put("configs/demo.yaml", small)
	s.admin = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	put("rollout.yaml", strings.Replace(small, "127.0.0.1:0\"", "127.0.0.1:0\", admin_listen: \""+s.admin+"\"", 1)+"checkpoint: cora.safetensors\n")
	put("configs/cluster.yaml", small+"kafka: {shards: 4}\n")
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
	line = strings.NewReplacer("kafka-1:9092,kafka-2:9092", s.addr, "kafka:9092", s.addr, "127.0.0.1:9092", s.addr, "/var/lib/corastream", "var").Replace(line)
	cmd := exec.Command(program, append(strings.Fields(line)[1:], more...)...)
	cmd.Dir = s.dir
	return cmd
}

// run runs an example to its end; more are flags that keep it from what a test must not touch, a fixed port for one.
func (s *scene) run(line string, more ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), testkit.Patience)
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
		"corastream replay --log clicks.csv --task all --models popularity,recent --out report",
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

	s.train()
	s.run("corastream recommend --user 42 -n 5", "-c", "configs/default.yaml")
	s.run("corastream recommend --history 50,172,181", "-c", "configs/default.yaml")
	s.run("corastream export --user 42 --item 50 --out pair --gguf", "-c", "rollout.yaml")
	s.run("corastream score --user 42 --item 50,172,181", "-c", "configs/default.yaml")
	s.run("corastream export events --out events.jsonl")
	s.run("corastream export events --from last=24h")
	s.run("corastream export items --out items.jsonl")
	s.run("corastream store check --data data")
	s.run("corastream store digest --data data")
	s.run("corastream store snapshot backup.snap --data data")
	s.run("corastream store snapshot backup.snap --restore --data new")
	s.run("corastream erase 42 --data data")
	s.run("corastream erase --from data --data new")
	s.rollOut()
	s.onBrokers()
	s.inACluster()

	examples := 0
	for path, help := range helpTexts(t) {
		_, shown, _ := strings.Cut(help, "Examples:\n")
		shown, _, _ = strings.Cut(shown, "\n\n")
		for _, line := range testkit.CommandLines(shown) {
			examples++
			ran := s.ran[line]
			for begin := range onlyParsed {
				ran = ran || strings.HasPrefix(line, begin)
			}
			if !ran {
				t.Errorf("%s: nothing runs the example %q: add it here", path, line)
			}
		}
	}
	if examples < 30 {
		t.Errorf("only %d examples found", examples)
	}
}

// train makes the checkpoints that later examples name, and judges one of them.
func (s *scene) train() {
	s.t.Helper()
	small := []string{"-c", "configs/default.yaml"}
	s.run("corastream train --train train.csv --valid valid.csv --items items.csv --out cora.safetensors", small...)
	s.run("corastream train --train newer.csv --items items.csv --basis cora.safetensors --out new.safetensors", small...)
	b, err := os.ReadFile(filepath.Join(s.dir, "cora.safetensors"))
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "configs/demo.safetensors"), b, 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.run("corastream replay --mode prequential --label-delay 1h --models bias,cf,cora,cora-shuffled --checkpoint configs/demo.safetensors --train train.csv --test test.csv --items items.csv --out report",
		"-c", "configs/default.yaml", "--bootstraps", "10", "--epochs", "1")
}

// rollOut tries the second checkpoint on what has been learnt so far: it fits because it kept the first one's basis.
func (s *scene) rollOut() {
	s.t.Helper()
	up := s.start("corastream up -c rollout.yaml")
	up.url(s.t)
	for _, c := range []struct{ line, mode string }{
		{"status", "off"}, {"shadow new.safetensors", "shadow"}, {"canary --share 0.05", "canary"}, {"promote", "off"}, {"rollback", "off"},
	} {
		if out := s.run("corastream rollout " + c.line + " -c rollout.yaml"); !strings.Contains(out, `"mode": "`+c.mode+`"`) {
			s.t.Errorf("rollout %s: %s", c.line, out)
		}
	}
	s.run("corastream requests --user 42 -n 5")
	up.signal(syscall.SIGTERM)
	if r := up.wait(s.t); r.code != 0 {
		s.t.Errorf("up ended with %d: %s", r.code, tailOf(r.stderr, 800))
	}
}

// onBrokers runs what needs brokers of their own, and the log still there while the state is not in use.
func (s *scene) onBrokers() {
	s.t.Helper()
	b, err := devbroker.Start(devbroker.Options{Dir: s.t.TempDir()})
	if err != nil {
		s.t.Fatal(err)
	}
	defer b.Close()
	s.addr = b.Addr()
	s.run("corastream produce items.csv", "--bootstrap-server", s.addr)
	s.run("corastream produce clicks.csv --rate 500", "--bootstrap-server", s.addr, "--rate", "0")
	s.run("corastream up --bootstrap-server kafka-1:9092,kafka-2:9092 --data /var/lib/corastream --checkpoint cora.safetensors", "-c", "configs/default.yaml",
		"--exit-when-idle", "--listen", "127.0.0.1:0")
	s.run("corastream recommend --user 42 --data /var/lib/corastream --checkpoint cora.safetensors", "-c", "configs/default.yaml")
	s.run("corastream export --user 42 --out user --data /var/lib/corastream --checkpoint cora.safetensors --base HuggingFaceTB/SmolLM2-135M-Instruct", "-c", "configs/default.yaml")
	if err := errors.Join(os.Rename(filepath.Join(s.dir, "data"), filepath.Join(s.dir, "old")), os.Rename(filepath.Join(s.dir, "var"), filepath.Join(s.dir, "data"))); err != nil {
		s.t.Fatal(err)
	}
	s.run("corastream store rerun --data data --bootstrap-server 127.0.0.1:9092", "-c", "configs/default.yaml")
	s.run("corastream replay --order data --bootstrap-server 127.0.0.1:9092", "-c", "configs/default.yaml", "--out", "report")
}

// inACluster runs processes that share the work, each started as its example says.
func (s *scene) inACluster() {
	s.t.Helper()
	b, err := devbroker.Start(devbroker.Options{Dir: s.t.TempDir()})
	if err != nil {
		s.t.Fatal(err)
	}
	defer b.Close()
	s.addr = b.Addr()
	all := []*process{
		s.start("corastream run --stages ingest,cfstream --shards 4 --bootstrap-server kafka:9092 --data /var/lib/corastream-a", "--listen", "127.0.0.1:0", "-c", "configs/default.yaml"),
		s.start("corastream run --stages generator,serve --shards 4 --bootstrap-server kafka:9092 --data /var/lib/corastream-b --listen 127.0.0.1:8643", "--listen", "127.0.0.1:0", "-c", "configs/default.yaml"),
		s.start("corastream run --stages ingest,cfstream,generator,serve -c configs/cluster.yaml", "--bootstrap-server", s.addr, "--data", "var-c"),
	}
	url := all[1].url(s.t)
	s.run("corastream produce items.csv", "--bootstrap-server", s.addr)
	s.run("corastream produce clicks.csv --rate 500", "--bootstrap-server", s.addr, "--rate", "0")
	eventually(s.t, "an answer from the cluster", func() bool {
		resp, err := http.Post(url+"/v1/recommend", "application/json", strings.NewReader(`{"user_id":"42","n":3}`))
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return err == nil && resp.StatusCode == http.StatusOK && bytes.Contains(body, []byte(`"cold":false`))
	})
	vectors := s.start("corastream consume --embeddings --follow -c configs/cluster.yaml", "--bootstrap-server", s.addr)
	eventually(s.t, "the vector of user 42", func() bool {
		b, err := os.ReadFile(vectors.out)
		return err == nil && bytes.Contains(b, []byte(`"user_id":"42"`))
	})
	vectors.kill()
	s.run("corastream erase 42 -c configs/cluster.yaml", "--bootstrap-server", s.addr, "--data", "var-d")
	for _, p := range all {
		p.signal(syscall.SIGTERM)
	}
	for _, p := range all {
		if r := p.wait(s.t); r.code != 0 {
			s.t.Errorf("%s ended with %d: %s", p.args, r.code, tailOf(r.stderr, 800))
		}
	}
}

// start runs an example beside the test.
func (s *scene) start(line string, more ...string) *process {
	s.t.Helper()
	cmd := s.command(line, more...)
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
