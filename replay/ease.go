package replay

import (
	"context"
	"fmt"
	"slices"

	"github.com/corastream/corastream"
	"gonum.org/v1/gonum/mat"
)

// easeItems bounds the items of B: time grows with their cube, and 4,000 take about half a minute on one core.
const easeItems = 4000

// ease is the closed-form linear autoencoder (Steck, 2019): B = I - P diag(P)^-1 with P = (X'X + penalty I)^-1 over the likes
// of train, and a user's score is the sum of B's rows of what they liked. The stream moves the likes of a user, never B. Of more
// than easeItems items, B knows those that train likes most, and the others score 0.
type ease struct {
	nothing
	universe *universe
	penalty  float64
	row      []int32 // of an item in B, -1 for one that B does not know
	b        *mat.Dense
	liked    itemSet
	sum      []float64 // scratch [items of B]
	progress func(step string, done, total int)
}

func newEASE(u *universe, penalty float64, progress func(string, int, int)) *ease {
	return &ease{universe: u, penalty: penalty, liked: itemSet{}, progress: progress}
}

func (k *ease) learn(ev corastream.Event) error {
	if n, ok := k.universe.number[ev.Item]; ok && ev.Positive() {
		k.liked.add(ev.User, n)
	}
	return nil
}

// choose gives the items of B their places, in order of their first like, and says how many they are.
func (k *ease) choose(train []corastream.Event) int {
	k.row = make([]int32, len(k.universe.ids))
	for i := range k.row {
		k.row[i] = -1
	}
	likes := make([]int, len(k.row))
	var order []int32
	for _, ev := range train {
		if i, ok := k.universe.number[ev.Item]; ok && ev.Positive() {
			if likes[i] == 0 {
				order = append(order, i)
			}
			likes[i]++
		}
	}
	if all := len(order); all > easeItems {
		most := slices.Clone(order)
		slices.SortStableFunc(most, func(a, b int32) int { return likes[b] - likes[a] })
		within := map[int32]bool{}
		for _, i := range most[:easeItems] {
			within[i] = true
		}
		order = slices.DeleteFunc(order, func(i int32) bool { return !within[i] })
		k.progress(fmt.Sprintf("learn ease: the %d most liked of %d items, the others score 0", easeItems, all), 1, 1)
	}
	for at, i := range order {
		k.row[i] = int32(at)
	}
	return len(order)
}

func (k *ease) fit(ctx context.Context, train []corastream.Event) error {
	if err := learnAll(ctx, k, train); err != nil {
		return err
	}
	n := k.choose(train)
	if n == 0 {
		return nil
	}
	k.sum = make([]float64, n)
	gram := mat.NewSymDense(n, nil)
	for i := range n {
		gram.SetSym(i, i, k.penalty)
	}
	for _, items := range k.liked { // whole numbers: the order of addition does not show
		for a, i := range items {
			for _, j := range items[:a+1] {
				if p, q := int(k.row[i]), int(k.row[j]); p >= 0 && q >= 0 {
					gram.SetSym(p, q, gram.At(p, q)+1)
				}
			}
		}
	}
	steps := fmt.Sprintf("solve ease for %d items", n)
	k.progress(steps, 0, 2)
	var chol mat.Cholesky
	if !chol.Factorize(gram) {
		return errEASE
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	k.progress(steps, 1, 2)
	inverse := mat.NewSymDense(n, nil)
	if err := chol.InverseTo(inverse); err != nil {
		return errEASE
	}
	k.b = mat.NewDense(n, n, nil)
	for i := range n {
		for j := range n {
			if i != j {
				k.b.Set(i, j, -inverse.At(i, j)/inverse.At(j, j))
			}
		}
	}
	k.progress(steps, 2, 2)
	return ctx.Err()
}

func (k *ease) all(user string, out []float64) error {
	clear(out)
	if k.b == nil {
		return nil
	}
	clear(k.sum)
	for _, i := range k.liked[user] {
		if p := k.row[i]; p >= 0 {
			for j, v := range k.b.RawRowView(int(p)) {
				k.sum[j] += v
			}
		}
	}
	for i, p := range k.row {
		if p >= 0 {
			out[i] = k.sum[p]
		}
	}
	return nil
}

// see is one entry of all.
func (k *ease) see(ev corastream.Event) (sight, error) {
	i, ok := k.universe.number[ev.Item]
	if !ok || k.b == nil || k.row[i] < 0 {
		return sight{}, nil
	}
	score := 0.0
	for _, j := range k.liked[ev.User] {
		if p := k.row[j]; p >= 0 {
			score += k.b.At(int(p), int(k.row[i]))
		}
	}
	return sight{score: score}, nil
}
