package serve

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/corastream/corastream"
)

const userPartNote = "these are the user's weights A_u alone: the column of an item's bias is left out"

func (s *Server) chat(w http.ResponseWriter, r *http.Request) error {
	if s.deps.Speaker == nil {
		return missing("a language model", "give the serve stage a GGUF file")
	}
	var q ChatRequest
	if err := s.decode(w, r, &q); err != nil {
		return err
	}
	d, err := s.dialogue(&q)
	if err != nil {
		return err
	}
	user, model, err := s.speaksAs(&q)
	if err != nil {
		return err
	}
	if d.Seed, err = seedOf(q.Seed); err != nil {
		return err
	}
	// The body has been read. Its deadline must not end the answer, but a client that disconnects
	// still does.
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Time{}) //nolint:errcheck // a recorder in a test has none
	if err := s.talk.enter(r.Context()); err != nil {
		return err
	}
	defer s.talk.leave()
	whose, err := s.merge(r.Context(), user, &d)
	if err != nil {
		return err
	}
	a := &answering{s: s, w: w, control: control, q: &q, whose: whose, head: ChatResponse{
		ID: "chatcmpl-" + rand.Text(), Created: s.deps.Now().Unix(), Model: model, SystemFingerprint: s.fingerprint(whose),
	}}
	reply, err := s.deps.Speaker.Speak(r.Context(), d, a.piece)
	s.metrics.tokens.Add(float64(reply.Tokens))
	if err != nil {
		s.metrics.answers.WithLabelValues(whose.Weights, "failed").Inc()
		return a.failed(chatFailure(err))
	}
	s.metrics.answers.WithLabelValues(whose.Weights, reply.Finish).Inc()
	return a.end(reply)
}

// chatFailure turns an error of the LLM into an answer. A conversation that the model can not read
// is the request's fault, and the error names the field. A model without a template is not.
func chatFailure(err error) error {
	var u *corastream.UsageError
	if errors.As(err, &u) && !strings.HasPrefix(u.Where, "messages") && u.Where != "logit_bias" {
		return &Failure{Status: http.StatusNotImplemented, Code: "not_available", Message: "this model can not hold conversations: " + u.What, Fix: u.Fix, cause: err}
	}
	return fmt.Errorf("speak: %w", err)
}

// speaksAs returns the user whose weights answer ("": none, the frozen LLM alone) and the model's
// name in the answer.
func (s *Server) speaksAs(q *ChatRequest) (user, model string, err error) {
	var all []Model
	if s.deps.Models != nil {
		all = s.deps.Models()
	}
	if q.User != "" {
		if err := s.checkID("user", q.User); err != nil {
			return "", "", err
		}
	}
	if q.Model == "" {
		if q.User == "" && len(all) > 0 {
			return "", all[0].ID, nil
		}
		return q.User, s.modelName(), nil
	}
	for _, m := range all {
		switch {
		case m.ID == q.Model && m.Parent == "":
			return "", m.ID, nil
		case m.ID == q.Model && q.User == "":
			return "", "", &Failure{
				Status: http.StatusBadRequest, Code: "missing_field", Field: "user", Message: "this model answers with a user's weights, and no user is named",
				Fix: fmt.Sprintf("send user, or model %q with the user's id; model %q is the LLM without weights", all[0].ID+":USER", all[0].ID),
			}
		case m.ID == q.Model:
			return q.User, m.ID, nil
		}
	}
	for _, m := range all {
		if id, ok := strings.CutPrefix(q.Model, m.ID+":"); ok {
			if err := s.checkID("model", id); err != nil {
				return "", "", err
			}
			if q.User != "" && q.User != id {
				return "", "", badField("user", "leave it out, or name one user in both", "model names user %.80q, and user is %.80q", id, q.User)
			}
			return id, q.Model, nil
		}
	}
	if err := s.checkModel(q.Model); err != nil {
		return "", "", err
	}
	return q.User, q.Model, nil
}

// merge puts the user's weights into the dialogue.
func (s *Server) merge(ctx context.Context, user string, d *corastream.Dialogue) (*ChatWeights, error) {
	if user == "" {
		return &ChatWeights{Weights: "base", Versions: s.llmVersion()}, nil
	}
	arm := s.arm(user)
	if s.deps.View == nil || s.deps.Predictor == nil || arm.Generator == nil {
		return nil, fmt.Errorf("weights of a user: %w", corastream.ErrDegraded)
	}
	out := &ChatWeights{Weights: "user", UserID: user, Arm: arm.Name, Checkpoint: arm.Versions.Generator, Note: userPartNote}
	versions := arm.Versions
	pair := make([]corastream.Pair, 1)
	if err := s.deps.View.View(ctx, func(st corastream.State) error {
		u, err := st.User(user)
		if err != nil {
			return err
		}
		versions.User = u.Version
		if out.Cold = len(u.History) == 0; out.Cold {
			out.Note = "nothing is known of this user yet: these are the weights of anybody; " + userPartNote
		}
		pair[0], err = corastream.PairOf(st, s.deps.Predictor, user, "")
		return err
	}); err != nil {
		return nil, err
	}
	if g, ok := arm.Generator.(interface{ PerPair() bool }); ok && g.PerPair() {
		return nil, notHere("model", "ask for the model without weights", "with this checkpoint every pair of user and item has weights of its own: there is no user's part")
	}
	weights, projection, err := corastream.MakeWeights(ctx, arm.Generator, pair)
	if err != nil {
		return nil, err
	}
	mine := weights[0]
	mine.Item, mine.ItemScale = nil, 0
	d.Weights, d.Projection, out.Versions = &mine, projection, &versions
	return out, nil
}

// arm returns the user's share of a rollout. Without a rollout it is the checkpoint in use.
func (s *Server) arm(user string) corastream.Arm {
	if s.deps.Arms != nil {
		return s.deps.Arms.Arm(user)
	}
	a := corastream.Arm{Generator: s.deps.Generator}
	if s.deps.Versions != nil {
		a.Versions = s.deps.Versions()
	}
	return a
}

func (s *Server) llmVersion() *corastream.Versions {
	v := corastream.Versions{}
	if s.deps.Versions != nil {
		v.LLM = s.deps.Versions().LLM
	}
	return &v
}

func (s *Server) fingerprint(c *ChatWeights) string {
	if c.Versions == nil {
		return "fp"
	}
	short := func(digest string) string { return digest[:min(12, len(digest))] }
	name := "fp_" + short(c.Versions.LLM)
	if c.Checkpoint != "" {
		name += "_" + short(c.Checkpoint)
	}
	return name
}

func seedOf(given *whole) (uint64, error) {
	if given != nil {
		return uint64(*given), nil
	}
	var b [8]byte
	_, err := rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:]), err
}
