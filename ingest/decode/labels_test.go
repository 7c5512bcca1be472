package decode

import (
	"fmt"
	"strings"
	"testing"

	"github.com/corastream/corastream"
)

// TestARecordWithoutAnItemSetsItsUsersLabels: a list, an object and a text part into sorted labels; beside an item, labels are context as
// before; what is no label is refused by name.
func TestARecordWithoutAnItemSetsItsUsersLabels(t *testing.T) {
	cfg := Default()
	read := func(value string) (b corastream.Batch) {
		New(cfg).Strict().Decode(&b, Record{Pos: corastream.Position{Topic: cfg.Topics.Interactions}, Value: []byte(value), Time: recordTime, Covers: 1}, recordTime)
		return b
	}
	for value, want := range map[string]string{
		`{"user_id":"u","labels":["student","de"," ",7,true,"de"]}`:                             "7,de,student,true",
		`{"user_id":"u","type":"labels","labels":{"lang":"de","age":[20,"30s"],"none":null}}`:   "age=20,age=30s,lang=de",
		`{"UserId":"u","Labels":["a"],"Comment":"as Gorse writes it","timestamp":"2026-01-01"}`: "a",
		`{"user_id":"u","labels":"b|a"}`:                                                        "a,b",
		`{"user_id":"u","labels":[]}`:                                                           "",
	} {
		b := read(value)
		if len(b.Events) != 1 || len(b.Bad) != 0 || !b.Events[0].OfUser() || strings.Join(b.Events[0].Labels, ",") != want || b.Events[0].User != "u" || b.Events[0].Time.IsZero() {
			t.Errorf("%s: %+v", value, b)
		}
	}
	if b := read(`{"user_id":"u","item_id":"i","type":"click","labels":["a"]}`); len(b.Events) != 1 || b.Events[0].Labels != nil || b.Events[0].Item != "i" {
		t.Errorf("beside an item: %+v", b)
	}
	many := make([]string, corastream.MaxLabels+1)
	for i := range many {
		many[i] = fmt.Sprintf(`"l%d"`, i)
	}
	for value, want := range map[string]string{
		`{"user_id":"u","labels":[["a"]]}`:                              "labels: ",
		`{"user_id":"u","labels":[{"a":1}]}`:                            "labels: ",
		`{"user_id":"u","labels":7}`:                                    "neither a list nor an object",
		`{"user_id":"u","labels":["a\u0000"]}`:                          "control characters",
		`{"user_id":"u","labels":["` + strings.Repeat("x", 600) + `"]}`: "over max_id_bytes",
		`{"user_id":"u","labels":[` + strings.Join(many, ",") + `]}`:    "more than 32",
		`{"labels":["a"]}`:                                              "user_id is missing",
		`{"user_id":"u","labels":null}`:                                 "item_id is missing",
		`{"user_id":"u","labels":["a"],"type":"click"}`:                 "item_id is missing",
		`{"user_id":"u","labels":["a"],"rating":5}`:                     "item_id is missing",
		`{"user_id":"u","labels":["a"],"colour":"red"}`:                 "nothing reads",
	} {
		if b := read(value); len(b.Events) != 0 || len(b.Bad) != 1 || !strings.Contains(b.Bad[0].Detail, want) {
			t.Errorf("%.60s: %+v", value, b)
		}
	}
	if _, at, err := New(cfg).past([][]byte{[]byte(`{"item_id":"i"}`), []byte(`{"type":"labels","labels":["a"]}`)}, recordTime); err == nil || at != 1 {
		t.Errorf("a history with labels: entry %d, %+v", at, err)
	}
}
