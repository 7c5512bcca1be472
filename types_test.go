package corastream_test

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

func TestQuantizedContentLiesOnTheGrid(t *testing.T) {
	v := []float32{0, 1, -1, 1.0 / 3, 100, -100, float32(math.NaN()), float32(math.Inf(1)), 2.00012, 1e-9}
	corastream.QuantizeContent(v)
	for i, x := range v {
		steps := float64(x) / corastream.ContentStep
		if steps != math.Trunc(steps) || steps < math.MinInt16 || steps > math.MaxInt16 {
			t.Errorf("value %d is %v: not an int16 multiple of the step", i, x)
		}
	}
	again := append([]float32(nil), v...)
	corastream.QuantizeContent(again)
	if !reflect.DeepEqual(v, again) {
		t.Errorf("quantised twice: %v, once: %v", again, v)
	}
	if v[1] != 1 || v[2] != -1 || v[6] != 0 || v[7] != 0 || math.Abs(float64(v[3])-1.0/3) > corastream.ContentStep/2 {
		t.Errorf("%v", v)
	}
}

func TestLikedAreTheLastPositivesOldestFirst(t *testing.T) {
	u := &corastream.UserState{}
	for i, label := range []float32{1, 0, 1, .5, .49, 1} {
		u.Remember(corastream.Event{Item: string(rune('a' + i)), Label: label}, 5)
	}
	if len(u.History) != 5 || u.History[0].Item != "b" {
		t.Errorf("history %v", u.History)
	}
	for n, want := range map[int]string{0: "", 1: "f", 2: "df", 9: "cdf"} {
		if got := strings.Join(u.Liked(n), ""); got != want {
			t.Errorf("Liked(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestMemoryCloneSharesNothing(t *testing.T) {
	m := corastream.NewMemory()
	u, _ := m.User("u")
	u.Vec = []float32{1}
	it, _ := m.Item("i")
	it.Vec = []float32{2}
	shared, _ := m.Shared()
	shared.Vec = []float32{3}
	c := m.Clone()
	u.Vec[0], it.Vec[0], shared.Vec[0] = 9, 9, 9
	m.Put(corastream.Item{ID: "j"})
	cu, _ := c.User("u")
	ci, _ := c.Item("i")
	cs, _ := c.Shared()
	if cu.Vec[0] != 1 || ci.Vec[0] != 2 || cs.Vec[0] != 3 || c.Items() != 1 {
		t.Errorf("the clone moved with its original: %v %v %v, %d items", cu.Vec, ci.Vec, cs.Vec, c.Items())
	}
}

func TestDenseWeightsAreTheUserAndTheScaledItem(t *testing.T) {
	w := corastream.Weights{User: []float32{1, 2}, Item: []float32{10, 20}, ItemScale: .5}
	got := make([]float32, 2)
	if w.Dense(got); got[0] != 6 || got[1] != 12 {
		t.Errorf("%v", got)
	}
	w.Item = nil
	if w.Dense(got); got[0] != 1 || got[1] != 2 {
		t.Errorf("without an item column: %v", got)
	}
}

func TestHistogramQuantilesAreWithinABucket(t *testing.T) {
	var h corastream.Histogram
	if h.Quantile(.5) != 0 || h.Count() != 0 {
		t.Error("an empty histogram has figures")
	}
	for i := range 1000 {
		h.Observe(time.Duration(i+1) * time.Millisecond)
	}
	h.Observe(-time.Second) // skewed clocks
	for q, want := range map[float64]time.Duration{.5: 500 * time.Millisecond, .99: 990 * time.Millisecond} {
		if got := h.Quantile(q); got < want*99/100 || float64(got) > float64(want)*math.Exp2(1./8)*1.01 {
			t.Errorf("quantile %v is %v, want %v or up to a bucket (9 %%) more", q, got, want)
		}
	}
	if h.Count() != 1001 || h.Sum() != 500500*time.Millisecond {
		t.Errorf("count %d, sum %v", h.Count(), h.Sum())
	}
	below := h.Cumulative([]time.Duration{100 * time.Microsecond, 100 * time.Millisecond, time.Hour})
	if below[1e-4] != 1 || below[3600] != 1001 || below[.1] < 90 || below[.1] > 101 {
		t.Errorf("cumulative %v", below)
	}
	h.Observe(1000 * time.Hour) // longer than the last bucket
	if h.Count() != 1002 {
		t.Error("a very long time was not counted")
	}
	if h.Reset(); h.Count() != 0 || h.Sum() != 0 {
		t.Error("Reset left something")
	}
}

func TestUsageErrorsNamePlaceAndFix(t *testing.T) {
	err := corastream.Usagef("a.csv:3", "write a number", "%q is none", "x")
	var u *corastream.UsageError
	if !errors.As(err, &u) || err.Error() != `a.csv:3: "x" is none (fix: write a number)` {
		t.Errorf("%v", err)
	}
	if got := corastream.Usagef("", "", "what").Error(); got != "what" {
		t.Errorf("%q", got)
	}
}

func TestPipelineConfigReportsAllProblemsAtOnce(t *testing.T) {
	if err := corastream.DefaultPipelineConfig().Validate(); err != nil {
		t.Error(err)
	}
	err := corastream.PipelineConfig{Candidates: 501, Items: 0, RecommendBatch: 0, ReadBatch: 2000, History: -1}.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, key := range []string{"candidates", "items", "recommend_batch", "read_batch", "history"} {
		if !strings.Contains(err.Error(), key+":") {
			t.Errorf("%q is not among the problems: %v", key, err)
		}
	}
	if err := (corastream.PipelineConfig{Candidates: 5, Items: 6, RecommendBatch: 1, ReadBatch: 1}).Validate(); err == nil {
		t.Error("more items than candidates")
	}
}

// TestAnItemsFieldsAreBoundedForEver: however many partial records come, and always the same ones stay.
func TestAnItemsFieldsAreBoundedForEver(t *testing.T) {
	var it corastream.Item
	for i := range 200 {
		change := corastream.Item{ID: "i", Fields: map[string]string{fmt.Sprintf("f%03d", i): "x", "price": fmt.Sprint(i)}, Keep: corastream.Keep{Title: true, Withdrawn: true, Fields: true}}
		it = change.Onto(it)
		if len(it.Fields) > corastream.MaxFields || it.Fields["price"] != fmt.Sprint(i) {
			t.Fatalf("%d: %v", i, it.Fields)
		}
	}
	if _, ok := it.Fields["f000"]; !ok || len(it.Fields) != corastream.MaxFields {
		t.Errorf("%v", it.Fields)
	}
}
