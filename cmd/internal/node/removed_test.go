package node

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// TestARemovedKeyIsRefusedWithItsReplacement writes each key of the table into a file of its own.
func TestARemovedKeyIsRefusedWithItsReplacement(t *testing.T) {
	for key, instead := range removedKeys {
		parts := strings.Split(key, ".")
		var b strings.Builder
		for depth, part := range parts {
			fmt.Fprintf(&b, "%s%s:\n", strings.Repeat("  ", depth), part)
		}
		text := strings.TrimSuffix(b.String(), "\n") + " 1\n"
		path := filepath.Join(t.TempDir(), "old.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		place := fmt.Sprintf("old.yaml:%d:", len(parts))
		if err == nil || !strings.Contains(err.Error(), instead) || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), place) {
			t.Errorf("%s: want %q and %q in %v", key, place, instead, err)
		}
	}
}

// TestAllRemovedKeysOfAFileAreNamedInOrder: one start names all of them, and a typing mistake beside them is still found afterwards.
func TestAllRemovedKeysOfAFileAreNamedInOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "old.yaml")
	text := "# from last year\ncf: {kind: mf, bias_rate: 0.2, clip: 3}\ntrain:\n  generator:\n    qformer:\n      heads: 4\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(path)
	if err == nil {
		t.Fatal("accepted")
	}
	at := -1
	for _, want := range []string{"old.yaml:2:16: cf.bias_rate", "old.yaml:2:32: cf.clip", "old.yaml:5:5: train.generator.qformer"} {
		next := strings.Index(err.Error(), want)
		if next <= at {
			t.Errorf("%q is missing, or out of order, in %v", want, err)
		}
		at = next
	}
	if err := os.WriteFile(path, []byte("cf: {kindd: mf}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "old.yaml:1:6") {
		t.Errorf("a typing mistake: %v", err)
	}
}

// TestNoRemovedKeyIsAKey holds the table to the types: a key that came back must leave it.
func TestNoRemovedKeyIsAKey(t *testing.T) {
	b, err := yaml.Marshal(Default())
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := yaml.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	for key := range removedKeys {
		var at any = all
		for _, part := range strings.Split(key, ".") {
			section, ok := at.(map[string]any)
			if !ok {
				at = nil
				break
			}
			at = section[part]
		}
		if at != nil {
			t.Errorf("%s is a key (%v), and in the table of removed ones", key, at)
		}
	}
}

// TestOneKeyHoldsForSeveralSections: what has one key reaches every stage that needs it.
func TestOneKeyHoldsForSeveralSections(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte("llm: {device: cpu}\nkafka: {max_id_bytes: 77}\npipeline: {history: 9}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	have := []any{string(c.Generator.Device), c.HTTP.MaxIDBytes, c.Replay.History, c.Train.History}
	if want := []any{"cpu", 77, 9, 9}; !reflect.DeepEqual(have, want) {
		t.Errorf("%v, want %v", have, want)
	}
}
