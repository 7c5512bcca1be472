//go:build app

package apptest

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestTheCommandsOfTheHTTPPageAreAnswered sends every curl of docs/reference/http.md, and those in the tables of docs/guide/shop.md, to a running `up` with a tiny LLM: they are answered with
// success, but those under which the page shows an error, and with the fields that the page shows first.
func TestTheCommandsOfTheHTTPPageAreAnswered(t *testing.T) {
	t.Parallel()
	h := newHome(t, "", tinyConfig(tinyLLM(t, 1), ""))
	h.amend(t, "context_tokens: 200, threads: 1", "context_tokens: 256, threads: 1, chat_template: vicuna") // the tiny file has none
	h.amend(t, `checkpoint: ""`, `checkpoint: "`+untrained(t, h.config, 40, nil)+`"`)
	up := h.up(t)
	url := up.url(t)
	ok(t, "produce", write(t, "items.csv", "item_id,title\n302,L.A. Confidential (1997)\n50,Star Wars (1977)\n181,Return of the Jedi (1983)\n"), "-c", h.config)
	ok(t, "produce", write(t, "events.csv", csvHeader+"178,50,1,1700000000\n"), "-c", h.config)
	eventually(t, "the stream", func() bool {
		return counter(url, "corastream_events_total") == 1 && counter(url, "corastream_items_read_total") == 3
	})
	page, err := os.ReadFile("../../docs/reference/http.md")
	if err != nil {
		t.Fatal(err)
	}
	body, path := regexp.MustCompile(`-d '([^']*)'`), regexp.MustCompile(` '?127\.0\.0\.1:8642(/[^\s']*)`)
	first := regexp.MustCompile(`^(?:data: )?\{"([a-z_]+)"`)
	lines := strings.Split(string(page), "\n")
	shop, err := os.ReadFile("../../docs/guide/shop.md")
	if err != nil {
		t.Fatal(err)
	}
	inTables := regexp.MustCompile("`(curl [^`]+)`").FindAllStringSubmatch(string(shop), -1)
	for _, m := range inTables {
		lines = append(lines, m[1])
	}
	lines = append(lines, "")
	sent := 0
	for i, line := range lines {
		if !strings.HasPrefix(line, "curl ") {
			continue
		}
		at := path.FindStringSubmatch(line)
		if at == nil {
			t.Errorf("no address in %q", line)
			continue
		}
		method, said := http.MethodGet, ""
		if m := body.FindStringSubmatch(line); m != nil {
			method, said = http.MethodPost, m[1]
		}
		kind := "application/json"
		if strings.Contains(line, "--data-binary @clicks.csv") {
			method, said, kind = http.MethodPost, csvHeader+"178,50,1,1700000000\n", "text/csv"
		}
		for _, other := range []string{http.MethodDelete, http.MethodPatch, http.MethodPut} {
			if strings.Contains(line, " -X "+other+" ") {
				method = other
			}
		}
		req, err := http.NewRequestWithContext(t.Context(), method, url+at[1], strings.NewReader(said))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", kind)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		sent++
		shown := first.FindStringSubmatch(lines[i+1])
		if refused := shown != nil && shown[1] == "error"; (resp.StatusCode >= 400) != refused {
			t.Errorf("%s\n%d %s", line, resp.StatusCode, answer)
		}
		if shown != nil && !strings.Contains(string(answer), `"`+shown[1]+`"`) {
			t.Errorf("%s\nhas no %q: %s", line, shown[1], answer)
		}
	}
	if sent < 8 || len(inTables) < 12 {
		t.Errorf("only %d commands found", sent)
	}
	up.signal(syscall.SIGTERM)
	up.wait(t)
}
