package node

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

// TestAShardHostThatCanNotOpenSaysWhy: the start ends with an error that names what is missing, after what had been opened is closed
// again.
func TestAShardHostThatCanNotOpenSaysWhy(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.LLM.File = filepath.Join(t.TempDir(), "missing.gguf") }, "missing.gguf"},
		{func(c *Config) { c.LLM.File = "off" }, "broker"},
	} {
		cfg := Default()
		cfg.Data, cfg.Kafka.Shards = t.TempDir(), 2
		c.change(&cfg)
		host, end, err := OpenShardHost(cfg, "test", zerolog.Nop(), "m1", false)
		if err == nil || !strings.Contains(err.Error(), c.want) || host != nil || end != nil {
			t.Errorf("want an error about %s: host %v, %v", c.want, host, err)
		}
	}
}
