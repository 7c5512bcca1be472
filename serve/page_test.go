package serve

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

func TestPageHoldsNoDataAndLoadsNothingFromElsewhere(t *testing.T) {
	f := newFixture(t, func(c *Config, _ *Deps) { c.Token = token })
	w := f.call("GET", "/users/anna", "", nil)
	if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") || !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	elsewhere := regexp.MustCompile(`(?i)(https?:)?//[a-z0-9]`)
	err := fs.WalkDir(web, "web", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := web.ReadFile(path)
		if err != nil {
			return err
		}
		text := strings.NewReplacer("http://www.w3.org/2000/svg", "", "http://www.w3.org/1999/xhtml", "").Replace(string(body))
		if m := elsewhere.FindString(text); m != "" {
			t.Errorf("%s names another server: %s", path, m)
		}
		for _, markup := range []string{"innerHTML =", "insertAdjacentHTML", "document.write", "eval("} {
			if strings.Contains(text, markup) {
				t.Errorf("%s reads strings as code: %s", path, markup)
			}
		}
		if name := filepath.Base(path); name != "index.html" {
			w := f.call("GET", "/assets/"+name, "", nil)
			if w.Code != 200 || w.Header().Get("Content-Type") != kinds[filepath.Ext(name)] || w.Body.String() != string(body) {
				t.Errorf("%s: %d %v", name, w.Code, w.Header())
			}
			if again := f.call("GET", "/assets/"+name, "", nil, "If-None-Match", w.Header().Get("ETag")); again.Code != 304 || again.Body.Len() > 0 {
				t.Errorf("%s: unchanged, yet %d", name, again.Code)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"index.html", "nothing.js", "..%2Fpage.go", ""} {
		if w := f.call("GET", "/assets/"+name, "", nil); w.Code != 404 {
			t.Errorf("%q: %d", name, w.Code)
		}
	}
}

// TestPageOfAnUnknownIDIs404: but only to those who may know.
func TestPageOfAnUnknownIDIs404(t *testing.T) {
	open, locked := newFixture(t), newFixture(t, func(c *Config, _ *Deps) { c.Token = token })
	for path, want := range map[string]int{"/users/anna": 200, "/users/nobody": 404, "/items/i1": 200, "/items/nothing": 404, "/": 200} {
		if w := open.call("GET", path, "", nil); w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
		if w := locked.call("GET", path, "", nil); w.Code != 200 {
			t.Errorf("%s: %d to somebody without the token", path, w.Code)
		}
	}
}

// TestPagesInABrowser lets Chromium run the page on hostile titles and reads what it shows. CORASTREAM_SCREENSHOTS
// names a folder for pictures of every page, light and dark.
func TestPagesInABrowser(t *testing.T) {
	browser := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			browser = path
			break
		}
	}
	if browser == "" {
		t.Skip("no Chromium in PATH: the pages are not run (Debian: apt-get install chromium)")
	}
	const hostile = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`
	f := newFixture(t, freePort, func(_ *Config, d *Deps) {
		d.Users = func(prefix, _ string, _ int) ([]corastream.UserState, error) {
			return []corastream.UserState{{ID: prefix + "na"}}, nil
		}
	})
	it, _ := f.store.m.Item("i3")
	it.Title = hostile
	f.pipeline.Stats.Events.Store(1234)
	f.pipeline.Stats.Recommendations.Store(1)
	f.pipeline.Stats.Freshness.Observe(70 * time.Millisecond)
	recs, err := f.pipeline.Recommend(t.Context(), []corastream.Owed{{User: "anna"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Publish(t.Context(), recs); err != nil {
		t.Fatal(err)
	}
	if err := f.Bury(t.Context(), []corastream.DeadLetter{{Reason: "json", Detail: hostile, Value: []byte(hostile)}}); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		f.curve.sample(time.Unix(int64(i), 0), float64(i), int64(i*100), map[string]float64{"cf": .7 + float64(i)/100}, nil)
	}
	f.run()
	locked := newFixture(t, freePort, func(c *Config, _ *Deps) { c.Token = token })
	locked.run()
	listed := shop(t, freePort)
	listed.run()
	escaped := `&lt;img src=x onerror=`
	for _, c := range []struct {
		name, url string
		shows     []string
	}{
		{"home", f.URL(), []string{
			"1\u202f234", "p50 72 ms", "p99 72 ms", "polyline", escaped, `href="/users/anna"`, "Dead letters", "16 weights in 3 ms", ">ready<",
			"it makes the lists better", "version 3", "tried unseen", "−1.20 %", "taken back", "clearly worse: &lt;b&gt;",
		}},
		{"user", f.URL() + "users/anna", []string{"User anna", "10 events learnt", "Recommended now", `href="/items/i1"`, escaped, "by CF alone", "Blade Runner", "popularity", "as curl", "v1/recommend"}},
		{"item", f.URL() + "items/i3", []string{escaped, "year", "1979", "Near it", "Alien", "Hide from lists"}},
		{"items", f.URL() + "items?q=bla", []string{"Blade Runner", "year: 1979", `href="/items/i2"`}},
		{"users", f.URL() + "users?q=an", []string{`href="/users/anna"`, "events learnt"}},
		{"lists", listed.URL() + "lists", []string{"Alien", "Popular", "Trending", "Latest", "v1/popular?n=10"}},
		{"data", f.URL() + "data", []string{"no_user", "events/0@3", "user_id is missing", `{"item_id":"i1"}</code>`, ">Send again<", `type="file"`, "dead-letters/resend"}},
		{"unknown", f.URL() + "users/nobody", []string{"No such user", "Go to the live page"}},
		{"locked", locked.URL() + "users/anna", []string{"This server asks for a token", "the token is missing", ">locked<"}},
	} {
		dom, console := f.browse(browser, c.url, "--dump-dom")
		for _, want := range c.shows {
			if !strings.Contains(dom, want) {
				t.Errorf("%s does not show %q", c.name, want)
			}
		}
		if strings.Contains(dom, "owned") && !strings.Contains(dom, escaped) || regexp.MustCompile(`<title>[^<]*owned`).MatchString(dom) || strings.Contains(dom, "<img src=\"x\"") {
			t.Errorf("%s ran a title as markup", c.name)
		}
		for _, bad := range []string{"Content Security Policy", "Uncaught", "SyntaxError"} {
			if strings.Contains(console, bad) {
				t.Errorf("%s: the console says %s: %s", c.name, bad, console)
			}
		}
		if t.Failed() {
			t.Log(dom)
			return
		}
		if dir := os.Getenv("CORASTREAM_SCREENSHOTS"); dir != "" {
			for shade, scheme := range map[string]string{"light": "1", "dark": "0"} {
				if shade == "dark" && c.name != "home" && c.name != "user" {
					continue // the same colours
				}
				if shade == "light" {
					f.browse(browser, c.url, "--screenshot="+filepath.Join(dir, c.name+"-360.png"), "--window-size=360,1400", "--hide-scrollbars")
				}
				f.browse(browser, c.url, "--screenshot="+filepath.Join(dir, c.name+"-"+shade+".png"), "--window-size=1280,1200", "--hide-scrollbars", "--blink-settings=preferredColorScheme="+scheme)
			}
		}
	}
}

// browse runs the browser on one address and returns its output and its log.
func (f *fixture) browse(browser, url string, flags ...string) (out, log string) {
	f.t.Helper()
	// A profile folder of its own: not TempDir, whose clean-up fails while helpers of the browser still write there.
	profile, err := os.MkdirTemp("", "corastream-browser-")
	if err != nil {
		f.t.Fatal(err)
	}
	defer os.RemoveAll(profile)
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	args := append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--virtual-time-budget=3000", "--user-data-dir=" + profile,
	}, flags...)
	cmd := exec.CommandContext(ctx, browser, append(args, url)...)
	var o, e strings.Builder
	cmd.Stdout, cmd.Stderr = &o, &e
	if err := cmd.Run(); err != nil {
		f.t.Fatalf("%s: %v\n%s", browser, err, e.String())
	}
	return o.String(), e.String()
}
