package corastream

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// PipelineConfig bounds the pipeline's queues and answers.
type PipelineConfig struct {
	// Candidates is how many candidates the LLM scores for each recommendation. Default 20, range 1..500.
	Candidates int `yaml:"candidates"`
	// Items is how many items a recommendation has. Default 10, range 1 to `pipeline.candidates`.
	Items int `yaml:"items"`
	// RecommendBatch is how many users one scoring batch serves. Default 16, range 1..1024.
	RecommendBatch int `yaml:"-"`
	// ReadBatch is how many catalogue items are read by the LLM at once. Default 32, range 1..1024.
	ReadBatch int `yaml:"-"`
	// Filter says which items may be recommended to anybody; the configuration's section `filters`.
	Filter Filter `yaml:"-"`
	// Recommend names lists and says how their items differ; the configuration's section `recommend`.
	Recommend RecommendConfig `yaml:"-"`
	// Explore makes the ranking stochastic; the configuration's section `explore`.
	Explore ExploreConfig `yaml:"-"`
	// Recommendations says who gets a recommendation on the topic when he clicks. "always": everybody. "active": who asked within
	// ActiveFor, over the topic or HTTP. "on_request": nobody, so a click costs no list and no pass of the LLM. Requests are answered
	// in each case. Default always.
	Recommendations string `yaml:"recommendations"`
	// ActiveFor is how long a user who asked counts as active. Default 30m, range 1s..720h.
	ActiveFor time.Duration `yaml:"active_for"`
	// History is how many liked titles go into a `history` prompt; 0 makes `item` prompts. Default 0, range 0..50.
	History int `yaml:"history"`
	// Seen says which items of a user's history may be listed again. "exclude" lists none of them. "clicked" lists those that were
	// shown and not clicked: items that were clicked, bought, rated or disliked stay out. "include" lists all. "auto" does as
	// "include" where the list model finds that users take items again (purchases, games), and else as "clicked". Default auto.
	Seen string `yaml:"seen"`
}

// DefaultPipelineConfig returns the defaults above.
func DefaultPipelineConfig() PipelineConfig {
	return PipelineConfig{
		Candidates: 20, Items: 10, RecommendBatch: 16, ReadBatch: 32, Filter: DefaultFilter(), Recommend: DefaultRecommend(), Explore: DefaultExplore(), Seen: SeenAuto,
		Recommendations: RecommendAlways, ActiveFor: 30 * time.Minute,
	}
}

// Validate reports all problems at once.
func (c PipelineConfig) Validate() error {
	return errors.Join(
		inRange("candidates", c.Candidates, 1, 500), inRange("items", c.Items, 1, c.Candidates),
		inRange("recommend_batch", c.RecommendBatch, 1, 1024), inRange("read_batch", c.ReadBatch, 1, 1024),
		inRange("history", c.History, 0, 50), CheckSeen("seen", c.Seen), c.checkAudience())
}

func (c PipelineConfig) checkAudience() error {
	switch {
	case !slices.Contains([]string{RecommendAlways, RecommendOnRequest, RecommendActive}, c.Recommendations):
		return Usagef("recommendations", "choose always, active or on_request", "%q is not a choice", c.Recommendations)
	case c.ActiveFor < time.Second || c.ActiveFor > 720*time.Hour:
		return Usagef("active_for", "choose from 1s to 720h", "%v is out of range", c.ActiveFor)
	}
	return nil
}

func inRange(key string, v, lo, hi int) error {
	if v < lo || v > hi {
		return Usagef(key, fmt.Sprintf("choose from %d to %d", lo, hi), "%d is out of range", v)
	}
	return nil
}
