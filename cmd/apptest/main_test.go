//go:build app

package apptest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/corastream/corastream/cmd/internal/testkit"
	"github.com/corastream/corastream/ingest/devbroker"
)

// program is the binary under test: these tests call it as a person or a script would.
var program string

func TestMain(m *testing.M) {
	if long() {
		testkit.Patience = 15 * time.Minute // a hundred times the work
	}
	var err error
	if program, err = build("corastream"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// build makes bin/test/NAME of cmd/corastream. The file stays, so that the next test run links nothing when nothing has changed.
func build(name string, flags ...string) (path string, err error) {
	path = filepath.Join(testkit.Repository(), "bin", "test", name)
	cmd := exec.Command("go", append(append([]string{"build", "-o", path}, flags...), "../corastream")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

// result is how a command ended.
type result struct {
	code           int
	stdout, stderr string
}

// sent says that `produce` put all its records out; some of them may be such as become dead letters.
func (r result) sent() bool {
	return r.code == 0 || r.code == 1 && strings.Contains(r.stderr, "can only become dead letters")
}

// last decodes the last line of standard output, the summary.
func (r result) last(t *testing.T) map[string]any {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	var v map[string]any
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &v); err != nil {
		t.Fatalf("the last line of standard output is not a JSON object: %v\n%s\n%s", err, r.stdout, r.stderr)
	}
	return v
}

// call runs a command to its end in an empty working folder.
func call(t *testing.T, args ...string) result {
	t.Helper()
	p := start(t, args...)
	return p.wait(t)
}

// ok is call for a command that must end with 0.
func ok(t *testing.T, args ...string) result {
	t.Helper()
	r := call(t, args...)
	if r.code != 0 {
		t.Fatalf("corastream %s: exit %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r
}

// process is a command that runs; its output goes to files, so that it can be read meanwhile.
type process struct {
	args     []string
	cmd      *exec.Cmd
	out, err string
	ended    chan struct{} // closed when it has ended
	killed   bool          // by the test: its log says nothing
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	return startWith(t, program, nil, args...)
}

// startWith starts another binary than the usual one, with more in its environment.
func startWith(t *testing.T, binary string, env []string, args ...string) *process {
	t.Helper()
	dir := t.TempDir()
	p := &process{args: args, out: filepath.Join(dir, "stdout"), err: filepath.Join(dir, "stderr"), ended: make(chan struct{})}
	p.cmd = exec.Command(binary, args...)
	// Each data folder keeps its own readings, because the user's cache folder can not be made. TestReadingsAreShared has one.
	p.cmd.Dir, p.cmd.Env = dir, append(append(os.Environ(), "XDG_CACHE_HOME="+filepath.Join(os.DevNull, "cache")), env...)
	for path, dst := range map[string]*io.Writer{p.out: &p.cmd.Stdout, p.err: &p.cmd.Stderr} {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		*dst = f
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		wanted := !p.killed
		p.kill()
		if log := p.stderr(); t.Failed() && wanted && log != "" {
			t.Logf("corastream %s: standard error ended with\n%s", strings.Join(args, " "), tailOf(log, 1500))
		}
	})
	return p
}

func tailOf(s string, n int) string { return s[max(0, len(s)-n):] }

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// kill is kill -9, and waits until the process is gone.
func (p *process) kill() {
	p.killed = true
	p.signal(syscall.SIGKILL)
	<-p.ended
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// ends waits a little for the end.
func (p *process) ends(within time.Duration) bool {
	select {
	case <-p.ended:
		return true
	case <-time.After(within):
		return false
	}
}

func (p *process) stderr() string {
	b, _ := os.ReadFile(p.err)
	return string(b)
}

func (p *process) wait(t *testing.T) result {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(testkit.Patience):
		p.kill()
		t.Fatalf("corastream %s did not end within %s", strings.Join(p.args, " "), testkit.Patience)
	}
	out, err := os.ReadFile(p.out)
	if err != nil {
		t.Fatal(err)
	}
	return result{p.cmd.ProcessState.ExitCode(), string(out), p.stderr()}
}

// logged is a field of the first log line with that message, waiting for it.
func (p *process) logged(t *testing.T, message, field string) string {
	t.Helper()
	var value string
	eventually(t, "a log line "+message, func() bool {
		for _, line := range strings.Split(p.stderr(), "\n") {
			var v map[string]any
			if json.Unmarshal([]byte(line), &v) == nil && v["message"] == message {
				value, _ = v[field].(string)
				return true
			}
		}
		if !p.running() {
			t.Fatalf("corastream %s ended:\n%s", strings.Join(p.args, " "), p.stderr())
		}
		return false
	})
	return value
}

// url is where a running `up` serves HTTP.
func (p *process) url(t *testing.T) string {
	t.Helper()
	return strings.TrimSuffix(p.logged(t, "serving HTTP", "url"), "/")
}

// counter reads one counter from /metrics; -1 when nobody answers.
func counter(url, name string) int {
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		return -1
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return -1
	}
	for _, line := range strings.Split(string(b), "\n") {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			f, err := strconv.ParseFloat(v, 64)
			if err != nil {
				return -1
			}
			return int(f)
		}
	}
	return -1
}

// freePort is a port nobody listens on now. It lies below the range from which the system takes ports for others.
func freePort(t *testing.T) int {
	t.Helper()
	for port := 20000 + os.Getpid()%5000; port < 30000; port++ {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil && claim(port) {
			l.Close()
			return port
		} else if err == nil {
			l.Close()
		}
	}
	t.Fatal("no free port")
	return 0
}

var claimed = make(chan map[int]bool, 1)

func init() { claimed <- map[int]bool{} }

func claim(port int) bool {
	m := <-claimed
	defer func() { claimed <- m }()
	if m[port] {
		return false
	}
	m[port] = true
	return true
}

// home is a data folder with its configuration file.
type home struct {
	data, config string
	brokers      string // bootstrap address; "" when `up` embeds the broker on port
	port         int
	topics       topicNames
	own          *devbroker.Broker // of standing
	reads        int               // catalogue items that the LLM must have read before the first kill
	feeder       *feeder
}

type topicNames struct{ interactions, items, requests, recommendations, letters string }

// newHome writes a configuration: small batches, so that a stream is many transactions, and topics of this test's own.
func newHome(t *testing.T, brokers, extra string) *home {
	t.Helper()
	dir := t.TempDir()
	h := &home{data: filepath.Join(dir, "data"), config: filepath.Join(dir, "corastream.yaml"), brokers: brokers}
	tag := fmt.Sprintf("t%d-%d", os.Getpid(), time.Now().UnixNano())
	h.topics = topicNames{tag + ".interactions", tag + ".items", tag + ".requests", tag + ".recommendations", tag + ".letters"}
	list := "[]"
	if brokers != "" {
		list = "[" + brokers + "]"
	} else {
		h.port = freePort(t)
	}
	yaml := fmt.Sprintf(`data: %s
kafka:
  brokers: %s
  group: %s
  topics: {interactions: %s, items: %s, requests: %s, recommendations: %s, dead_letters: %s}
  create: {replication: 1}
  max_batch_events: 300
broker: {listen: "127.0.0.1:%d"}
store: {history_limit: 16384, dedupe_limit: 65536, memory_limit_bytes: 67108864, reserve_bytes: 67108864}
http: {listen: "127.0.0.1:0"}
`, h.data, list, tag, h.topics.interactions, h.topics.items, h.topics.requests, h.topics.recommendations, h.topics.letters, h.port)
	if err := os.WriteFile(h.config, []byte(yaml+extra), 0o600); err != nil {
		t.Fatal(err)
	}
	return h
}

// noLLM is the configuration of a stream without the frozen LLM: factors learn, so that every event moves vectors.
const noLLM = "llm: {file: \"off\"}\ncf: {kind: mf, factors: 8}\n"

// amend changes the configuration file.
func (h *home) amend(t *testing.T, old, new string) {
	t.Helper()
	b, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(old)) {
		t.Fatalf("%q is not in the configuration", old)
	}
	if err := os.WriteFile(h.config, bytes.Replace(b, []byte(old), []byte(new), 1), 0o600); err != nil {
		t.Fatal(err)
	}
}

// address is where producers find the broker.
func (h *home) address() string {
	if h.brokers != "" {
		return h.brokers
	}
	return fmt.Sprintf("127.0.0.1:%d", h.port)
}

func (h *home) up(t *testing.T, args ...string) *process {
	t.Helper()
	return start(t, append([]string{"up", "-c", h.config}, args...)...)
}

// drain runs `up` until the log is used up and returns its summary.
func (h *home) drain(t *testing.T) map[string]any {
	t.Helper()
	r := h.up(t, "--exit-when-idle").wait(t)
	if r.code != 0 {
		t.Fatalf("up --exit-when-idle: exit %d\n%s", r.code, r.stderr)
	}
	return r.last(t)
}

// number is a figure of a summary.
func number(t *testing.T, summary map[string]any, key string) int {
	t.Helper()
	f, ok := summary[key].(float64)
	if !ok {
		t.Fatalf("the summary has no number %q: %v", key, summary)
	}
	return int(f)
}

// produce sends lines to a topic with `corastream produce` and waits for its end.
func (h *home) produce(t *testing.T, topic string, lines ...string) {
	t.Helper()
	p := h.producing(t, topic, 0, lines...)
	if r := p.wait(t); !r.sent() {
		t.Fatalf("produce: exit %d\n%s", r.code, r.stderr)
	}
}

// producing starts `corastream produce` as a process of its own.
func (h *home) producing(t *testing.T, topic string, rate int, lines ...string) *process {
	t.Helper()
	file := write(t, "events.jsonl", strings.Join(lines, "\n")+"\n")
	return start(t, "produce", file, "-c", h.config, "--topic", topic, "--bootstrap-server", h.address(), "--rate", strconv.Itoa(rate))
}

// jsonLines decodes every line of an output.
func jsonLines(t *testing.T, s string) []map[string]any {
	t.Helper()
	var out []map[string]any
	for d := json.NewDecoder(bytes.NewReader([]byte(s))); ; {
		var v map[string]any
		if err := d.Decode(&v); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatalf("not JSON lines: %v\n%s", err, s)
		}
		out = append(out, v)
	}
}
