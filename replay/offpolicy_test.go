package replay

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

// world logs lists of four of eight items by an epsilon policy around a bad order (i7 first), and likes by a chance that depends
// on item and place alone. It returns what the good order (i0 first) truly earns.
func world(users, perUser int, epsilon float64) (lists []List, likes []corastream.Event, whole, first float64) {
	const items, places = 8, 4
	r := rand.New(rand.NewPCG(3, 3))
	chance := func(item, place int) float64 { return 0.5 / float64(1+item) / float64(1+place) }
	for k := range places {
		whole += chance(k, k)
	}
	first = chance(0, 0)
	at := time.Unix(1700000000, 0)
	for u := range users {
		for range perUser {
			at = at.Add(time.Hour)
			left := []int{7, 6, 5, 4, 3, 2, 1, 0}
			l := List{User: fmt.Sprint("u", u), Made: at}
			for place := range places {
				k := 0
				if r.Float64() < epsilon {
					k = r.IntN(len(left))
				}
				p := epsilon / float64(len(left))
				if k == 0 {
					p += 1 - epsilon
				}
				item := left[k]
				left = append(append([]int(nil), left[:k]...), left[k+1:]...)
				l.Items, l.Propensity = append(l.Items, fmt.Sprint("i", item)), append(l.Propensity, p)
				if r.Float64() < chance(item, place) {
					likes = append(likes, corastream.Event{User: l.User, Item: fmt.Sprint("i", item), Label: 1, Time: at.Add(time.Minute)})
				}
			}
			for _, item := range left {
				l.Rest = append(l.Rest, fmt.Sprint("i", item))
			}
			lists = append(lists, l)
		}
	}
	return lists, likes, whole, first
}

// TestOffPolicyValueOfAnotherOrder: from lists that an exploring policy drew around the opposite order, the value of the good order
// is estimated within its own interval.
func TestOffPolicyValueOfAnotherOrder(t *testing.T) {
	lists, likes, whole, first := world(400, 40, 0.9)
	c := Default()
	c.Bootstraps = 300
	e := &evaluation{Config: c, data: Data{Train: likes, Lists: lists}}
	liked, clicks := e.liked(lists, 30*time.Minute)
	if clicks != len(likes) {
		t.Fatalf("%d likes found, %d made", clicks, len(likes))
	}
	var ranked [][]string
	for range lists {
		ranked = append(ranked, []string{"i0", "i1", "i2", "i3", "i4", "i5", "i6", "i7"})
	}
	got := e.value("good", lists, liked, ranked)
	if !(float64(got.IPSCI[0]) < whole && whole < float64(got.IPSCI[1])) || math.Abs(float64(got.SNIPS)-whole) > 0.2 {
		t.Errorf("whole lists: IPS %v [%v, %v], SNIPS %v, truly %v", got.IPS, got.IPSCI[0], got.IPSCI[1], got.SNIPS, whole)
	}
	if f := got.First; !(float64(f.SNIPSCI[0]) < first && first < float64(f.SNIPSCI[1])) || f.Thin || f.ESS < 1000 {
		t.Errorf("first places: %+v, truly %v", f, first)
	}
	// A log with hardly any chance in it carries little, and says so.
	lists, likes, _, _ = world(20, 20, 0.02)
	e.data = Data{Train: likes, Lists: lists}
	liked, _ = e.liked(lists, 30*time.Minute)
	if got := e.value("good", lists, liked, ranked[:len(lists)]); !got.Thin || !got.First.Thin {
		t.Errorf("too few places, unmarked: %+v", got)
	}
}

// TestOffPolicyIsRefusedWhereNothingWasLeftToChance, and lists of both makes are told apart.
func TestOffPolicyIsRefusedWhereNothingWasLeftToChance(t *testing.T) {
	const plain = `{"user_id":"u","items":[{"item_id":"a","rank":1,"propensity":1}],"generated_at":"2026-11-23T10:00:00Z"}`
	const drawn = `{"user_id":"u","policy":"epsilon 0.1","items":[{"item_id":"a","rank":1,"propensity":0.95}],"rest":["b"],"generated_at":"2026-11-23T10:00:00Z"}`
	lists, n, err := ReadLists(file(t, plain+"\n\n"+drawn+"\n"))
	if err != nil || n != 1 || len(lists) != 1 || lists[0].Rest[0] != "b" || lists[0].Propensity[0] != 0.95 {
		t.Errorf("%+v, %d, %v", lists, n, err)
	}
	for _, bad := range []string{"{", strings.Replace(drawn, "0.95", "0", 1), strings.Replace(drawn, "0.95", "1.5", 1), strings.Replace(drawn, `,"propensity":0.95`, "", 1)} {
		if _, _, err := ReadLists(file(t, plain+"\n"+bad+"\n")); err == nil || !strings.Contains(err.Error(), "data.csv:2") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	data := tinyData()
	data.Plain = 3
	c := Default()
	c.Models = []string{Bias, CF}
	if _, err := Run(context.Background(), c, data, Deps{}); err == nil || !strings.Contains(err.Error(), "explore") {
		t.Errorf("plain lists: %v", err)
	}
}

func tinyData() Data {
	ev := func(n int, item string, label float32) corastream.Event {
		return corastream.Event{User: fmt.Sprint("u", n%3), Item: item, Label: label, Weight: 1, Time: time.Unix(1700000000+int64(n)*60, 0)}
	}
	var d Data
	for n := range 40 {
		x := ev(n, fmt.Sprint("i", n*n%7%5), float32((n*5+n/3)%7/4))
		if n < 25 {
			d.Train = append(d.Train, x)
		} else {
			d.Test = append(d.Test, x)
		}
	}
	for i := range 5 {
		d.Items = append(d.Items, corastream.Item{ID: fmt.Sprint("i", i), Title: fmt.Sprint("T", i)})
	}
	return d
}

// TestReplayEstimatesWhatEachModelWouldHaveEarned: through Run, with models that rank.
func TestReplayEstimatesWhatEachModelWouldHaveEarned(t *testing.T) {
	data := tinyData()
	for n := range 12 {
		data.Lists = append(data.Lists, List{
			User: fmt.Sprint("u", n%3), Made: data.Test[n].Time.Add(-time.Second),
			Items: []string{fmt.Sprint("i", n%5), fmt.Sprint("i", (n+1)%5)}, Propensity: []float64{0.5, 0.25}, Rest: []string{fmt.Sprint("i", (n+2)%5)},
		})
	}
	c := Default()
	c.Models, c.Bootstraps, c.Mode = []string{Popularity, Recent}, 20, Prequential
	r, err := Run(context.Background(), c, data, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	if o := r.OffPolicy; o == nil || o.Lists != 12 || o.Explored != 12 || len(o.Policies) != 2 || o.Clicks == 0 || o.Policies[0].Model != Popularity {
		t.Errorf("%+v", r.OffPolicy)
	}
	page, err := r.HTML()
	if err != nil || !strings.Contains(string(page), "would have earned") || !strings.Contains(string(page), "too few") {
		t.Errorf("the report does not show it: %v", err)
	}
}
