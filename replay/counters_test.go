package replay

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/gonum/mat"

	"github.com/corastream/corastream"
)

func likesOf(seed uint64, users, items, rows int) (Data, *universe) {
	rng := rand.New(rand.NewPCG(seed, 2))
	var d Data
	for i := range items {
		d.Items = append(d.Items, corastream.Item{ID: fmt.Sprint("i", i)})
	}
	for n := range rows {
		d.Train = append(d.Train, corastream.Event{
			User: fmt.Sprint("u", rng.IntN(users)), Item: fmt.Sprint("i", rng.IntN(items)), Label: float32(rng.IntN(3) % 2), Weight: 1,
			Time: time.Unix(int64(n)*3600, 0),
		})
	}
	return d, universeOf(d)
}

// matrix is X [users, items], 1 for a like.
func matrix(d Data, users int) *mat.Dense {
	x := mat.NewDense(users, len(d.Items), nil)
	for _, ev := range d.Train {
		var u, i int
		fmt.Sscanf(ev.User+" "+ev.Item, "u%d i%d", &u, &i)
		if ev.Positive() {
			x.Set(u, i, 1)
		}
	}
	return x
}

func scoresOf(t *testing.T, k contender, user string, n int) []float64 {
	t.Helper()
	out := make([]float64, n)
	if err := k.all(user, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestEASEIsTheMinimum: B has a zero diagonal, and off it the gradient of |X-XB|^2 + penalty |B|^2 is zero: 2(X'XB - X'X + penalty B).
func TestEASEIsTheMinimum(t *testing.T) {
	const users, items, penalty = 30, 12, 5.0
	d, u := likesOf(1, users, items, 300)
	k := newEASE(u, penalty, Deps{}.progress)
	if err := k.fit(context.Background(), d.Train); err != nil {
		t.Fatal(err)
	}
	x := matrix(d, users)
	var gram, b, grad mat.Dense
	gram.Mul(x.T(), x)
	b.CloneFrom(mat.NewDense(items, items, nil))
	for i := range items {
		for j := range items {
			b.Set(i, j, k.b.At(int(k.row[i]), int(k.row[j])))
		}
	}
	grad.Mul(&gram, &b)
	grad.Sub(&grad, &gram)
	for i := range items {
		for j := range items {
			if i == j {
				near(t, "diagonal of B", b.At(i, i), 0, 0)
				continue
			}
			near(t, "gradient", grad.At(i, j)+penalty*b.At(i, j), 0, 1e-9)
		}
	}
	var want mat.Dense
	want.Mul(x, &b)
	for user := range users {
		for i, got := range scoresOf(t, k, fmt.Sprint("u", user), items) {
			near(t, "score", got, want.At(user, i), 1e-9)
		}
	}
	// The stream moves what a user liked, and through B the scores; a new user starts from nothing.
	if s := scoresOf(t, k, "new", items); s[3] != 0 {
		t.Errorf("a new user: %v", s)
	}
	if err := k.learn(corastream.Event{User: "new", Item: "i2", Label: 1}); err != nil {
		t.Fatal(err)
	}
	near(t, "score after a like", scoresOf(t, k, "new", items)[3], b.At(2, 3), 1e-12)
}

// TestItemKNNIsTheFormula holds the incremental counts against the matrix product they stand for.
func TestItemKNNIsTheFormula(t *testing.T) {
	const users, items, shrink = 25, 15, 3.0
	d, u := likesOf(2, users, items, 250)
	k := newItemKNN(u, shrink)
	if err := k.fit(context.Background(), d.Train); err != nil {
		t.Fatal(err)
	}
	x := matrix(d, users)
	var n mat.Dense
	n.Mul(x.T(), x)
	for user := range users {
		for i, got := range scoresOf(t, k, fmt.Sprint("u", user), items) {
			want := 0.0
			for j := range items {
				if i != j && x.At(user, j) == 1 {
					want += n.At(i, j) / (math.Sqrt(n.At(i, i)*n.At(j, j)) + shrink)
				}
			}
			near(t, "score", got, want, 1e-12)
		}
	}
}

// TestRecentHalvesWithTheHalfLife: the difference of two logs is that of the decayed counts, whenever it is asked.
func TestRecentHalvesWithTheHalfLife(t *testing.T) {
	_, u := likesOf(3, 2, 3, 10)
	k := newPopularity(u, Recent, 24*time.Hour)
	at := func(item string, day float64, label float32) {
		ev := corastream.Event{User: "u0", Item: item, Label: label, Time: time.Unix(1e9, 0).Add(time.Duration(day * float64(24*time.Hour)))}
		if err := k.learn(ev); err != nil {
			t.Fatal(err)
		}
	}
	at("i0", 0, 1)
	at("i0", 1, 1) // 2^-2 + 2^-1 by day 2
	at("i1", 2, 1) // 1
	at("i2", 2, 0) // a dislike counts nothing
	s := scoresOf(t, k, "u0", 3)
	near(t, "log ratio", s[1]-s[0], math.Log(1/0.75), 1e-9)
	if !math.IsInf(s[2], -1) {
		t.Errorf("never liked: %v", s[2])
	}
	all := newPopularity(u, Popularity, 0)
	for range 3 {
		if err := all.learn(corastream.Event{Item: "i0", Label: 1, Time: time.Unix(1e9, 0)}); err != nil {
			t.Fatal(err)
		}
	}
	near(t, "log of three likes", scoresOf(t, all, "", 3)[0], math.Log(3), 1e-12)
}

// TestSeeIsOneEntryOfAll: a row is scored without scoring all items.
func TestSeeIsOneEntryOfAll(t *testing.T) {
	d, u := likesOf(4, 20, 30, 200)
	for name, k := range map[string]contender{EASE: newEASE(u, 5, Deps{}.progress), ItemKNN: newItemKNN(u, 3), Popularity: newPopularity(u, Popularity, 0)} {
		if err := k.fit(context.Background(), d.Train); err != nil {
			t.Fatal(err)
		}
		all := scoresOf(t, k, "u3", len(u.ids))
		for i, id := range u.ids {
			s, err := k.see(corastream.Event{User: "u3", Item: id})
			if err != nil {
				t.Fatal(err)
			}
			if s.score != all[i] {
				near(t, name+" "+id, s.score, all[i], 1e-12)
			}
		}
	}
}

// TestEASEKnowsTheMostLikedOfALargeCatalogue: beyond easeItems the least liked score 0, and progress says so.
func TestEASEKnowsTheMostLikedOfALargeCatalogue(t *testing.T) {
	var d Data
	for i := range easeItems + 1 {
		for range 1 + min(i, 1) { // the first item has one like, all others two
			d.Train = append(d.Train, corastream.Event{User: fmt.Sprint("u", i), Item: fmt.Sprint("i", i), Label: 1})
		}
	}
	said := ""
	k := newEASE(universeOf(d), 1, func(step string, _, _ int) { said = step })
	if n := k.choose(d.Train); n != easeItems || k.row[0] != -1 || k.row[1] != 0 || k.row[easeItems] != easeItems-1 {
		t.Errorf("%d items, places %v, %v, %v", n, k.row[0], k.row[1], k.row[easeItems])
	}
	if want := "the 4000 most liked of 4001 items"; !strings.Contains(said, want) {
		t.Errorf("said %q", said)
	}
}
