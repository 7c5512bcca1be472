package replay

import (
	"context"

	"github.com/corastream/corastream"
	"gonum.org/v1/gonum/mat"
)

// ease is the closed-form linear autoencoder (Steck, 2019): B = I - P diag(P)^-1 with P = (X'X + penalty I)^-1 over the likes
// of train, and a user's score is the sum of B's rows of what they liked. The stream moves the likes of a user, never B.
type ease struct {
	nothing
	universe *universe
	penalty  float64
	place    []int32 // of an item in B, -1 for one that nobody in train liked
	b        *mat.Dense
	liked    itemSet
	scratch  []float64
}

func newEASE(u *universe, penalty float64) (*ease, error) {
	if err := tooMany(EASE, len(u.ids)); err != nil {
		return nil, err
	}
	return &ease{universe: u, penalty: penalty, liked: itemSet{}, scratch: make([]float64, len(u.ids))}, nil
}

func (k *ease) learn(ev corastream.Event) error {
	if n, ok := k.universe.number[ev.Item]; ok && ev.Positive() {
		k.liked.add(ev.User, n)
	}
	return nil
}

func (k *ease) fit(ctx context.Context, train []corastream.Event) error {
	if err := learnAll(ctx, k, train); err != nil {
		return err
	}
	k.place = make([]int32, len(k.universe.ids))
	for i := range k.place {
		k.place[i] = -1
	}
	n := int32(0)
	for _, ev := range train { // in order of first like
		if i, ok := k.universe.number[ev.Item]; ok && ev.Positive() && k.place[i] < 0 {
			k.place[i] = n
			n++
		}
	}
	if n == 0 {
		return nil
	}
	gram := mat.NewSymDense(int(n), nil)
	for i := range int(n) {
		gram.SetSym(i, i, k.penalty)
	}
	for _, items := range k.liked { // whole numbers: the order of addition does not show
		for a, i := range items {
			for _, j := range items[:a+1] {
				p, q := int(k.place[i]), int(k.place[j])
				gram.SetSym(p, q, gram.At(p, q)+1)
			}
		}
	}
	var chol mat.Cholesky
	if !chol.Factorize(gram) {
		return errEASE
	}
	inverse := mat.NewSymDense(int(n), nil)
	if err := chol.InverseTo(inverse); err != nil {
		return errEASE
	}
	k.b = mat.NewDense(int(n), int(n), nil)
	for i := range int(n) {
		for j := range int(n) {
			if i != j {
				k.b.Set(i, j, -inverse.At(i, j)/inverse.At(j, j))
			}
		}
	}
	return ctx.Err()
}

func (k *ease) all(user string, out []float64) error {
	clear(out)
	if k.b == nil {
		return nil
	}
	_, n := k.b.Dims()
	sum := make([]float64, n)
	for _, i := range k.liked[user] {
		if p := k.place[i]; p >= 0 {
			for j, v := range k.b.RawRowView(int(p)) {
				sum[j] += v
			}
		}
	}
	for i, p := range k.place {
		if p >= 0 {
			out[i] = sum[p]
		}
	}
	return nil
}

func (k *ease) see(ev corastream.Event) (sight, error) {
	return scoreOf(k, k.universe, ev, k.scratch)
}
