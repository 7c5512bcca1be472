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
	switch l.Reason {
	case decode.ReasonKind:
		return kindFix(l)
	case decode.ReasonNoUser:
		return l.Reason, mapFix(l.Value, "events", "user_id")
	case decode.ReasonNoItem:
		return l.Reason, mapFix(l.Value, "events", "item_id")
	case decode.ReasonTitle:
		switch {
		case strings.Contains(l.Detail, "names a user"):
			return l.Reason, "write such records to the interactions topic (`corastream produce --topic interactions`), or give them a title"
		case strings.Contains(l.Detail, "max_text_bytes"):
			return l.Reason, "raise kafka.max_text_bytes, or shorten the title"
		}
		return l.Reason, mapFix(l.Value, "items", "title")
	case decode.ReasonTime:
		return l.Reason, "write RFC 3339, 2022-06-24 21:20:11, a date, or unix s, ms, us or ns, or map the right member with kafka.fields.events.timestamp"
	case decode.ReasonFuture:
		return l.Reason, "correct the producer's clock or the unit of timestamp, or raise kafka.max_ahead"
	case decode.ReasonOld:
		return l.Reason, "raise kafka.max_age"
	case decode.ReasonNaN:
		return l.Reason, "leave the member out instead of writing NaN or Infinity"
	case decode.ReasonLabel:
		if strings.Contains(l.Detail, "is null") {
			return l.Reason, "leave such rows out, or say in type what happened"
		}
		return l.Reason, "write 0 to 1 into label; what has another scale is a rating (kafka.rating_threshold)"
	case decode.ReasonTooLarge:
		return l.Reason, "raise kafka.max_record_bytes"
	case decode.ReasonSchemaRegistry:
		return l.Reason, "produce JSON to this topic, without a schema registry"
	case decode.ReasonType:
		if strings.Contains(l.Detail, "UTF-8") {
			return l.Reason, "write the file as UTF-8, as with iconv -f LATIN1 -t UTF-8"
		}
		return l.Reason, "write ids as text or whole numbers, ratings and labels as numbers, and flags as true or false"
	case decode.ReasonID:
		return l.Reason, "write ids in UTF-8, without control characters, and no longer than kafka.max_id_bytes"
	case decode.ReasonAmbiguous:
		return l.Reason, "leave one of the two names out"
	case decode.ReasonTooMany:
		return l.Reason, "raise kafka.max_array, or send fewer in one record"
	case decode.ReasonFields:
		return l.Reason, "raise kafka.max_text_bytes, or send shorter fields and no more than 64 of them"
	case decode.ReasonEmpty:
		return l.Reason, "leave empty records out"
	case decode.ReasonUnread:
		return l.Reason, "correct the name, or leave it out"
	case decode.ReasonJSON:
		return l.Reason, "write one JSON object a line or record"
	}
	return l.Reason, ""
}

// undone are parts of the names of kinds that take something back.
var undone = []string{"return", "refund", "cancel", "remove", "delete", "unlike", "undo", "revoke", "revert"}

// kindFix is Remedy where it is not known what happened.
func kindFix(l corastream.DeadLetter) (reason, fix string) {
	var kind, name, field string
	if _, err := fmt.Sscanf(l.Detail, "type %q", &kind); err == nil && strings.Contains(l.Detail, "not in kinds") {
		means := "label: 1, weight: 1, implicit: true"
		if slices.ContainsFunc(undone, func(part string) bool { return strings.Contains(strings.ToLower(kind), part) }) {
			means = "retract: true, weight: 1"
		}
		return l.Reason + " " + kind, fmt.Sprintf("kafka: {kinds: {%s: {%s}}}", kind, means)
	}
	if _, err := fmt.Sscanf(l.Detail, "%q is not read, and the event has neither type, label nor rating: write %s", &name, &field); err == nil {
		field = strings.TrimSuffix(field, ",")
		return l.Reason + " " + name, fmt.Sprintf("kafka: {fields: {events: {%s: %s}}}, or write %s", field, name, field)
	}
	switch {
	case strings.Contains(l.Detail, "quantity"):
		return l.Reason, "give such rows the type return, or leave them out"
	case strings.Contains(l.Detail, "speaks against"):
		return l.Reason, "leave such rows out, or give them a type that takes back, such as unlike or return"
	}
	return l.Reason, "write type, label or rating; kafka.fields.events maps what says it under another name"
}

// mapFix proposes the members of a record that are likely what it lacks, and names them all where none is.
func mapFix(value []byte, part, field string) string {
	var members map[string]json.RawMessage
	if json.Unmarshal(value, &members) != nil || len(members) == 0 {
		return "give each record a " + field
	}
	names := slices.Sorted(maps.Keys(members))
	for i, name := range names { // a member that holds the id
		var nested map[string]json.RawMessage
		if json.Unmarshal(members[name], &nested) == nil && len(nested) > 0 {
			inner := slices.Sorted(maps.Keys(nested))[0]
			if _, ok := nested["id"]; ok {
				inner = "id"
			}
			names[i] = name + "." + inner
		}
	}
	if set := finder.Mapping(part, names); strings.Contains(set, field+": ") {
		return set
	}
	return fmt.Sprintf("map it with kafka: {fields: {%s: {%s: NAME}}}; the record has %s", part, field, strings.Join(names[:min(12, len(names))], ", "))
}

// finder knows names alone.
var finder = decode.New(decode.Default())
