package main

import (
	"strings"
	"testing"

	"github.com/corastream/corastream"
)

func TestALineOfTheDemoNamesTheReasonAndTheScore(t *testing.T) {
	r := corastream.Recommendation{Items: []corastream.Scored{{Item: "i12", Title: "Film 12", Why: corastream.Why{Text: "goes with Film 10, which you just looked at"}, Score: .25}}}
	if got := line(r); !strings.HasPrefix(got, "Film 12 (goes with Film 10, which you just looked at, p 0.25)  [p by cf, ") {
		t.Error(got)
	}
}
