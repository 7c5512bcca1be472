package ingest

import (
	"context"
	"fmt"

	kafka "github.com/segmentio/kafka-go"
)

// PartitionOf is the partition of the interactions topic in which a user's events lie, when their producers key them by user as Java's and
// librdkafka's clients and ours do (murmur2).
func PartitionOf(ctx context.Context, cfg Config, user string) (int32, error) {
	a, err := newAccess(cfg)
	if err != nil {
		return 0, err
	}
	cl, err := a.describe(ctx, cfg.Topics.Interactions)
	if err != nil {
		return 0, fmt.Errorf("reach the brokers: %w", Explain(err))
	}
	t := cl.topics[cfg.Topics.Interactions]
	if t.err != nil {
		return 0, fmt.Errorf("topic %s: %w", cfg.Topics.Interactions, t.err)
	}
	all := make([]int, len(t.leaders))
	for i := range all {
		all[i] = i
	}
	if len(all) == 0 {
		return 0, fmt.Errorf("topic %s has no partitions: %w", cfg.Topics.Interactions, kafka.LeaderNotAvailable)
	}
	return int32(kafka.Murmur2Balancer{}.Balance(kafka.Message{Key: []byte(user)}, all...)), nil
}
