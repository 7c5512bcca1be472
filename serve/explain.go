package serve

import (
	"context"
	"math"

	"github.com/corastream/corastream"
)

// explain adds the parts of the CF score to each item, computed from the present state.
func (s *Server) explain(ctx context.Context, out *RecommendResponse) error {
	if s.deps.View == nil || s.deps.Predictor == nil {
		return missing("a state to look into", "run the serve stage beside the store, or leave explain out")
	}
	return s.deps.View.View(ctx, func(st corastream.State) error {
		u, err := st.User(out.UserID)
		if err != nil {
			return err
		}
		liked, err := s.vectorsOf(st, u.Liked(50))
		if err != nil {
			return err
		}
		for i := range out.Items {
			pair, err := corastream.PairOf(st, s.deps.Predictor, out.UserID, out.Items[i].Item)
			if err != nil {
				return err
			}
			split := &Split{Mean: pair.Mu, User: pair.User.Bias, Item: pair.Item.Bias}
			split.Match = pair.Logit() - split.Mean - split.User - split.Item
			for _, l := range liked {
				if c := cosine(l.vec, pair.Item.Vec); c > 0 && (split.Because == nil || c > split.Because.Cosine) {
					split.Because = &NearRef{ItemID: l.id, Title: l.title, Cosine: c}
				}
			}
			if out.Items[i].Why == nil {
				out.Items[i].Why = &Why{}
			}
			out.Items[i].Why.Split = split
		}
		return nil
	})
}

type itemVector struct {
	id, title string
	vec       []float32
}

func (s *Server) vectorsOf(st corastream.State, ids []string) ([]itemVector, error) {
	var out []itemVector
	for _, id := range ids {
		it, err := st.Item(id)
		if err != nil {
			return nil, err
		}
		e, err := s.deps.Predictor.ItemVector(st, it)
		if err != nil {
			return nil, err
		}
		out = append(out, itemVector{id, it.Title, e.Vec})
	}
	return out, nil
}

// cosine returns the cosine of two vectors over the coordinates that both have. It is 0 when one
// of them is zero.
func cosine(a, b []float32) float32 {
	var ab, aa, bb float64
	for i := range min(len(a), len(b)) {
		ab, aa, bb = ab+float64(a[i])*float64(b[i]), aa+float64(a[i])*float64(a[i]), bb+float64(b[i])*float64(b[i])
	}
	if aa == 0 || bb == 0 {
		return 0
	}
	return float32(ab / math.Sqrt(aa*bb))
}
