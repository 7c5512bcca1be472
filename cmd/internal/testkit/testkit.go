package testkit

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Patience bounds every wait, for machines that do ten things at once. No test takes that long when it passes.
var Patience = 6 * time.Minute

// Eventually polls until done says so, and fails the test after Patience.
func Eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s in vain", Patience, what)
		}
	}
}

// Context ends after Patience, before the test binary's own limit does.
func Context(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// Write puts a file into a fresh folder and returns its path.
func Write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// FetchJSON sends a request and decodes the answer, a JSON object.
func FetchJSON(t *testing.T, method, url, body string) (status int, answer map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		t.Fatalf("%s %s: %s: %v", method, url, b, err)
	}
	return resp.StatusCode, answer
}

// Lacks lists the words that a message does not hold.
func Lacks(s string, words ...string) (missing []string) {
	for _, w := range words {
		if !strings.Contains(s, w) {
			missing = append(missing, w)
		}
	}
	return missing
}

// Title is the i-th title, of no real film.
func Title(i int) string {
	first := []string{"The Last", "A Quiet", "Return of the", "Midnight", "Seven", "The Painted", "Northern", "Her Brother's"}
	second := []string{"Harbour", "Witness", "Cartographer", "Orchard", "Telegram", "Winter", "Accord", "Lighthouse"}
	return fmt.Sprintf("%s %s %d (%d)", first[i%8], second[i/8%8], i, 1950+i%60)
}

// Repository is the folder with go.mod.
func Repository() string {
	_, here, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(here), "..", "..", "..")
}

// RealLLM is the file that `make fetch` gets, or the one that CORASTREAM_LLM names. A test is skipped where there is none.
func RealLLM(t *testing.T) string {
	t.Helper()
	path := os.Getenv("CORASTREAM_LLM")
	if path == "" {
		path = filepath.Join(Repository(), ".cache", "smollm2-135m-instruct-q4_1.gguf")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no language model (%v): run `make fetch`, or set CORASTREAM_LLM", err)
	}
	return path
}

// DemoCheckpoint is the trained checkpoint of the repository.
func DemoCheckpoint(t *testing.T) string {
	t.Helper()
	path := filepath.Join(Repository(), "configs", "demo.safetensors")
	if st, err := os.Stat(path); err != nil || st.Size() == 0 {
		t.Fatalf("configs/demo.safetensors is missing (%v): run `make demo-checkpoint`", err)
	}
	return path
}
