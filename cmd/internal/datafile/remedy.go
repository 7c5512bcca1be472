package datafile

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/ingest/decode"
)

// Remedy returns the setting that would mend a dead letter. Every unknown kind of event is a reason of its own.
func Remedy(l corastream.DeadLetter) (reason, fix string) {
	var kind string
	switch l.Reason {
	case decode.ReasonKind:
		if _, err := fmt.Sscanf(l.Detail, "type %q", &kind); err == nil {
			return l.Reason + " " + kind, fmt.Sprintf("kafka: {kinds: {%s: {label: 1, weight: 1, implicit: true}}}, beside the kinds of `corastream config print`", kind)
		}
		return l.Reason, "write type, label or rating; kafka.fields.events maps what says it under another name"
	case decode.ReasonNoUser:
		return l.Reason, mapFix(l.Value, "events", "user_id", "user", "customer", "visitor", "member", "account", "client", "buyer", "uid")
	case decode.ReasonNoItem:
		return l.Reason, mapFix(l.Value, "events", "item_id", "item", "product", "sku", "article", "movie", "track", "content", "offer", "asin")
	case decode.ReasonTitle:
		return l.Reason, mapFix(l.Value, "items", "title", "title", "name", "headline", "label", "caption")
	case decode.ReasonTime:
		return l.Reason, "write RFC 3339, 2022-06-24 21:20:11, a date, or unix s, ms, us or ns, or map the right member with kafka.fields.events.timestamp"
	case decode.ReasonFuture:
		return l.Reason, "correct the producer's clock or the unit of timestamp, or raise kafka.max_ahead"
	case decode.ReasonOld:
		return l.Reason, "raise kafka.max_age"
	case decode.ReasonNaN:
		return l.Reason, "leave the member out instead of writing NaN or Infinity"
	case decode.ReasonLabel:
		return l.Reason, "write 0 to 1 into label; what has another scale is a rating (kafka.rating_threshold)"
	case decode.ReasonTooLarge:
		return l.Reason, "raise kafka.max_record_bytes"
	case decode.ReasonSchemaRegistry:
		return l.Reason, "produce JSON to this topic, without a schema registry"
	case decode.ReasonJSON:
		return l.Reason, "write one JSON object a line or record"
	}
	return l.Reason, ""
}

// mapFix names the members that a record has, and proposes the likeliest.
func mapFix(value []byte, part, field string, likely ...string) string {
	var members map[string]json.RawMessage
	if json.Unmarshal(value, &members) != nil || len(members) == 0 {
		return "give each record a " + field
	}
	names := slices.Sorted(maps.Keys(members))
	guess := ""
	for _, name := range names {
		for _, word := range likely {
			if guess == "" && strings.Contains(strings.ToLower(name), word) {
				guess = name
			}
		}
	}
	if guess == "" {
		return fmt.Sprintf("map it with kafka: {fields: {%s: {%s: NAME}}}; the record has %s", part, field, strings.Join(names[:min(12, len(names))], ", "))
	}
	var nested map[string]json.RawMessage
	if json.Unmarshal(members[guess], &nested) == nil && len(nested) > 0 {
		inner := slices.Sorted(maps.Keys(nested))
		guess += "." + inner[0]
		if _, ok := nested["id"]; ok {
			guess = strings.TrimSuffix(guess, inner[0]) + "id"
		}
	}
	return fmt.Sprintf("kafka: {fields: {%s: {%s: %s}}}", part, field, guess)
}
