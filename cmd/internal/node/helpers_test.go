package node

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	const patience = 30 * time.Second
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s in vain", patience, what)
		}
	}
}

// post sends JSON and decodes the answer.
func post(t *testing.T, url, body string) (answer map[string]any) {
	t.Helper()
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	return answer
}

func title(i int) string { return fmt.Sprintf("Film of the %d. kind (%d)", i, 1950+i%60) }
