package adapter

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/serve"
	"github.com/corastream/corastream/serve/llm"
)

// Deps hands weights to the HTTP server and to `corastream export`. It implements serve.Adapters.
type Deps struct {
	// Active returns the checkpoint in use, which a rollout may change between two calls. A nil func means that there is none.
	Active    func() Checkpoint
	Store     corastream.Store
	Predictor corastream.Predictor
	LLM       *llm.Model
	History   int    // titles of liked items in a prompt
	Base      string // how the configuration calls the base model
}

// Checkpoint makes weights, and says whether every pair has its own.
type Checkpoint interface {
	corastream.Generator
	PerPair() bool
}

// Note is corastream.json: what the adapter is, and, for a pair, what a consumer must find.
type Note struct {
	User string `json:"user_id"`
	Item string `json:"item_id,omitempty"`
	// Part is "pair", or "user": A_u without the item's column, so scores lack b_i A_b.
	Part     string              `json:"part"`
	Adapt    corastream.Adapt    `json:"adapt"`
	Rank     int                 `json:"rank"`
	Alpha    float32             `json:"alpha"`
	Layers   []int               `json:"layers"`
	Targets  []corastream.Target `json:"targets"`
	Versions corastream.Versions `json:"versions"`
	Activate []int32             `json:"invocation_tokens,omitempty"`
	Check    *reference          `json:"check,omitempty"` // of a pair
	Notes    []string            `json:"notes"`
}

// reference is the pair's prompt and this program's score of it.
type reference struct {
	Prompt  string  `json:"prompt"`
	Tokens  []int32 `json:"tokens"`
	YesID   int32   `json:"yes_id"`
	NoID    int32   `json:"no_id"`
	Yes     float32 `json:"yes"`
	No      float32 `json:"no"`
	P       float32 `json:"p"`
	Numbers string  `json:"numerics"` // of this program: f32 is the reference
}

// Adapter makes the files of an export, by name.
func (a Deps) Adapter(ctx context.Context, ask serve.AdapterRequest) (map[string][]byte, error) {
	if a.Active == nil {
		return nil, fmt.Errorf("%w: weights need a language model and a checkpoint (llm.file, checkpoint)", corastream.ErrDegraded)
	}
	active := a.Active()
	if ask.Item == "" && active.PerPair() {
		return nil, corastream.Usagef("item", "name an item", "with this checkpoint (inputs: paper) every pair has weights of its own: there is no user's part")
	}
	pair, prompt, err := a.pairOf(ctx, ask)
	if err != nil {
		return nil, err
	}
	weights, projection, err := corastream.MakeWeights(ctx, active, []corastream.Pair{pair})
	if err != nil {
		return nil, err
	}
	w := weights[0]
	reading, err := a.LLM.Render(prompt)
	if err != nil {
		return nil, err
	}
	n := Note{
		User: ask.User, Item: ask.Item, Part: "pair", Adapt: projection.Adapt, Rank: projection.Rank, Alpha: projection.Alpha,
		Versions: corastream.Versions{User: w.UserVersion, Generator: w.Generator, LLM: a.LLM.Digest()},
	}
	if ask.Item == "" {
		n.Part, w.Item, w.ItemScale = "user", nil, 0
	} else {
		logits, err := a.LLM.Score(ctx, []corastream.Prompt{prompt}, []corastream.Weights{w}, projection)
		if err != nil {
			return nil, err
		}
		n.Check = &reference{
			Prompt: reading.Text, Tokens: reading.Tokens, YesID: reading.Yes, NoID: reading.No,
			Yes: logits[0].Yes, No: logits[0].No, P: logits[0].P(), Numbers: a.LLM.Info().Numerics,
		}
	}
	n.Activate = invocation(projection.Adapt, n.Part, reading)
	if ask.Base == "" {
		ask.Base = a.Base
	}
	made := &generator.Adapter{Weights: w, Projection: projection, Base: ask.Base, Invocation: n.Activate}
	return n.files(made, a.LLM.Info(), ask.GGUF)
}

// pairOf reads the pair and its prompt as a recommendation would; without an item, the user's side alone.
func (a Deps) pairOf(ctx context.Context, ask serve.AdapterRequest) (pair corastream.Pair, prompt corastream.Prompt, err error) {
	err = a.Store.View(ctx, func(s corastream.State) error {
		u, err := s.User(ask.User)
		if err != nil {
			return err
		}
		if u.Version == 0 && u.Count == 0 && len(u.History) == 0 {
			return fmt.Errorf("%w: no event of user %q has been learnt", corastream.ErrUnknown, ask.User)
		}
		it, err := s.Item(ask.Item)
		if err != nil {
			return err
		}
		if ask.Item != "" && it.Version == 0 && it.Title == "" && it.Count == 0 {
			return fmt.Errorf("%w: item %q is neither in the catalogue nor in any event", corastream.ErrUnknown, ask.Item)
		}
		if pair, err = corastream.PairOf(s, a.Predictor, ask.User, ask.Item); err != nil {
			return err
		}
		prompt = corastream.Prompt{ItemID: ask.Item, Title: it.Title, Fields: it.Fields}
		prompt.History, err = corastream.LikedTitles(s, u, a.History)
		return err
	})
	return pair, prompt, err
}

// invocation are the tokens from which on an activated LoRA has to act; nil: on all.
func invocation(adapt corastream.Adapt, part string, r llm.RenderedPrompt) []int32 {
	switch {
	case adapt == corastream.AdaptLast:
		return r.Tokens[len(r.Tokens)-1:]
	case adapt == corastream.AdaptSuffix && part == "pair" && r.Title < len(r.Tokens):
		return r.Tokens[r.Title:]
	case adapt == corastream.AdaptSuffix && len(r.Lead) > 0:
		return r.Lead
	}
	return nil
}

// files fills the note and lays everything out.
func (n *Note) files(a *generator.Adapter, info llm.Info, withGGUF bool) (map[string][]byte, error) {
	files, err := a.PEFT()
	if err != nil {
		return nil, err
	}
	for _, s := range a.Slots() {
		if !slices.Contains(n.Layers, s.Layer) {
			n.Layers = append(n.Layers, s.Layer)
		}
		if !slices.Contains(n.Targets, s.Target) {
			n.Targets = append(n.Targets, s.Target)
		}
	}
	if withGGUF {
		if files[GGUFName], err = ggufOf(a, info); err != nil {
			return nil, err
		}
	}
	n.Notes = n.caveats(withGGUF)
	b, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return nil, err
	}
	files[NoteName] = append(b, '\n')
	files[exportText] = n.text(a.Base)
	return files, nil
}
