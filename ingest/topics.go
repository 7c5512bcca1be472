package ingest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	kafka "github.com/segmentio/kafka-go"

	"github.com/corastream/corastream"
)

// TopicSpec is how a topic of ours is made.
type TopicSpec struct {
	Name       string
	Partitions int
	Configs    map[string]string
}

// Specs lists the topics in use with their partitions and policies. A broker that stamps records itself gives one clock
// to freshness; the embedded one leaves the producers' times.
func (c Config) Specs() []TopicSpec {
	keep := strconv.FormatInt(c.Create.Retention.Milliseconds(), 10)
	stamped := func(more ...string) map[string]string {
		m := map[string]string{"cleanup.policy": "delete", "retention.ms": keep, "message.timestamp.type": "LogAppendTime"}
		for i := 0; i+1 < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	specs := []TopicSpec{
		{c.Topics.Interactions, max(c.Create.Partitions, c.Shards), stamped()},
		{c.Topics.Items, 1, map[string]string{"cleanup.policy": "compact"}},
		{c.Topics.Requests, c.Create.Partitions, stamped()},
		{c.Topics.Recommendations, c.Create.Partitions, stamped()},
		{c.Topics.DeadLetters, 1, stamped("max.message.bytes", strconv.FormatInt(letterBytes(c), 10))},
	}
	if c.Shards > 0 {
		batch := strconv.Itoa(ownBatchBytes)
		specs = append(specs,
			// The lag lets a reader that is near the end see every record, and so whose they are. The embedded broker does not wait.
			TopicSpec{c.Topics.Embeddings, c.Shards, map[string]string{
				"cleanup.policy": "compact", "min.compaction.lag.ms": "3600000",
				"delete.retention.ms": keep, "max.message.bytes": batch,
			}},
			TopicSpec{c.Topics.Gradients, c.Shards, stamped("max.message.bytes", batch)})
	}
	return specs
}

// EnsureTopics makes the topics that are missing and leaves the others alone. Without the right to make topics it
// succeeds when all are there.
func EnsureTopics(ctx context.Context, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	a, err := newAccess(cfg)
	if err != nil {
		return err
	}
	missing, err := a.missing(ctx, cfg.Specs())
	if err != nil {
		return err
	}
	if len(missing) == 0 {
		return a.fitsShards(ctx, cfg)
	}
	tr := a.transport()
	defer tr.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(cfg.Brokers...), Transport: tr, Timeout: callTimeout}
	for _, s := range missing {
		if err := create(ctx, client, s, cfg.Create.Replication); err != nil {
			return fmt.Errorf("make topic %s: %w", s.Name, err)
		}
	}
	// A new topic's partitions have no leader for a moment.
	for fails := 1; ; fails++ {
		missing, err := a.missing(ctx, cfg.Specs())
		if err == nil && len(missing) == 0 {
			return a.fitsShards(ctx, cfg)
		}
		if fails > maxFails {
			return errors.Join(fmt.Errorf("the new topics do not come up: %v", missing), err)
		}
		if err := pause(ctx, fails); err != nil {
			return err
		}
	}
}

// missing lists the topics that can not be read yet.
func (a *access) missing(ctx context.Context, specs []TopicSpec) ([]TopicSpec, error) {
	var names []string
	for _, s := range specs {
		names = append(names, s.Name)
	}
	cl, err := a.describe(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("reach the brokers: %w", Explain(err))
	}
	var out []TopicSpec
	for _, s := range specs {
		t := cl.topics[s.Name]
		switch {
		case t.err == nil && len(t.leaders) > 0 && allLed(cl, t):
		case t.err == nil || errors.Is(t.err, kafka.UnknownTopicOrPartition) || retryable(t.err):
			out = append(out, s)
		default:
			return nil, fmt.Errorf("topic %s: %w", s.Name, t.err)
		}
	}
	return out, nil
}

// fitsShards holds a cluster's topics against the number of shards: a user's or item's shard is a remainder by that number.
func (a *access) fitsShards(ctx context.Context, c Config) error {
	if c.Shards == 0 {
		return nil
	}
	t := c.Topics
	cl, err := a.describe(ctx, t.Interactions, t.Embeddings, t.Gradients)
	if err != nil {
		return fmt.Errorf("reach the brokers: %w", Explain(err))
	}
	for _, topic := range []string{t.Embeddings, t.Gradients} {
		if n := len(cl.topics[topic].leaders); n != c.Shards {
			return corastream.Usagef("shards", fmt.Sprintf("set shards: %d, or give the cluster new topics and learn anew", n),
				"topic %s has %d partitions, not %d: the number of shards is fixed at birth", topic, n, c.Shards)
		}
	}
	if n := len(cl.topics[t.Interactions].leaders); n < c.Shards {
		return corastream.Usagef("shards", fmt.Sprintf("add partitions before the first event is learnt, or set shards to %d or less", n),
			"topic %s has %d partitions, fewer than the %d shards that share them", t.Interactions, n, c.Shards)
	}
	policy, err := a.topicConfig(ctx, "cleanup.policy", t.Embeddings)
	if err == nil && policy[t.Embeddings] != "" && policy[t.Embeddings] != "compact" {
		return corastream.Usagef("topics.embeddings", "set its cleanup.policy to compact, or name another topic",
			"topic %s has cleanup.policy=%s: it would forget the state", t.Embeddings, policy[t.Embeddings])
	}
	return cause(ctx, nil)
}

func allLed(cl brokersView, t topicInfo) bool {
	for _, node := range t.leaders {
		if _, ok := cl.brokers[node]; !ok {
			return false
		}
	}
	return true
}

// create makes one topic. A managed cluster may forbid some policies: then it is made with the cluster's own.
func create(ctx context.Context, client *kafka.Client, s TopicSpec, replication int) error {
	configs := s.Configs
	for fails := 1; ; fails++ {
		req := kafka.TopicConfig{Topic: s.Name, NumPartitions: s.Partitions, ReplicationFactor: replication}
		for k, v := range configs {
			req.ConfigEntries = append(req.ConfigEntries, kafka.ConfigEntry{ConfigName: k, ConfigValue: v})
		}
		res, err := client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{req}})
		if err == nil {
			err = res.Errors[s.Name]
		}
		switch {
		case err == nil, errors.Is(err, kafka.TopicAlreadyExists):
			return nil
		case (errors.Is(err, kafka.InvalidConfiguration) || errors.Is(err, kafka.PolicyViolation)) && configs["message.timestamp.type"] != "":
			configs = without(configs, "message.timestamp.type")
		case !retryable(err) || fails > 10:
			return err
		default:
			if err := pause(ctx, fails); err != nil {
				return err
			}
		}
	}
}

func without(m map[string]string, key string) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		if k != key {
			out[k] = v
		}
	}
	return out
}

// AppendClock says whose clock a topic's record times are: "broker", "producer" or "" when it may not be asked.
func AppendClock(ctx context.Context, cfg Config, topic string) (string, error) {
	a, err := newAccess(cfg)
	if err != nil {
		return "", err
	}
	v, err := a.topicConfig(ctx, "message.timestamp.type", topic)
	if err != nil {
		return "", err
	}
	switch v[topic] {
	case "LogAppendTime":
		return "broker", nil
	case "":
		return "", nil
	}
	return "producer", nil
}

// topicConfig asks for one setting of several topics; those that it may not see are absent.
func (a *access) topicConfig(ctx context.Context, setting string, topics ...string) (map[string]string, error) {
	tr := a.transport()
	defer tr.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(a.brokers...), Transport: tr, Timeout: callTimeout}
	req := &kafka.DescribeConfigsRequest{}
	for _, t := range topics {
		req.Resources = append(req.Resources, kafka.DescribeConfigRequestResource{
			ResourceType: kafka.ResourceTypeTopic, ResourceName: t, ConfigNames: []string{setting},
		})
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second+callTimeout)
	defer cancel()
	res, err := client.DescribeConfigs(ctx, req)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, r := range res.Resources {
		for _, e := range r.ConfigEntries {
			if r.Error == nil && e.ConfigName == setting {
				out[r.ResourceName] = e.ConfigValue
			}
		}
	}
	return out, nil
}
