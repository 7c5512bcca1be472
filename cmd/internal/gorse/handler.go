package gorse

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

const (
	maxBody  = 8 << 20 // of one request; it is cut into pieces that the API takes
	pieceLen = 100     // objects of a piece
	pieceCap = 48 << 10
	defaultN = 10
	maxN     = 500 // the API's own default bound of a list
)

// adapter translates to the API behind it.
type adapter struct{ api http.Handler }

// Handler answers Gorse's paths, which begin with /api/, by the API's handler.
func Handler(api http.Handler) http.Handler {
	a := &adapter{api}
	mux := http.NewServeMux()
	for pattern, h := range map[string]func(*call) error{
		"POST /api/feedback": insertFeedback, "PUT /api/feedback": insertFeedback,
		"GET /api/feedback": allFeedback, "GET /api/feedback/{type}": allFeedback,
		"GET /api/feedback/{user}/{item}": pairFeedback, "GET /api/feedback/{type}/{user}/{item}": pairFeedback,
		"DELETE /api/feedback/{user}/{item}": deleteFeedback, "DELETE /api/feedback/{type}/{user}/{item}": deleteFeedback,
		"GET /api/user/{user}/feedback": userFeedback, "GET /api/user/{user}/feedback/{type}": userFeedback,
		"GET /api/item/{item}/feedback": refuse("who took an item is not kept by item"), "GET /api/item/{item}/feedback/{type}": refuse("who took an item is not kept by item"),

		"POST /api/item": insertItem, "POST /api/items": insertItems, "GET /api/item/{item}": getItem, "GET /api/items": getItems,
		"PATCH /api/item/{item}": patchItem, "DELETE /api/item/{item}": deleteItem,
		"PUT /api/item/{item}/category/{category}": setCategory, "DELETE /api/item/{item}/category/{category}": setCategory,

		"POST /api/user": insertUser, "POST /api/users": insertUsers, "PATCH /api/user/{user}": patchUser,
		"GET /api/user/{user}": getUser, "GET /api/users": getUsers,
		"DELETE /api/user/{user}": deleteUser,

		"GET /api/recommend/{user}": recommend, "GET /api/recommend/{user}/{category...}": recommend,
		"POST /api/session/recommend": session, "POST /api/session/recommend/{category...}": session,
		"GET /api/popular": browse("popular"), "GET /api/popular/{category...}": browse("popular"),
		"GET /api/latest": browse("latest"), "GET /api/latest/{category...}": browse("latest"),
		"GET /api/item/{item}/neighbors": itemNeighbors, "GET /api/item/{item}/neighbors/{category...}": itemNeighbors,
		"GET /api/user/{user}/neighbors": userNeighbors,

		"GET /api/health/live": health("/healthz"), "GET /api/health/ready": health("/readyz"),
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			c := &call{a: a, w: w, r: r}
			if err := h(c); err != nil {
				c.fail(err)
			}
		})
	}
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		(&call{w: w}).fail(&failure{http.StatusNotFound, "Gorse has no such path, or this program answers none like it"})
	})
	return mux
}

// failure is an answer that is an error. Gorse's are plain text.
type failure struct {
	status int
	text   string
}

func (f *failure) Error() string { return f.text }

func bad(format string, args ...any) *failure {
	return &failure{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

func refuse(why string) func(*call) error {
	return func(*call) error { return &failure{http.StatusNotImplemented, why} }
}

// call is one request of a client of Gorse's.
type call struct {
	a *adapter
	w http.ResponseWriter
	r *http.Request
}

func (c *call) fail(err error) {
	f, ok := err.(*failure)
	if !ok {
		f = &failure{http.StatusInternalServerError, err.Error()}
	}
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	c.w.Header().Set("X-Content-Type-Options", "nosniff")
	c.w.WriteHeader(f.status)
	io.WriteString(c.w, f.text+"\n") //nolint:errcheck // the client is gone
}

func (c *call) answer(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Header().Set("Cache-Control", "no-store")
	c.w.Write(append(b, '\n')) //nolint:errcheck // the client is gone
	return nil
}

// affected is how Gorse answers what writes.
func (c *call) affected(n int) error { return c.answer(map[string]int{"RowAffected": n}) }

// answered keeps what the API writes.
type answered struct {
	head   http.Header
	status int
	body   bytes.Buffer
}

func (a *answered) Header() http.Header { return a.head }

func (a *answered) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *answered) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

// ask sends a request to the API as the client's own and reads its JSON into out. An error of the API's is passed on.
func (c *call) ask(method, path string, query url.Values, body, out any) error {
	var b []byte
	if body != nil {
		var err error
		if b, err = json.Marshal(body); err != nil {
			return err
		}
	}
	r := c.r.Clone(c.r.Context())
	r.Method, r.Body, r.ContentLength, r.RequestURI, r.Pattern = method, io.NopCloser(bytes.NewReader(b)), int64(len(b)), "", ""
	u, err := url.Parse(path)
	if err != nil {
		return err
	}
	r.URL.Path, r.URL.RawPath, r.URL.RawQuery = u.Path, u.RawPath, query.Encode()
	for _, name := range []string{"Content-Length", "Content-Encoding", "Accept-Encoding", "If-None-Match"} {
		r.Header.Del(name)
	}
	if r.Header.Del("Content-Type"); body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	w := &answered{head: http.Header{}}
	c.a.api.ServeHTTP(w, r)
	if w.status/100 != 2 {
		for _, name := range []string{"WWW-Authenticate", "Retry-After"} {
			if v := w.head.Get(name); v != "" {
				c.w.Header().Set(name, v)
			}
		}
		return &failure{w.status, messageOf(w.body.Bytes())}
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(w.body.Bytes(), out)
}

// messageOf is the text of one of the API's errors.
func messageOf(body []byte) string {
	var e struct {
		Error struct{ Message, Field, Fix string }
	}
	if json.Unmarshal(body, &e) != nil || e.Error.Message == "" {
		return string(bytes.TrimSpace(body))
	}
	text := e.Error.Message
	if e.Error.Field != "" {
		text = e.Error.Field + ": " + text
	}
	if e.Error.Fix != "" {
		text += " (fix: " + e.Error.Fix + ")"
	}
	return text
}

// read decodes the body, once the API has let the client in.
func (c *call) read(into any) error {
	if err := c.ask("GET", "/v1/models", nil, nil, nil); err != nil {
		return err
	}
	b, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	if err != nil {
		return &failure{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is over %d bytes, or was cut off", maxBody)}
	}
	if err := json.Unmarshal(b, into); err != nil {
		return bad("the body is not what Gorse takes: %v", err)
	}
	return nil
}

// send posts records in pieces that the API takes, and waits until they are learnt.
func (c *call) send(path string, records []map[string]any) error {
	for len(records) > 0 {
		n, size := 0, 0
		for n < len(records) && n < pieceLen {
			b, err := json.Marshal(records[n])
			if err != nil {
				return err
			}
			if size += len(b); n > 0 && size > pieceCap {
				break
			}
			n++
		}
		wait := url.Values{}
		if n == len(records) { // the last piece: those before it are learnt by then, or a moment later
			wait.Set("wait", "learnt")
		}
		if err := c.ask("POST", path, wait, records[:n], nil); err != nil {
			return err
		}
		records = records[n:]
	}
	return nil
}

// number reads a parameter that is a whole number.
func (c *call) number(name string, otherwise int) (int, error) {
	v := c.r.URL.Query().Get(name)
	if v == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		return 0, bad("%s: %.20q is not a whole number from 0 on", name, v)
	}
	return n, nil
}

// page reads n and offset. all is how many items to ask the API for.
func (c *call) page() (n, offset, all int, err error) {
	if n, err = c.number("n", defaultN); err != nil {
		return
	}
	if offset, err = c.number("offset", 0); err != nil {
		return
	}
	if n == 0 {
		n = defaultN
	}
	if all = n + offset; all > maxN {
		err = bad("n and offset: %d items are more than %d", all, maxN)
	}
	return
}

// cut is the page of a list.
func cut[T any](list []T, n, offset int) []T {
	list = list[min(offset, len(list)):]
	return append([]T{}, list[:min(n, len(list))]...)
}

func health(path string) func(*call) error {
	return func(c *call) error {
		if err := c.ask("GET", path, nil, nil, nil); err != nil {
			return err
		}
		return c.answer(map[string]bool{"Ready": true})
	}
}
