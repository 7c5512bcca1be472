package rollout

import (
	"fmt"
	"math"
	"testing"
)

func TestTheShareIsOfTheUsers(t *testing.T) {
	const n = 20000
	for _, share := range []float64{.01, .05, .5} {
		in := 0
		for i := range n {
			x := lot("digest", fmt.Sprint(i))
			if !(x >= 0 && x < 1) {
				t.Fatalf("lot %v", x)
			}
			if x < share {
				in++
			}
		}
		if d := math.Abs(float64(in)/n - share); d > 4.5*math.Sqrt(share*(1-share)/n) {
			t.Errorf("%v of the users are %v", share, float64(in)/n)
		}
	}
	both := 0
	for i := range n {
		if lot("one", fmt.Sprint(i)) < .5 && lot("two", fmt.Sprint(i)) < .5 {
			both++
		}
	}
	if p := float64(both) / n; math.Abs(p-.25) > .02 {
		t.Errorf("two checkpoints share %.3f of the users, want .25", p)
	}
	for _, share := range []float64{0, -.1, 1, math.NaN()} {
		if checkShare(share) == nil {
			t.Errorf("a share of %v was taken", share)
		}
	}
}
