// Package decode gives every event one meaning. A row of a table, a line of a JSON lines file, a record of a topic and a
// body of POST /v1/events are names and raw values; they go through the same tables of names and the same rules.
//
// It promises: the same names and values make the same event, byte for byte, in every form. It refuses, by name, what it
// does not know: an event is never taken for a like because a field was not understood.
//
//	d := decode.New(decode.Default())
//	d.Decode(&batch, record, record.Time)             // a record, a line or a body
//	row := d.EventRows([]string{"user_id", "item_id"}) // the header of a table
//	row(&batch, []string{"u", "i"}, pos, now)          // one of its rows
package decode
