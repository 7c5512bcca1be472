//go:build app

package apptest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/corastream/corastream/cmd/internal/node"
)

// image is the last stage of the Dockerfile, made without Docker: its root file system in a folder, and how it is run.
type image struct {
	t          *testing.T
	root       string
	user       int
	dir        string
	entrypoint []string
	cmd        []string
	health     []string
	exposed    []string
}

// buildImage does what the last stage of the Dockerfile says. An instruction that it does not know fails the test.
func buildImage(t *testing.T) *image {
	t.Helper()
	b, err := os.ReadFile(deploy + "Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	_, last, ok := strings.Cut(string(b), "\nFROM scratch\n")
	if !ok {
		t.Fatal("the Dockerfile's last stage is not FROM scratch")
	}
	im := &image{t: t, root: t.TempDir()}
	if err := os.Chmod(im.root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.ReplaceAll(last, "\\\n", " "), "\n") {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "", "#", "VOLUME":
		case "COPY":
			im.copy(strings.Fields(rest))
		case "USER":
			id, _, _ := strings.Cut(rest, ":")
			if im.user, err = strconv.Atoi(id); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		case "WORKDIR":
			im.dir = rest
		case "EXPOSE":
			im.exposed = append(im.exposed, rest)
		case "HEALTHCHECK":
			_, call, _ := strings.Cut(rest, "CMD ")
			im.health = execForm(t, call)
		case "ENTRYPOINT":
			im.entrypoint = execForm(t, rest)
		case "CMD":
			im.cmd = execForm(t, rest)
		default:
			t.Fatalf("Dockerfile: this test does not know %q", line)
		}
	}
	return im
}

func execForm(t *testing.T, list string) (words []string) {
	t.Helper()
	if err := json.Unmarshal([]byte(list), &words); err != nil {
		t.Fatalf("Dockerfile: %q is not in exec form: %v", list, err)
	}
	return words
}

// copy is COPY [--from=build] [--chown=] [--chmod=] FROM TO. What the first stage makes is made here by hand.
func (im *image) copy(words []string) {
	im.t.Helper()
	mode, built := fs.FileMode(0), false
	for strings.HasPrefix(words[0], "--") {
		key, value, _ := strings.Cut(words[0], "=")
		switch key {
		case "--from":
			built = true
		case "--chmod":
			n, err := strconv.ParseUint(value, 8, 32)
			if err != nil {
				im.t.Fatal(err)
			}
			mode = fs.FileMode(n & 0o777)
			if n&0o1000 != 0 {
				mode |= fs.ModeSticky
			}
		case "--chown":
			if value != "65532:65532" { // the files' owner here is the user that the image runs as
				im.t.Fatalf("Dockerfile: another owner, %s", value)
			}
		default:
			im.t.Fatalf("Dockerfile: this test does not know COPY %s", key)
		}
		words = words[1:]
	}
	from, to := words[0], filepath.Join(im.root, words[1])
	switch {
	case built && from == "/corastream":
		from = program
	case built && from == "/data":
		if err := errors.Join(os.MkdirAll(to, 0o755), os.Chmod(to, max(mode, 0o755))); err != nil {
			im.t.Fatal(err)
		}
		return
	case built && from == "/etc/ssl/certs/ca-certificates.crt":
		if _, err := os.Stat(from); err != nil {
			im.t.Log("no CA certificates on this machine: the image is made without")
			return
		}
	case built:
		im.t.Fatalf("Dockerfile: the first stage makes no %s that this test knows", from)
	default:
		from = filepath.Join("../..", from)
	}
	im.put(from, words[1])
}

// put copies a file into the image, or what is mounted into it.
func (im *image) put(from, to string) {
	im.t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		im.t.Fatal(err)
	}
	info, err := os.Stat(from)
	if err != nil {
		im.t.Fatal(err)
	}
	path := filepath.Join(im.root, to)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, info.Mode()|0o444)); err != nil {
		im.t.Fatal(err)
	}
}

// command runs in the image as its user, with nothing of this machine but the network. env is all there is of an environment.
func (im *image) command(env []string, args ...string) *exec.Cmd {
	cmd := &exec.Cmd{Path: args[0], Args: args, Env: env, Dir: im.dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot: im.root, Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: im.user, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: im.user, HostID: os.Getgid(), Size: 1}},
	}
	return cmd
}

// pod is a process that runs in an image and serves HTTP.
type pod struct {
	t     *testing.T
	im    *image
	env   []string
	url   string // of its HTTP server
	cmd   *exec.Cmd
	log   *bytes.Buffer
	ended chan error
}

// serve starts a command of the image and waits until it serves HTTP.
func (im *image) serve(env []string, args ...string) *pod {
	im.t.Helper()
	p := &pod{t: im.t, im: im, env: env, cmd: im.command(env, args...), log: new(bytes.Buffer), ended: make(chan error, 1)}
	logged, w, err := os.Pipe()
	if err != nil {
		im.t.Fatal(err)
	}
	p.cmd.Stderr = w
	if err := p.cmd.Start(); err != nil {
		im.t.Fatal(err)
	}
	w.Close()
	im.t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	lines := json.NewDecoder(io.TeeReader(logged, p.log))
	for p.url == "" {
		var line map[string]any
		if err := lines.Decode(&line); err != nil {
			im.t.Fatalf("%v\n%s", err, p.log.String())
		}
		if line["message"] == "serving HTTP" {
			p.url, _ = line["url"].(string)
		}
	}
	go func() {
		_, _ = io.Copy(p.log, logged)
		p.ended <- p.cmd.Wait()
	}()
	return p
}

// end asks the process to end, which it must do in good order. It returns how long that took.
func (p *pod) end() time.Duration {
	p.t.Helper()
	asked := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	if err := <-p.ended; err != nil {
		p.t.Errorf("SIGTERM: %v\n%s", err, tailOf(p.log.String(), 1500))
	}
	return time.Since(asked)
}

// TestTheImageRunsFromItsOwnFiles makes the container image's file system and runs it in namespaces of its own: without a shell, a
// resolver or /proc, not as root, it starts, is healthy, learns, answers, keeps its state in the volume, and drains on SIGTERM.
func TestTheImageRunsFromItsOwnFiles(t *testing.T) {
	im := buildImage(t)
	call := func(env []string, args ...string) (string, error) {
		out, err := im.command(env, args...).CombinedOutput()
		return string(out), err
	}
	out, err := call(nil, append(im.entrypoint, "version")...)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EACCES) {
		t.Skipf("user namespaces are not permitted here: %v", err)
	}
	if err != nil || !strings.HasPrefix(out, "corastream ") {
		t.Fatalf("version: %v\n%s", err, out)
	}
	if im.user == 0 || len(im.health) == 0 || len(im.exposed) != 1 {
		t.Errorf("user %d, health %v, exposed %v", im.user, im.health, im.exposed)
	}

	im.put(tinyLLM(t, 7), "/models/smollm2-135m-instruct-q4_1.gguf")
	secret := []string{node.EnvToken + "=0123456789abcdef0123"}
	config := im.cmd[2]
	if out, err := call(nil, append(im.entrypoint, im.cmd...)...); err == nil || !strings.Contains(out, "set token or client_ca") {
		t.Errorf("without a token: %v\n%s", err, out)
	}
	if out, err := call(secret, append(im.entrypoint, "config", "print", "-c", config)...); err != nil || !strings.Contains(out, "listen: 0.0.0.0:"+im.exposed[0]) {
		t.Errorf("the exposed port %v is not what is listened on: %v\n%s", im.exposed, err, out)
	}

	// The tiny model has room for less than the default.
	settings := filepath.Join(im.root, config)
	b, err := os.ReadFile(settings)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(settings, bytes.Replace(b, []byte("llm:\n"), []byte("llm:\n  context_tokens: 200\n"), 1), 0o600); err != nil {
		t.Fatal(err)
	}

	up := im.serve(secret, append(append(im.entrypoint, im.cmd...), "--listen", "0.0.0.0:0")...)
	url := up.url
	port := url[strings.LastIndex(url, ":")+1 : len(url)-1]
	eventually(t, "health", func() bool {
		_, err := call(secret, append(im.health, "--listen", "0.0.0.0:"+port)...)
		return err == nil
	})
	events, items := csvLog(t, 50, 10, 20)
	im.put(items, "/tmp/items.csv")
	im.put(events, "/tmp/clicks.csv")
	for _, file := range []string{"/tmp/items.csv", "/tmp/clicks.csv"} {
		if out, err := call(secret, append(im.entrypoint, "produce", file, "-c", config)...); err != nil {
			t.Fatalf("produce: %v\n%s", err, out)
		}
	}
	ask := func() (status int, body string) {
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://127.0.0.1:"+port+"/v1/recommend", strings.NewReader(`{"user_id":"u7","n":3}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer 0123456789abcdef0123")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	eventually(t, "an answer to somebody who is known", func() bool {
		status, body := ask()
		return status == 200 && strings.Contains(body, `"rank":3`) && strings.Contains(body, `"cold":false`)
	})
	up.end()
	if _, err := os.Stat(filepath.Join(im.root, "data", "store")); err != nil {
		t.Errorf("the state is not in the volume: %v", err)
	}
}
