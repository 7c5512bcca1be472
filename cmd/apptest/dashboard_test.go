//go:build app

package apptest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestWhatIsClickedOnTheDashboardHappens drives Chromium against a running `up` with a token: log in, send dead letters again after a
// restart with a mended configuration, look through a file, hide an item and bring it back.
func TestWhatIsClickedOnTheDashboardHappens(t *testing.T) {
	t.Parallel()
	const token = "canary-3f9a7c51d2e84b60"
	b := newBrowser(t)
	h := newHome(t, "", noLLM)
	h.amend(t, `http: {listen: "127.0.0.1:0"}`, `http: {listen: "127.0.0.1:0", token: "`+token+`"}`)
	ask := func(url, method, path, body string) string {
		t.Helper()
		req, err := http.NewRequest(method, url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return ""
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	has := func(url, path, text string) {
		t.Helper()
		eventually(t, path+" with "+text, func() bool { return strings.Contains(ask(url, "GET", path, ""), text) })
	}

	up := h.up(t)
	url := up.url(t)
	items := "item_id,title\n"
	for i := range 8 {
		items += fmt.Sprintf("i%d,Lamp number %d\n", i, i)
	}
	ok(t, "produce", write(t, "items.csv", items), "-c", h.config)
	send(t, h.address(),
		&kgo.Record{Topic: h.topics.interactions, Key: []byte("u1"), Value: []byte(`{"user_id":"u1","item_id":"i1","type":"like"}`)},
		&kgo.Record{Topic: h.topics.interactions, Key: []byte("u1"), Value: []byte(`{"user_id":"u1","item_id":"i2","type":"teleport"}`)},
		&kgo.Record{Topic: h.topics.interactions, Key: []byte("u1"), Value: []byte(`{"item_id":"i3","type":"like"}`)})
	has(url, "/v1/dead-letters", "no_user")
	end(t, up)
	h.amend(t, "  max_batch_events: 300\n", "  max_batch_events: 300\n  kinds: {teleport: {label: 1, weight: 1}}\n")
	up = h.up(t)
	url = up.url(t)

	b.open(url + "/data")
	b.shows("This server asks for a token")
	b.js(`document.getElementById("token").value = "` + token + `"`)
	b.click("button", "Use it in this tab")
	b.shows("teleport")
	b.picture("dead-letters")
	b.click(`li:nth-child(2) button`, "Send again") // the newest is first: this is the one that can be learnt now
	b.shows("sent again")
	has(url, "/v1/users/u1", `"events":2`)
	b.click(`li:nth-child(1) button`, "Send again")
	eventually(t, "the record that still says no user, as a new letter", func() bool {
		return strings.Count(ask(url, "GET", "/v1/dead-letters", ""), `"reason":"no_user"`) == 2
	})
	eventually(t, "two marks", func() bool { return strings.Count(ask(url, "GET", "/v1/dead-letters", ""), `"sent_again"`) == 2 })

	b.choose("#file", write(t, "clicks.csv", "customer,sku,when\nu,a,2026-01-01\nv,b,2026-01-02\n"))
	b.shows("missing column user_id")
	b.choose("#file", write(t, "good.csv", "user_id,item_id,type,timestamp\nu,a,click,2026-01-01\nv,b,warp,2026-01-02\n"))
	b.shows("good.csv")
	b.shows("Fix:")
	b.picture("upload")

	b.open(url + "/items?q=number+1")
	b.click("main a", "Lamp number 1")
	b.click("button", "Hide from lists")
	b.shows("withdrawn")
	lists := func() string { return ask(url, "POST", "/v1/recommend", `{"user_id":"somebody","n":8}`) }
	if text := lists(); strings.Contains(text, `"item_id":"i1"`) || !strings.Contains(text, `"item_id":"i4"`) {
		t.Errorf("a hidden item is listed: %s", text)
	}
	b.click("button", "Bring back")
	b.shows("Hide from lists")
	if text := lists(); !strings.Contains(text, `"item_id":"i1"`) {
		t.Errorf("an item that was brought back is not listed: %s", text)
	}
	end(t, up)
}

// end stops a program as an operator does.
func end(t *testing.T, p *process) {
	t.Helper()
	p.signal(syscall.SIGTERM)
	if r := p.wait(t); r.code != 0 {
		t.Errorf("exit %d\n%s", r.code, tailOf(r.stderr, 1500))
	}
}

// TestAShopsOwnPageShowsItsLists opens docs/examples/page in Chromium, as the page of another site: home, an item's page, and a cart.
func TestAShopsOwnPageShowsItsLists(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	site := httptest.NewServer(http.FileServer(http.Dir("../../docs/examples/page")))
	defer site.Close()
	h := newHome(t, "", noLLM+"recommend: {lists: {cart: {sources: [similar, popular], items: 5}}}\n")
	h.amend(t, `http: {listen: "127.0.0.1:0"}`, `http: {listen: "127.0.0.1:0", allowed_origins: ["`+site.URL+`"]}`)
	url := h.up(t).url(t)
	items, clicks := "item_id,title\n", csvHeader
	for i := range 12 {
		items += fmt.Sprintf("i%d,Tea number %d\n", i, i)
		clicks += fmt.Sprintf("u%d,i%d,1,%d\nu%d,i%d,1,%d\n", i, i%4, firstTime+10*i, i, (i+1)%4, firstTime+10*i+1)
	}
	ok(t, "produce", write(t, "items.csv", items), "-c", h.config)
	ok(t, "produce", write(t, "clicks.csv", clicks), "-c", h.config)
	eventually(t, "the clicks", func() bool { return counter(url, "corastream_events_total") == 24 })
	b.open(site.URL + "/shop.html?api=" + url)
	b.click("#home button", "Tea number")
	b.shows("Goes with it")
	b.click("#similar button", "Tea number")
	b.click("#buy", "Put into the cart")
	b.click("#cart button", "Tea number")
	b.click("#more button", "Tea number")
	b.fits(360)
	eventually(t, "three clicks and a purchase", func() bool { return counter(url, "corastream_events_total") >= 28 })
}
