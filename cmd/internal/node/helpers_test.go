package node

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

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
