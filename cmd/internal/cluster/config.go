package cluster

import (
	"time"

	"github.com/corastream/corastream"
)

// Config is of `corastream run`: the processes of a cluster (kafka.shards).
type Config struct {
	// ExchangeEvery is how long a shard's news for the others is gathered before they take it in: the longer, the staler an item's vector
	// outside of its own shard, and the less there is to write. Default 200ms, range 1ms..1m.
	ExchangeEvery time.Duration `yaml:"exchange_every"`
	// Standby keeps the folders of shards that run elsewhere close to their changelogs, so that a takeover reads the last moments alone.
	// It costs the disk and the network of all shards in each process that learns. Default false.
	Standby bool `yaml:"standby"`
}

// Default exchanges five times a second, without standbys.
func Default() Config { return Config{ExchangeEvery: 200 * time.Millisecond} }

// Validate reports all problems at once.
func (c Config) Validate() error {
	if c.ExchangeEvery < time.Millisecond || c.ExchangeEvery > time.Minute {
		return corastream.Usagef("exchange_every", "choose from 1ms to 1m", "%s is out of range", c.ExchangeEvery)
	}
	return nil
}
