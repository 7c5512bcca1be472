package decode

import (
	"bytes"
	"encoding/json"
)

// unframed takes off Confluent's frame, a byte 0 and the schema's number in 4, where JSON follows it.
func unframed(v []byte) []byte {
	if len(v) > 5 && v[0] == 0 && json.Valid(v[5:]) {
		return v[5:]
	}
	return v
}

// unwrapped takes off what Connect and Debezium put around a row. done says that the record is dealt with.
func (j *job) unwrapped(v []byte, names marks) (inner []byte, done bool) {
	if names&markPayload != 0 {
		if payload, ok := connect(v); ok {
			if isNull(payload) || payload[0] != '{' {
				return nil, j.deleted(v, nil)
			}
			v = payload
		}
	}
	if names&markOp == 0 || !bytes.Contains(v, []byte(`"before"`)) && !bytes.Contains(v, []byte(`"after"`)) {
		return v, false
	}
	var op, before, after []byte
	members(v, func(k, x []byte) {
		switch string(k) {
		case "op":
			op = x
		case "before":
			before = x
		case "after":
			after = x
		}
	})
	switch name, _ := text(op); {
	case name == "d":
		return nil, j.deleted(v, before)
	case (name == "c" || name == "u" || name == "r") && len(after) > 0 && after[0] == '{':
		return after, false
	}
	return v, false
}

// connect opens an object of schema and payload alone.
func connect(v []byte) (payload []byte, ok bool) {
	n, schema := 0, false
	members(v, func(k, x []byte) {
		n++
		switch string(k) {
		case "schema":
			schema = true
		case "payload":
			payload = x
		}
	})
	return payload, n == 2 && schema && payload != nil
}

// deleted: the row is gone. An item is removed; an event is taken back, where the row or the key says whose and of what.
func (j *job) deleted(v, before []byte) bool {
	if j.r.Pos.Topic != j.d.cfg.Topics.Items {
		j.takenBack(v, before)
		return true
	}
	if len(j.r.Key) == 0 && len(before) > 0 && before[0] == '{' {
		j.r.Key = before
	}
	j.tombstone()
	return true
}

// takenBack makes a retraction of a row that was deleted. Its time is the row's own, so that what came after it stays; its id is not the
// row's, which was learnt already.
func (j *job) takenBack(v, row []byte) {
	if len(row) == 0 || row[0] != '{' {
		if row = bytes.TrimSpace(unframed(j.r.Key)); json.Valid(row) && row[0] == '{' {
			if payload, ok := connect(row); ok {
				row = payload
			}
		}
	}
	if len(row) == 0 || row[0] != '{' || !json.Valid(row) {
		j.bury(v, ReasonKind, "a deletion says neither user nor item: let the row before it be sent (Postgres: replica identity full), or send an event of type retract")
		return
	}
	f, kept := newInteraction(), newInteraction()
	members(row, func(k, x []byte) { f.put(j.d, k, x) })
	f.mapped(row, j.d.events)
	for _, at := range []field{fUser, fItem, fTime, fID} {
		kept.raw[at] = f.raw[at]
	}
	kept.raw[fKind] = []byte(`"` + kindRetract + `"`)
	if n := len(j.b.Events); len(kept.raw[fID]) > 0 {
		defer func() {
			if len(j.b.Events) > n && j.b.Events[n].ID != "" {
				j.b.Events[n].ID += "#" + kindRetract
			}
		}()
	}
	j.interaction(v, &kept)
}

// key is the item id that a record's key stands for: itself, a JSON string, or an object that names it, framed or in Connect's envelope or not.
func (j *job) key() (string, *problem) {
	k := bytes.TrimSpace(unframed(j.r.Key))
	if len(k) == 0 || k[0] != '"' && k[0] != '{' && k[0] != '[' {
		id := trim(string(k))
		return id, j.d.checkID("the key", id)
	}
	odd := &problem{ReasonID, "the key names no item: " + brief(k), fContext}
	if !json.Valid(k) || k[0] == '[' {
		return "", odd
	}
	if k[0] == '{' {
		if payload, ok := connect(k); ok {
			k = payload
		}
	}
	if len(k) > 0 && k[0] == '{' {
		n, only := 0, []byte(nil)
		var named []byte
		members(k, func(name, x []byte) {
			n, only = n+1, x
			var buf [32]byte
			switch string(word(&buf, name)) {
			case "itemid":
				named = x
			case "id", "item":
				if named == nil {
					named = x
				}
			}
		})
		for _, m := range j.d.items {
			if x := lookup(k, m.path); m.our == "item_id" && x != nil {
				named = x
			}
		}
		if named == nil && n == 1 {
			named = only
		}
		k = named
	}
	id, bad := j.d.id("the key", k)
	if bad != nil || id == "" {
		return "", odd
	}
	return id, nil
}
