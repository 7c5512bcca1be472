package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/rs/zerolog"
	kafka "github.com/segmentio/kafka-go"
)

// JoinMembers is a member of the consumer group that divides the partitions of a topic, which stand
// for a cluster's shards. It returns when ctx ends, and leaves the group first, so that others take
// over at once rather than after its session.
//
// owned lists the shards that the process has or is taking over. The group's leader leaves them
// there as far as the shares stay level (sticky.go). The group's goroutine calls it. assigned is
// told what each generation gives this member, one generation after the other.
//
// Between generations, and while the group can not be reached, nothing is taken away. Two members
// may then believe for a while that they own a shard. That does no harm, because the shard's
// changelog accepts transactions of one of them alone (changelog.go).
func JoinMembers(ctx context.Context, cfg Config, group, topic string, owned func() []int32, assigned func([]int32), log zerolog.Logger) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	a, err := newAccess(cfg)
	if err != nil {
		return err
	}
	g, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: group, Brokers: cfg.Brokers, Dialer: a.dialer(), Topics: []string{topic}, GroupBalancers: []kafka.GroupBalancer{&sticky{owned: owned}},
		HeartbeatInterval: heartbeat, SessionTimeout: sessionTimeout, RebalanceTimeout: sessionTimeout,
		JoinGroupBackoff: backoffMin * 4, Timeout: callTimeout, StartOffset: kafka.FirstOffset,
	})
	if err != nil {
		return fmt.Errorf("consumer group %s: %w", group, err)
	}
	defer g.Close() // leaves
	for fails := 0; ; {
		gen, err := g.Next(ctx)
		switch {
		case err == nil:
			fails = 0
			parts := []int32{}
			for _, p := range gen.Assignments[topic] {
				parts = append(parts, int32(p.ID))
			}
			slices.Sort(parts)
			log.Info().Str("group", group).Int32("generation", gen.ID).Ints32("shards", parts).Msg("shards assigned")
			assigned(parts)
		case ctx.Err() != nil || errors.Is(err, kafka.ErrGroupClosed):
			return context.Cause(ctx)
		case !retryable(err):
			return fmt.Errorf("join group %s: %w", group, err)
		default:
			if fails++; fails == 3 {
				log.Warn().Err(err).Str("group", group).Msg("can not join; trying again")
			}
		}
	}
}
