package ingest

import (
	"context"
	"fmt"
	"strings"

	"github.com/corastream/corastream"
)

// Keys under which Hooks.Meta keeps where a store's offsets belong.
const (
	metaCluster = "kafka.cluster"
	metaTopic   = "kafka.topic."
)

// vet compares the cluster's and the topic's id with those that the store's offsets belong to. A topic that was deleted
// and made again under its name has the same offsets for other events.
func (s *Source) vet(c brokersView, topic string) error {
	if s.hooks.Meta == nil || s.hooks.SetMeta == nil {
		return nil
	}
	if err := s.vetOne(metaCluster, c.id, "the cluster"); err != nil {
		return err
	}
	return s.vetOne(metaTopic+topic, c.topics[topic].id, "topic "+topic)
}

// vetOne compares one id with the stored one, and stores it where there is none yet. metaMu keeps
// two partitions of one topic from storing at once. It is held across the call into the store, so a
// hook must not call back into the source.
func (s *Source) vetOne(key, id, what string) error {
	if id == "" {
		return nil // the broker is too old to say
	}
	s.metaMu.Lock()
	defer s.metaMu.Unlock()
	was, err := s.hooks.Meta(key)
	if err != nil {
		return fmt.Errorf("identity of %s: %w", what, err)
	}
	if was == "" {
		if err := s.hooks.SetMeta(key, id); err != nil {
			return fmt.Errorf("identity of %s: %w", what, err)
		}
		return nil
	}
	if was != id {
		return fmt.Errorf("%s has the id %s, but this state was learnt from %s: its offsets mean other events here (fix: point brokers at the old cluster, or learn anew in a new --data folder): %w",
			what, id, was, corastream.ErrGap)
	}
	return nil
}

// compacted asks which topics are compacted: there, missing offsets are normal. Without the right to ask, the items and embeddings
// topics are taken for such. It also finds out whether the cluster can be reached and the topics are there.
func compacted(ctx context.Context, a *access, names Topics, topics []string) (map[string]bool, error) {
	cl, err := a.describe(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("reach the brokers: %w", Explain(err))
	}
	for _, t := range topics {
		if err := cl.topics[t].err; err != nil {
			return nil, fmt.Errorf("topic %s: %w (fix: create it, or let this process do it with EnsureTopics)", t, err)
		}
	}
	out := map[string]bool{}
	for _, t := range topics {
		out[t] = t == names.Items || t == names.Embeddings
	}
	policies, err := a.topicConfig(ctx, "cleanup.policy", topics...)
	if err != nil {
		return out, cause(ctx, nil)
	}
	for t, policy := range policies {
		out[t] = strings.Contains(policy, "compact")
	}
	return out, nil
}
