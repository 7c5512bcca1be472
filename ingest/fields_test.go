package ingest

import (
	"strings"
	"testing"
)

func TestBadFieldMapsAreRefused(t *testing.T) {
	cfg := Default()
	cfg.Brokers = []string{"k:9092"}
	cfg.Fields = Fields{Events: map[string]string{"customer": "x", "user_id": "a..b"}, Items: map[string]string{"title": strings.Repeat("a.", 9) + "a"}}
	err := cfg.Validate()
	if err == nil {
		t.Fatal("taken")
	}
	for _, want := range []string{"fields.events.customer", "fields.events.user_id", "fields.items.title"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %s", err, want)
		}
	}
}
