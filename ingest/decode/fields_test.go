package decode

import (
	"reflect"
	"testing"

	"github.com/corastream/corastream"
)

// TestForeignRecordsAreReadThroughTheFieldMap: the mapped places decide, members under our own names do not.
func TestForeignRecordsAreReadThroughTheFieldMap(t *testing.T) {
	cfg := Default()
	cfg.Fields = Fields{
		Events: map[string]string{"user_id": "payload.customer.id", "item_id": "sku", "type": "action", "timestamp": "meta.at"},
		Items:  map[string]string{"item_id": "sku", "title": "text.headline", "available": "on_sale"},
	}
	b := decodeOne(cfg, "corastream.interactions", "", `{"user_id":"other","user":"third","payload":{"customer":{"id":"u"}},"sku":"i","action":"purchase","meta":{"at":"2026-11-23T11:00:00Z"}}`)
	want := ev(func(e *corastream.Event) { e.Kind, e.Time = "purchase", recordTime.Add(-60*60*1e9) })
	if len(b.Events) != 1 || !reflect.DeepEqual(b.Events[0], want) {
		t.Errorf("got %+v, want %+v", b, want)
	}
	b = decodeOne(cfg, "corastream.items", "", `{"sku":"i","title":"no","text":{"headline":"A Harbour"},"on_sale":false,"colour":"red"}`)
	if len(b.Items) != 1 || b.Items[0].ID != "i" || b.Items[0].Title != "A Harbour" || !b.Items[0].Withdrawn || b.Items[0].Fields["colour"] != "red" {
		t.Errorf("item %+v, bad %+v", b.Items, b.Bad)
	}
	for value, reason := range map[string]string{
		`{"user_id":"u","item_id":"i"}`:                          "", // what our own producers write
		`{"name":"u","sku":"i"}`:                                 ReasonNoUser,
		`{"payload":{"customer":7},"sku":"i"}`:                   ReasonNoUser,
		`{"payload":{"customer":{"id":"u"}},"Sku":"i"}`:          ReasonNoItem,
		`{"payload":{"customer":{"id":{}}},"sku":"i"}`:           ReasonType,
		`{"payload":{"customer":{"id":"u"}},"sku":"i","meta":1}`: "",
	} {
		b := decodeOne(cfg, "corastream.interactions", "", value)
		if reason == "" && len(b.Events) != 1 || reason != "" && (len(b.Bad) != 1 || b.Bad[0].Reason != reason) {
			t.Errorf("%s: %+v", value, b)
		}
	}
}

// TestMetaranksEvents: interactions, rankings and items as its documents show them, on one topic.
func TestMetaranksEvents(t *testing.T) {
	at := `"timestamp":"1763892000000"` // 2025-11-23T10:00:00Z, in ms, as text
	one := func(value string) corastream.Batch { return decodeOne(Default(), "corastream.interactions", "", value) }
	b := one(`{"event":"interaction","id":"x1","ranking":"r1",` + at + `,"user":"u","session":"s","type":"purchase","item":"i","fields":[{"name":"count","value":1}]}`)
	if len(b.Events) != 1 || b.Events[0].User != "u" || b.Events[0].Item != "i" || b.Events[0].Kind != "purchase" || !b.Events[0].Implicit || b.Events[0].ID != "x1" || b.Events[0].Time.UnixMilli() != 1763892000000 {
		t.Errorf("interaction: %+v", b)
	}
	b = one(`{"event":"interaction","id":"x2",` + at + `,"user":null,"session":"s","type":"click","item":"i"}`)
	if len(b.Events) != 1 || b.Events[0].User != "s" {
		t.Errorf("without a user the session stands in: %+v", b)
	}
	b = one(`{"event":"ranking","id":"r1",` + at + `,"user":"u","items":[{"id":"i3","relevancy":2.0},{"id":"i1"}]}`)
	if len(b.Events) != 2 || b.Events[0].Item != "i3" || b.Events[0].Label != 0 || b.Events[1].Kind != "impression" || b.Events[1].ID != "r1#i1" {
		t.Errorf("ranking: %+v", b)
	}
	b = one(`{"event":"item","id":"81f4",` + at + `,"item":"i1","fields":[{"name":"title","value":"A Harbour"},{"name":"color","value":["white","black"]},{"name":"item_id","value":"other"},7]}`)
	if len(b.Items) != 1 || b.Items[0].ID != "i1" || b.Items[0].Title != "A Harbour" || b.Items[0].Fields["color"] != "white, black" {
		t.Errorf("item: %+v", b)
	}
	b = one(`{"event":"user","id":"81f4",` + at + `,"user":"u","fields":[{"name":"age","value":33}]}`)
	if len(b.Events)+len(b.Items)+len(b.Bad) != 0 {
		t.Errorf("user: %+v", b)
	}
	for value, reason := range map[string]string{
		`{"event":"interaction","id":"x",` + at + `,"item":"i","type":"click"}`:                       ReasonNoUser,
		`{"event":"interaction","id":"x",` + at + `,"user":"u","item":"i","type":"hover"}`:            ReasonKind,
		`{"event":"interaction","id":"x","timestamp":"soon","user":"u","item":"i"}`:                   ReasonTime,
		`{"event":"ranking","id":"x",` + at + `,"user":"u","items":[{"relevancy":1}]}`:                ReasonNoItem,
		`{"event":"hover","user_id":"u","item_id":"i","id":"x"}`:                                      ReasonKind,
		`{"event":"item","id":"x",` + at + `,"item":{"a":1},"fields":[{"name":"title","value":"t"}]}`: ReasonType,
	} {
		if b := one(value); len(b.Bad) != 1 || b.Bad[0].Reason != reason {
			t.Errorf("%s: %+v", value, b)
		}
	}
	d := New(Default())
	var all corastream.Batch
	d.Decode(&all, Record{Pos: corastream.Position{Topic: "corastream.interactions"}, Value: []byte(`{"event":"user","user":"u","id":"1"}`)}, recordTime)
	if d.Counts.Dialects()[DialectMetarank] != 1 {
		t.Errorf("not counted: %v", d.Counts.Dialects())
	}
}

// TestAMappedNameIsReadOnceOnly: an item's id under the name of ours for the event's own must not make its events repeats of each other.
func TestAMappedNameIsReadOnceOnly(t *testing.T) {
	cfg := Default()
	cfg.Fields = Fields{Events: map[string]string{"item_id": "id", "label": "clicked"}}
	record := decodeOne(cfg, "corastream.interactions", "", `{"user_id":"u","id":"i","clicked":0}`)
	var row corastream.Batch
	New(cfg).EventRows([]string{"user_id", "id", "clicked"})(&row, []string{"u", "i", "0"}, record.Events[0].Pos, recordTime)
	for form, b := range map[string]corastream.Batch{"record": record, "row": row} {
		if len(b.Events) != 1 || b.Events[0].Item != "i" || b.Events[0].ID != "" || b.Events[0].Label != 0 || b.Events[0].Kind != "label" {
			t.Errorf("%s: %+v", form, b)
		}
	}
	if !reflect.DeepEqual(record, row) {
		t.Errorf("%+v, %+v", record, row)
	}
}
