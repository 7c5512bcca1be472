package decode

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/corastream/corastream"
)

// TestAnItemsOwnVectorIsReadInEveryForm: a JSON list, the same as text in a table's cell, and the packed text that an export holds are
// one vector; null and an empty list clear it; anything else is refused by name.
func TestAnItemsOwnVectorIsReadInEveryForm(t *testing.T) {
	cfg := Default()
	read := func(value string) corastream.Batch {
		var b corastream.Batch
		New(cfg).Decode(&b, Record{Pos: corastream.Position{Topic: cfg.Topics.Items}, Value: []byte(value), Time: recordTime, Covers: 1}, recordTime)
		return b
	}
	first := read(`{"item_id":"i","embedding":[0.5,-0.25,1e-3]}`)
	if len(first.Items) != 1 {
		t.Fatalf("%+v", first)
	}
	packed := first.Items[0].Fields["embedding"]
	if v := corastream.UnpackEmbedding(packed); len(v) != 3 || v[0] != 127 || v[1] != -64 || v[2] != 0 {
		t.Fatalf("%q is %v", packed, v)
	}
	again, err := json.Marshal(packed)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []string{`"[0.5, -0.25, 0.001]"`, `"0.5 -0.25 0.001"`, `[ "5e-1", -0.25 , 0.001 ]`, string(again)} {
		b := read(`{"item_id":"i","embedding":` + x + `}`)
		if strings.Contains(x, `"5e`) {
			if len(b.Bad) != 1 || !strings.Contains(b.Bad[0].Detail, "element 0 of the embedding is not a number") {
				t.Errorf("%s: %+v", x, b)
			}
			continue
		}
		if len(b.Items) != 1 || b.Items[0].Fields["embedding"] != packed {
			t.Errorf("%s: %+v", x, b)
		}
	}
	for _, x := range []string{`null`, `[]`} {
		if b := read(`{"item_id":"i","embedding":` + x + `}`); len(b.Items) != 1 || len(b.Items[0].Keep.Clear) != 1 {
			t.Errorf("%s does not clear the vector: %+v", x, b)
		}
	}
	for _, x := range []string{`"a lovely picture"`, `[0,0,0]`, `[1,"NaN"]`, `{"a":1}`, `[[1,2],[3]]`, `7e999`, `[` + strings.Repeat("1,", corastream.MaxEmbedding) + `1]`} {
		if b := read(`{"item_id":"i","embedding":` + x + `}`); len(b.Bad) != 1 || !strings.Contains(b.Bad[0].Detail, "embedding") {
			t.Errorf("%.40s was taken: %+v", x, b.Items)
		}
	}
}
