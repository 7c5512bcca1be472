package replay

import (
	"reflect"
	"testing"
)

// TestUnknownKindsAreOneFinding: three kinds are one block with one line to copy, and other findings stay as they are.
func TestUnknownKindsAreOneFinding(t *testing.T) {
	s := NewSurvey("a.csv", "csv")
	s.Reject("kind shared", "a.csv:3", "type \"shared\" is not in kinds", "kafka: {kinds: {shared: {label: 1, weight: 1}}}")
	s.Reject("no_user", "a.csv:4", "no user_id", "give each record a user_id")
	s.Reject("kind cancelled", "a.csv:5", "type \"cancelled\" is not in kinds", "kafka: {kinds: {cancelled: {retract: true, weight: 1}}}")
	s.Reject("kind shared", "a.csv:6", "type \"shared\" is not in kinds", "kafka: {kinds: {shared: {label: 1, weight: 1}}}")
	s.Conclude()
	want := []Finding{
		{
			Level: LevelError, What: "2 kinds are not known, and their events have neither label nor rating: cancelled, shared", Where: "a.csv:5",
			Fix: "kafka: {kinds: {cancelled: {retract: true, weight: 1}, shared: {label: 1, weight: 1}}}", Count: 3,
		},
		{Level: LevelError, What: "no_user: no user_id", Where: "a.csv:4", Fix: "give each record a user_id", Count: 1},
	}
	if !reflect.DeepEqual(s.Findings, want) {
		t.Errorf("%+v", s.Findings)
	}
	one := NewSurvey("b.csv", "csv")
	one.Reject("kind shared", "b.csv:3", "type \"shared\" is not in kinds", "kafka: {kinds: {shared: {label: 1, weight: 1}}}")
	one.Conclude()
	if len(one.Findings) != 1 || one.Findings[0].What != "kind shared: type \"shared\" is not in kinds" {
		t.Errorf("one kind: %+v", one.Findings)
	}
}
