package rollout

import (
	"fmt"
	"time"

	"github.com/corastream/corastream/serve"
)

// Standing implements serve.Rollout. It loads the standing once, so that mode, share and checkpoints belong together.
func (r *Rollout) Standing() serve.RolloutStatus {
	st := r.now.Load()
	out := serve.RolloutStatus{Mode: st.mode, Share: st.share, Since: st.since.UTC(), Active: st.active.status(r.d.Monitor()), Previous: st.previous.status(nil)}
	if out.Candidate = st.candidate.status(r.watch.Load()); st.mode == ModeShadow {
		out.Shadow = r.shadow.figures()
	}
	return out
}

// Gauges are the figures of each arm, on /metrics and the dashboard.
func (r *Rollout) Gauges() (out []serve.Gauge) {
	st := r.now.Load()
	for name, t := range map[string]*Trial{"active": st.active, "canary": st.candidate} {
		if t == nil {
			continue
		}
		arm := map[string]string{"arm": name}
		out = append(out,
			serve.Gauge{Name: "arm_recommendations", Help: "Recommendations published, by arm, since its checkpoint was loaded.", Labels: arm, Value: float64(t.recommendations.Load())},
			serve.Gauge{Name: "arm_followed", Help: "Events on an item of the user's last list, by the arm that made it.", Labels: arm, Value: float64(t.followed.Load())},
			serve.Gauge{Name: "arm_liked", Help: "Those of them that liked it.", Labels: arm, Value: float64(t.liked.Load())})
	}
	return append(out, serve.Gauge{Name: "canary_share", Help: "Share of the users that the canary answers.", Value: st.share})
}

// Fact is the line of the rollout on the dashboard. Of several things that hold it tells the one that an operator acts on next.
func (r *Rollout) Fact() serve.Fact {
	st := r.now.Load()
	switch {
	case st.mode == ModeShadow:
		f := r.shadow.figures()
		return serve.Fact{Name: "rollout", Value: fmt.Sprintf("%s shadows: %d slates, %.0f %% with the same best item", st.candidate.stage.Version()[:12], f.Slates, 100*f.SameFirst)}
	case st.mode == ModeCanary:
		return serve.Fact{Name: "rollout", Value: fmt.Sprintf("%s answers %.3g %% of the users", st.candidate.stage.Version()[:12], 100*st.share)}
	case st.previous != nil:
		return serve.Fact{Name: "rollout", Value: fmt.Sprintf("promoted %s; %s can come back", st.since.UTC().Format(time.DateTime), st.previous.stage.Version()[:12])}
	}
	return serve.Fact{Name: "rollout", Value: "nothing is being tried"}
}
