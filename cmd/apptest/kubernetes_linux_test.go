//go:build app

package apptest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/corastream/corastream/cmd/internal/node"
	"github.com/corastream/corastream/ingest/devbroker"
)

// manifest is what is read of a pod in docs/deploy/kubernetes.
type (
	manifest struct {
		Metadata struct{ Name string }
		Spec     struct {
			Template struct {
				Spec struct {
					Grace      int `yaml:"terminationGracePeriodSeconds"`
					Containers []struct {
						Args      []string
						Env       []struct{ Name, Value string }
						Startup   probe `yaml:"startupProbe"`
						Liveness  probe `yaml:"livenessProbe"`
						Readiness probe `yaml:"readinessProbe"`
					}
				}
			}
		}
	}
	probe struct {
		HTTPGet struct{ Path string } `yaml:"httpGet"`
	}
)

// readOnly takes the right to write from every folder but the volumes.
func (im *image) readOnly(volumes ...string) {
	im.t.Helper()
	var all []string
	if err := filepath.WalkDir(im.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		for _, v := range volumes {
			if path == filepath.Join(im.root, v) {
				return fs.SkipDir
			}
		}
		all = append(all, path)
		return nil
	}); err != nil {
		im.t.Fatal(err)
	}
	for _, path := range all {
		if err := os.Chmod(path, 0o555); err != nil {
			im.t.Fatal(err)
		}
	}
	im.t.Cleanup(func() {
		for _, path := range all {
			_ = os.Chmod(path, 0o755)
		}
	})
}

// podToken is the token of the pods under test.
const podToken = "0123456789abcdef0123"

// startPod runs the first pod of a manifest as the kubelet would: from the image's files, which it can not write to, with the manifest's
// arguments and the configuration where they name it. It returns once every probe is answered with 200.
func startPod(t *testing.T, file, config string) (*pod, manifest) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(b), "\n---\n")
	var m manifest
	if err := yaml.Unmarshal([]byte(first), &m); err != nil {
		t.Fatal(err)
	}
	im := buildImage(t)
	im.put(tinyLLM(t, 7), "/models/smollm2-135m-instruct-q4_1.gguf")
	im.put(write(t, "corastream.yaml", config), "/etc/corastream/corastream.yaml")
	im.readOnly("/data")
	c := m.Spec.Template.Spec.Containers[0]
	env := []string{node.EnvToken + "=" + podToken}
	for _, e := range c.Env {
		if e.Value != "" {
			env = append(env, e.Name+"="+e.Value)
		}
	}
	out, err := im.command(env, append(im.entrypoint, "up", "--llm", "off", "--data", "/elsewhere")...).CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EACCES) {
		t.Skipf("user namespaces are not permitted here: %v", err)
	}
	if err == nil || !strings.Contains(string(out), "permission denied") {
		t.Fatalf("the image's file system can be written to: %v\n%s", err, out)
	}
	args := append([]string{}, im.entrypoint...)
	for _, a := range c.Args {
		args = append(args, strings.ReplaceAll(a, "$(POD_NAME)", m.Metadata.Name+"-0"))
	}
	p := im.serve(env, append(args, "--listen", "127.0.0.1:0")...)
	for _, path := range []string{c.Startup.HTTPGet.Path, c.Liveness.HTTPGet.Path, c.Readiness.HTTPGet.Path} {
		eventually(t, m.Metadata.Name+" to answer "+path, func() bool {
			status, _ := p.ask("GET", path, "")
			return status == 200
		})
	}
	return p, m
}

// ask sends a request; probes come without the token, all else with it.
func (p *pod) ask(method, path, body string) (status int, answer string) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, strings.TrimSuffix(p.url, "/")+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	if path != "/healthz" && path != "/readyz" {
		req.Header.Set("Authorization", "Bearer "+podToken)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// knows waits until the pod's list is that of somebody it has learnt about.
func (p *pod) knows(user string) {
	p.t.Helper()
	eventually(p.t, "a list from what was learnt", func() bool {
		status, body := p.ask("POST", "/v1/recommend", `{"user_id":"`+user+`","n":3}`)
		return status == 200 && strings.Contains(body, `"rank":3`) && strings.Contains(body, `"cold":false`)
	})
}

// endsInTime asks the pod to end, and allows it half of its grace period.
func (p *pod) endsInTime(m manifest) {
	p.t.Helper()
	if took, grace := p.end(), time.Duration(m.Spec.Template.Spec.Grace)*time.Second; took > grace/2 {
		p.t.Errorf("%s took %s to end, of %s", m.Metadata.Name, took, grace)
	}
}

// podConfig is the configuration of a folder of docs/deploy/kubernetes with the test's broker, and room for less than the default in a
// prompt, as the tiny model has.
func podConfig(t *testing.T, file string, change ...string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	config := string(b)
	for pair := range slices.Chunk(append(change, "\nllm:\n", "\nllm:\n  context_tokens: 200\n"), 2) {
		if !strings.Contains(config, pair[0]) {
			t.Fatalf("%s: there is no %q", file, pair[0])
		}
		config = strings.Replace(config, pair[0], pair[1], 1)
	}
	return config
}

// TestKubernetesUpRuns: the pod of docs/deploy/kubernetes/up learns what is posted to it, answers, and ends in order.
func TestKubernetesUpRuns(t *testing.T) {
	t.Parallel()
	const folder = deploy + "kubernetes/up/"
	p, m := startPod(t, folder+"up.yaml", podConfig(t, folder+"corastream.yaml"))
	for i := range 12 {
		for _, call := range []struct{ path, body string }{
			{"/v1/items", fmt.Sprintf(`{"item_id":"i%d","title":"%s"}`, i, title(i))},
			{"/v1/events", fmt.Sprintf(`{"user_id":"u%d","item_id":"i%d","kind":"click"}`, i%3, i)},
		} {
			if status, body := p.ask("POST", call.path, call.body); status != 202 {
				t.Fatalf("%s %s: %d %s", call.path, call.body, status, body)
			}
		}
	}
	p.knows("u1")
	p.endsInTime(m)
}

// TestKubernetesClusterRuns: the two kinds of pod of docs/deploy/kubernetes/cluster share the work over a broker, have the series that the
// alerts of a cluster ask for, answer on without the broker, and end in order even then.
func TestKubernetesClusterRuns(t *testing.T) {
	t.Parallel()
	broker, err := devbroker.Start(devbroker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { broker.Close() })
	brokers := broker.Addr()
	const folder = deploy + "kubernetes/cluster/"
	config := podConfig(t, folder+"corastream.yaml", "brokers: [kafka:9092]", "brokers: ["+brokers+"]", "replication: 3", "replication: 1")
	learner, shards := startPod(t, folder+"shards.yaml", config)
	replica, replicas := startPod(t, folder+"replicas.yaml", config)
	events, items := csvLog(t, 50, 10, 20)
	for _, file := range []string{items, events} {
		ok(t, "produce", file, "--bootstrap-server", brokers)
	}
	replica.knows("u7")
	out, err := learner.im.command(learner.env, append(learner.im.entrypoint, "erase", "u7", "-c", "/etc/corastream/corastream.yaml")...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"erased":true`) {
		t.Errorf("erase: %v\n%s", err, out)
	}
	eventually(t, "the pod that answers to forget", func() bool {
		_, body := replica.ask("POST", "/v1/recommend", `{"user_id":"u7","n":3}`)
		return strings.Contains(body, `"cold":true`)
	})

	rules, err := os.ReadFile(deploy + "kubernetes/monitoring/prometheusrule.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, own, found := strings.Cut(string(rules), "name: corastream-cluster")
	series := regexp.MustCompile(`\bcorastream_[a-z_]+`).FindAllString(own, -1)
	if !found || len(series) < 4 {
		t.Fatalf("the alerts of a cluster ask for %v", series)
	}
	_, have := learner.ask("GET", "/metrics", "")
	_, more := replica.ask("GET", "/metrics", "")
	for _, s := range series {
		if !strings.Contains(have+more, "\n"+s+" ") && !strings.Contains(have+more, "\n"+s+"{") {
			t.Errorf("an alert asks for %s, which no pod gives", s)
		}
	}
	broker.Close()
	eventually(t, "the pod that answers to miss the broker", func() bool {
		_, body := replica.ask("GET", "/readyz", "")
		return strings.Contains(body, "can not be read at the moment")
	})
	replica.knows("u8")
	if status, body := replica.ask("GET", replicas.Spec.Template.Spec.Containers[0].Readiness.HTTPGet.Path, ""); status != 200 {
		t.Errorf("without a broker the pod leaves the Service: %d %s", status, body)
	}
	replica.endsInTime(replicas)
	learner.endsInTime(shards)
}
