package decode

import "bytes"

// Metarank's events carry their sort in "event": an interaction is an event of ours, a ranking an impression of which
// nothing is clicked yet (the click comes as an interaction later), an item a catalogue record wherever it comes, and a
// user's record tells nothing that is used here. See its event schema, https://docs.metarank.ai/reference/event-schema.

// metarank decodes v when it is one of theirs.
func (j *job) metarank(v []byte) bool {
	var sort, user, session, item, items, fields, kind, at, id []byte
	members(v, func(k, x []byte) {
		switch string(k) {
		case "event":
			sort = x
		case "user":
			user = x
		case "session":
			session = x
		case "item":
			item = x
		case "items":
			items = x
		case "fields":
			fields = x
		case "type":
			kind = x
		case "timestamp":
			at = x
		case "id":
			id = x
		}
	})
	name, _ := text(sort)
	if _, own := j.d.cfg.Kinds[name]; own {
		return false // somebody's own kind of that name
	}
	if user == nil || isNull(user) {
		user = session
	}
	defer func(was string) { j.dialect = was }(j.dialect)
	switch {
	case name == "interaction" && item != nil:
		j.dialect = DialectMetarank
		f := newInteraction()
		f.raw[fUser], f.raw[fItem], f.raw[fKind], f.raw[fTime], f.raw[fID] = user, item, kind, at, id
		j.interaction(v, &f)
	case name == "ranking" && items != nil:
		j.dialect = DialectMetarank
		f := newInteraction()
		f.raw[fUser], f.raw[fItems], f.raw[fKind], f.raw[fTime], f.raw[fID] = user, items, []byte(`"impression"`), at, id
		j.interaction(v, &f)
	case name == "item" && item != nil:
		j.dialect = DialectMetarank
		j.itemAs(v, metarankItem(item, fields))
	case name == "user" && item == nil && items == nil && user != nil:
		j.d.Counts.event(DialectMetarank)
	default:
		return false
	}
	return true
}

// metarankItem writes an item event as a catalogue record of ours: its list of names and values as members.
func metarankItem(item, fields []byte) []byte {
	out := append([]byte(`{"item_id":`), item...)
	if len(fields) > 0 && fields[0] == '[' {
		elements(fields, func(e []byte) bool {
			if e[0] != '{' {
				return true
			}
			name, value := lookup(e, []string{"name"}), lookup(e, []string{"value"})
			var buf [32]byte
			if s, ok := text(name); !ok || value == nil || bytes.HasPrefix(word(&buf, []byte(s)), []byte("itemid")) {
				return true
			}
			out = append(append(append(append(out, ','), name...), ':'), value...)
			return true
		})
	}
	return append(out, '}')
}
