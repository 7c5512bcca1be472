package decode

import (
	"reflect"
	"testing"

	"github.com/corastream/corastream"
)

// TestWholeRecordsThatNameTheirChangesDoNotUndoEachOther: two replicas read one item, each changes another part and writes the whole record.
// Whichever comes last, both changes hold; who does not know the item takes the record whole.
func TestWholeRecordsThatNameTheirChangesDoNotUndoEachOther(t *testing.T) {
	cfg := Default()
	read := func(value string) corastream.Item {
		t.Helper()
		var b corastream.Batch
		New(cfg).Decode(&b, Record{Pos: corastream.Position{Topic: cfg.Topics.Items}, Value: []byte(value), Time: recordTime, Covers: 1}, recordTime)
		if len(b.Items) != 1 {
			t.Fatalf("%s: %+v", value, b)
		}
		b.Items[0].Pos = corastream.Position{}
		return b.Items[0]
	}
	known := corastream.Item{ID: "i", Title: "Pot", Fields: map[string]string{"brand": "a", "size": "S"}}
	first := read(`{"item_id":"i","title":"Pot","withdrawn":true,"fields":{"brand":"a","size":"S","colour":"red"},"corastream_changed":["withdrawn","fields.colour"]}`)
	second := read(`{"item_id":"i","title":"Tea pot","withdrawn":false,"fields":{"brand":null,"size":"L"},"corastream_changed":["title","fields.size","fields.brand"]}`)
	want := corastream.Item{ID: "i", Title: "Tea pot", Withdrawn: true, Fields: map[string]string{"size": "L", "colour": "red"}}
	for order, got := range map[string]corastream.Item{"first, second": second.Onto(first.Onto(known)), "second, first": first.Onto(second.Onto(known))} {
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", order, got, want)
		}
	}
	for name, empty := range map[string]corastream.Item{"unknown": {}, "removed": {ID: "i", Withdrawn: true, Removed: true}} {
		if got := first.Onto(empty); got.Title != "Pot" || !got.Withdrawn || len(got.Fields) != 3 || got.Changed != nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
