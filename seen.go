package corastream

// The values of PipelineConfig.Seen and Request.Seen.
const (
	SeenAuto    = "auto"
	SeenExclude = "exclude"
	SeenInclude = "include"
	SeenClicked = "clicked"
)

// CheckSeen refuses what is none of the values above; "" is the default.
func CheckSeen(key, v string) error {
	switch v {
	case "", SeenAuto, SeenExclude, SeenInclude, SeenClicked:
		return nil
	}
	return Usagef(key, "choose auto, exclude, include or clicked", "%q is unknown", v)
}

// seenRule is one of the constants but auto.
type seenRule string

// seen is the rule for a request that asks for `asked`.
func (p *Pipeline) seen(asked string) seenRule {
	if asked == "" {
		asked = p.Config.Seen
	}
	if asked != "" && asked != SeenAuto {
		return seenRule(asked)
	}
	if r, ok := p.Ranker.(Repeater); ok && r.Repeats() {
		return SeenInclude
	}
	return SeenClicked
}

// leaves says whether the rule keeps the item of an interaction out of a list. An item stays out when any interaction with it
// does.
func (r seenRule) leaves(h Interaction) bool {
	return r == SeenExclude || r == SeenClicked && !h.Shown
}

// skipped are the items of a history that the rule keeps out.
func (r seenRule) skipped(history []Interaction) map[string]bool {
	out := make(map[string]bool, len(history))
	for _, h := range history {
		if r.leaves(h) {
			out[h.Item] = true
		}
	}
	return out
}

// allows says whether the rule lets an item of the history be listed.
func (r seenRule) allows(history []Interaction) bool {
	for _, h := range history {
		if !r.leaves(h) {
			return true
		}
	}
	return r == SeenInclude
}

// Unseen gives the items of a history that SeenAuto keeps out of a list where repeats are listed or not, and what Query.Repeats
// is then. So a monitor judges the lists that are served.
func Unseen(history []Interaction, repeats bool) (skip map[string]bool, again bool) {
	rule := seenRule(SeenClicked)
	if repeats {
		rule = SeenInclude
	}
	return rule.skipped(history), rule.allows(history)
}
