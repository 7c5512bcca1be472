//go:build app

package apptest

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream/cmd/internal/testkit"
)

// browser is a tab of a real Chromium, driven through its DevTools protocol over a pipe.
type browser struct {
	t       *testing.T
	to      *os.File
	from    *bufio.Reader
	last    int
	session string
}

// newBrowser opens a tab; the test is skipped where there is no Chromium.
func newBrowser(t *testing.T) *browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Skip("no Chromium in PATH: nothing is clicked (Debian: apt-get install chromium)")
	}
	profile, err := os.MkdirTemp("", "corastream-browser-")
	if err != nil {
		t.Fatal(err)
	}
	read, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--remote-debugging-pipe", "--user-data-dir="+profile)
	cmd.ExtraFiles = []*os.File{read, write} // 3 and 4: Chromium reads and writes there
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read.Close()
	write.Close()
	t.Cleanup(func() {
		to.Close() // it ends when nobody can talk to it any more
		done := make(chan struct{})
		go func() { _ = cmd.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
		from.Close()
		os.RemoveAll(profile)
	})
	b := &browser{t: t, to: to, from: bufio.NewReaderSize(from, 1<<20)}
	tab := b.call("Target.createTarget", map[string]any{"url": "about:blank"})
	b.session = b.call("Target.attachToTarget", map[string]any{"targetId": tab["targetId"], "flatten": true})["sessionId"].(string)
	return b
}

// call makes one call of the protocol and returns its result.
func (b *browser) call(method string, params map[string]any) map[string]any {
	b.t.Helper()
	return b.try(method, params, false)
}

func (b *browser) try(method string, params map[string]any, again bool) map[string]any {
	b.t.Helper()
	b.last++
	msg := map[string]any{"id": b.last, "method": method, "params": params}
	if b.session != "" {
		msg["sessionId"] = b.session
	}
	out, err := json.Marshal(msg)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.to.Write(append(out, 0)); err != nil {
		b.t.Fatal(err)
	}
	for {
		in, err := b.from.ReadBytes(0)
		if err != nil {
			b.t.Fatalf("%s: the browser is gone: %v", method, err)
		}
		var answer struct {
			ID     int
			Result map[string]any
			Error  *struct{ Message string }
		}
		if err := json.Unmarshal(in[:len(in)-1], &answer); err != nil {
			b.t.Fatal(err)
		}
		if answer.ID != b.last {
			continue // an event
		}
		if answer.Error != nil && strings.Contains(answer.Error.Message, "navigated or closed") && !again {
			return b.try(method, params, true) // the page it was asked of has just been left
		}
		if answer.Error != nil {
			b.t.Fatalf("%s: %s", method, answer.Error.Message)
		}
		return answer.Result
	}
}

// js evaluates an expression on the page.
func (b *browser) js(expression string) any {
	b.t.Helper()
	out := b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true})
	if e := out["exceptionDetails"]; e != nil {
		b.t.Fatalf("%s: %v", expression, e)
	}
	return out["result"].(map[string]any)["value"]
}

func (b *browser) open(url string) {
	b.t.Helper()
	b.call("Page.navigate", map[string]any{"url": url})
}

// shows waits until the page's text has this.
func (b *browser) shows(text string) {
	b.t.Helper()
	deadline := time.Now().Add(testkit.Patience)
	for {
		page, _ := b.js("document.body ? document.body.innerText : ''").(string)
		if strings.Contains(page, text) {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("the page never showed %q:\n%s", text, page)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// click presses the mouse on the first element that a selector finds whose text has this.
func (b *browser) click(selector, text string) {
	b.t.Helper()
	find := fmt.Sprintf(`(() => { const e = [...document.querySelectorAll(%q)].find((e) => e.textContent.includes(%q) && !e.disabled); if (!e) return null;
		e.scrollIntoView({block: "center"}); const r = e.getBoundingClientRect(); return {x: r.x + r.width / 2, y: r.y + r.height / 2}; })()`, selector, text)
	var at map[string]any
	eventually(b.t, "a "+selector+" with "+text, func() bool { at, _ = b.js(find).(map[string]any); return at != nil })
	for _, what := range []string{"mousePressed", "mouseReleased"} {
		b.call("Input.dispatchMouseEvent", map[string]any{"type": what, "x": at["x"], "y": at["y"], "button": "left", "clickCount": 1})
	}
}

// choose puts a file into a file input.
func (b *browser) choose(selector, path string) {
	b.t.Helper()
	root := b.call("DOM.getDocument", nil)["root"].(map[string]any)["nodeId"]
	node := b.call("DOM.querySelector", map[string]any{"nodeId": root, "selector": selector})["nodeId"]
	b.call("DOM.setFileInputFiles", map[string]any{"nodeId": node, "files": []string{path}})
}

// fits fails where the page is wider than its window.
func (b *browser) fits(width int) {
	b.t.Helper()
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 1400, "deviceScaleFactor": 1, "mobile": false})
	if wide, _ := b.js("document.documentElement.scrollWidth").(float64); int(wide) > width {
		b.t.Errorf("the page is %v wide in a window of %d", wide, width)
	}
}

// picture saves the page, light and dark and 360 wide, where CORASTREAM_SCREENSHOTS names a folder.
func (b *browser) picture(name string) {
	b.t.Helper()
	b.fits(360)
	dir := os.Getenv("CORASTREAM_SCREENSHOTS")
	for _, c := range []struct {
		name, scheme string
		width        int
	}{{"360", "light", 360}, {"light", "light", 1280}, {"dark", "dark", 1280}} {
		if dir == "" {
			break
		}
		b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": c.width, "height": 1200, "deviceScaleFactor": 1, "mobile": false})
		b.call("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]any{"name": "prefers-color-scheme", "value": c.scheme}}})
		png, err := base64.StdEncoding.DecodeString(b.call("Page.captureScreenshot", nil)["data"].(string))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name+"-"+c.name+".png"), png, 0o644)
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": 1280, "height": 1200, "deviceScaleFactor": 1, "mobile": false})
}
