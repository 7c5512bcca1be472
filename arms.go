package corastream

import "context"

// Arm is one of the checkpoints that answer side by side while a new one is tried.
type Arm struct {
	Name      string // "active" or "canary"
	Generator Generator
	Versions  Versions // of the generator and the LLM
}

// Arms says which arm a user falls in: always the same one while a rollout stands as it is. Scored is told what an arm has
// scored, so that a shadow can score it too; it must not block, and keeps nothing of the slices but what it copies.
type Arms interface {
	Arm(user string) Arm
	Scored(arm string, pairs []Pair, prompts []Prompt, logits []Logits)
}

// arm is the user's; without Arms everybody has the same.
func (p *Pipeline) arm(user string) Arm {
	if p.Arms == nil {
		return Arm{Generator: p.Generator, Versions: p.Versions}
	}
	return p.Arms.Arm(user)
}

// scoreSlates fills in the logits of all slates, arm by arm: pairs -> W_A -> frozen LLM. Slates of an arm that fails are ranked by CF.
// It returns an error only when ctx ends.
func (p *Pipeline) scoreSlates(ctx context.Context, slates []slate) error {
	for from := range slates {
		if slates[from].scored {
			continue
		}
		if slates[from].unread { // the list does not wait for the LLM to read the catalogue
			slates[from].scored, slates[from].cf = true, true
			continue
		}
		arm := slates[from].arm
		var pairs []Pair
		var prompts []Prompt
		for i := range slates[from:] {
			if s := &slates[from+i]; s.arm.Name == arm.Name && !s.unread {
				pairs, prompts, s.scored = append(pairs, s.pairs...), append(prompts, s.prompts...), true
			}
		}
		logits, err := ScorePairs(ctx, arm.Generator, p.Scorer, pairs, prompts)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if Failed(err) {
			p.Stats.Degraded.Add(1)
			p.Warn("scoring by CF alone", err)
		}
		if err == nil && p.Arms != nil {
			p.Arms.Scored(arm.Name, pairs, prompts, logits)
		}
		for i := range slates[from:] {
			s := &slates[from+i]
			if s.arm.Name != arm.Name || s.unread {
				continue
			}
			s.cf, s.failed = err != nil, err != nil && arm.Generator != nil && p.Scorer != nil
			if !s.cf {
				s.logits, logits = logits[:len(s.pairs)], logits[len(s.pairs):]
			}
		}
	}
	return nil
}
