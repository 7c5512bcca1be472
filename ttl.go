package corastream

import "time"

func checkTTL(key string, v time.Duration) error {
	if v != 0 && v < time.Minute {
		return Usagef(key, "write 0 (for ever), or a duration of 1m or more such as 720h", "%s is out of range", v)
	}
	return nil
}

// ago is a moment of the log's own time.
func (p *Pipeline) ago(d time.Duration) time.Time { return p.Clock.now(p.Now()).Add(-d) }

// Old says that what happened at a time no longer counts as a user's history (PipelineConfig.HistoryTTL).
func (p *Pipeline) Old(at time.Time) bool {
	ttl := p.Config.HistoryTTL
	return ttl > 0 && at.Before(p.ago(ttl))
}

// young is the part of a history that counts.
func (p *Pipeline) young(history []Interaction) []Interaction {
	if p.Config.HistoryTTL == 0 {
		return history
	}
	out := make([]Interaction, 0, len(history))
	from := p.ago(p.Config.HistoryTTL)
	for _, h := range history {
		if !h.Time.Before(from) {
			out = append(out, h)
		}
	}
	return out
}

// stale says that nothing was heard of an item for too long (Filter.ItemTTL).
func (p *Pipeline) stale(it *ItemState) bool {
	ttl := p.Config.Filter.ItemTTL
	return ttl > 0 && !it.Touched.IsZero() && it.Touched.Before(p.ago(ttl))
}
