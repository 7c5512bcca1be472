package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const meaningPage = "../../docs/reference/events.md"

const meaningHead = `# What an event may look like

An event may come in four forms: a row of a CSV file, a line of JSON, a record of the topic, and a
body of POST /v1/events. All four have one meaning. The names of columns and members are compared
without case, ` + "`_`" + ` and ` + "`-`" + `. A blank cell means the same as null in JSON. Every event of the table also
has ` + "`user_id`" + `, ` + "`item_id`" + ` and ` + "`timestamp`" + `, where the table does not show them.

- ` + "`type`" + ` names what happened, and ` + "`kafka.kinds`" + ` says what each type means. If a ` + "`label`" + ` (0 to 1) is
  there, it decides. Else a ` + "`rating`" + ` decides (liked from ` + "`kafka.rating_threshold`" + ` on). Else the type's
  own meaning holds.
- A record that does not say what happened is of ` + "`kafka.default_kind`" + `. ` + "`corastream validate`" + ` and
  ` + "`corastream up`" + ` report this.
- An event that is not understood never counts as a like. On a topic it becomes a dead letter.
  Everywhere else it is refused, and the message names the reason.
- ` + "`items`" + ` with a type is a basket, which is one event for each item. ` + "`items`" + ` with ` + "`clicked`" + `, or with
  the type impression, is an impression.
- A time is RFC 3339, or ` + "`2022-06-24 21:20:11`" + `, with an offset or UTC behind it, or a date alone, or
  unix s, ms, us or ns. Without an offset it is UTC. Numbers that count from a moment of their own are
  read with ` + "`kafka.time_origin`" + ` and ` + "`kafka.time_unit`" + `.
- HTTP refuses an event with a field that nothing reads. ` + "`corastream validate`" + ` counts such fields.
- A type with ` + "`retract: true`" + ` in ` + "`kafka.kinds`" + ` takes back: everything that the user did with the item
  until then leaves the history, and the item may be listed again. The built-in types of this sort are
  unlike, unstar, undislike, return, refund, remove_from_cart and retract. A deletion from Debezium is
  a retract of the row.
- A dislike, a rating below the threshold, and a label below 0.5 of the types like, dislike, rating or
  label take an earlier like of the item back. They stay in the history themselves.
- A record with ` + "`labels`" + ` and without an item says what its user is: a list, an object (` + "`{\"lang\":\"de\"}`" + `
  is ` + "`lang=de`" + `), or a text that ` + "`|`" + ` parts. It replaces the labels before, and an empty list takes them
  away. A user has at most 32. Beside an item, ` + "`labels`" + ` are not read.
- Blanks and byte order marks around ids are removed, and ids are in the normal form NFC.

This page is made from the table in ` + "`cmd/corastream/meaning_test.go`" + ` by
` + "`go generate ./cmd/corastream`" + `. The test of the table reads every line in all four forms.

| Event | What is in it | What it means |
|---|---|---|
`

const meaningTail = `
## The catalogue

A record of the items topic and a row of a catalogue file have one meaning too.

- The members are ` + "`item_id`" + ` (or the record's key), ` + "`title`" + `, ` + "`available`" + ` or ` + "`withdrawn`" + `. Every other
  member that is text, a number, a truth value or a list of these is a plain field, and so is each
  member of ` + "`fields`" + `. An item has at most 64 plain fields.
- ` + "`embedding`" + ` is the item's own vector, a list of 1 to 4,096 numbers from a model of yours. The list
  model compares the items' vectors, so a new item is listed beside items like it. One byte is kept of
  each number, and an answer shows the vector in base64. All items must have vectors of one width.
- A record changes only what it names. Null, or a blank cell, clears a title or a field. An item whose
  ` + "`available`" + ` or ` + "`withdrawn`" + ` is null is available.
- A withdrawn item keeps its title. ` + "`\"available\": true`" + ` is enough to bring it back.
- A record without a value removes the item and forgets its title and fields. The key may be the id, a
  JSON string, or an object that names the id (` + "`{\"item_id\": \"k\"}`" + `), with or without Connect's envelope
  or a schema number. A row with ` + "`__deleted: true`" + `, as Debezium writes it, removes the item too.
- A removed item comes back with a title or with ` + "`available: true`" + `. Any other record leaves it removed.
- The items topic is compacted, so Kafka keeps only the last record of each item. If that is a partial
  record, a store that learns anew from the topic lacks the rest. If you send partial records, send
  whole ones now and then, or keep the topic's history (` + "`cleanup.policy=delete`" + `).
`

// TestThePageOfEventsIsTheTable: docs/reference/events.md says what the test reads.
func TestThePageOfEventsIsTheTable(t *testing.T) {
	var b strings.Builder
	b.WriteString(meaningHead)
	for _, c := range meanings {
		means := "refused; the message names `" + c.refuse + "`"
		if c.refuse == "" {
			var parts []string
			for _, ev := range strings.Split(c.want, ",") {
				f := strings.Fields(strings.TrimRight(ev, "+-"))
				if strings.HasSuffix(ev, "-") {
					parts = append(parts, fmt.Sprintf("%s takes `%s` back", f[0], f[3]))
					continue
				}
				part := fmt.Sprintf("%s of `%s`, label %s", f[0], f[3], f[1])
				if strings.HasSuffix(ev, "+") {
					part += ", implicit"
				}
				parts = append(parts, part)
			}
			means = strings.Join(parts, "; ")
		}
		fields := "nothing"
		if c.fields != "" {
			fields = "`" + c.fields + "`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", c.name, fields, means)
	}
	b.WriteString(meaningTail)
	if os.Getenv("CORASTREAM_WRITE") != "" {
		if err := os.MkdirAll(filepath.Dir(meaningPage), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(meaningPage, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(meaningPage)
	if err != nil || string(have) != b.String() {
		t.Errorf("%s is not what the table says: run go generate ./cmd/corastream; %v", meaningPage, err)
	}
}
