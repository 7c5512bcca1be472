package testkit

import "strings"

// ATime is the time of an event that does not speak of time, as a member of a JSON object.
const ATime = `"timestamp":"2022-06-24T21:20:11Z"`

// WholeEvent adds to the members of a JSON object, given without braces, a user, an item and a time where they are missing.
func WholeEvent(fields string) string {
	out := fields
	for _, m := range []struct{ name, member string }{{"user_id", `"user_id":"u"`}, {"item", `"item_id":"i"`}, {"timestamp", ATime}} {
		if strings.Contains(fields, `"`+m.name) || m.name == "item" && strings.Contains(fields, `"products"`) {
			continue
		}
		if out != "" {
			out += ","
		}
		out += m.member
	}
	return "{" + out + "}"
}
