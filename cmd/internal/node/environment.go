package node

import (
	"os"

	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/serve"
)

// Variables for what should not be written into a file; a value in the file goes first.
const (
	EnvToken    = "CORASTREAM_HTTP_TOKEN"
	EnvPassword = "CORASTREAM_KAFKA_PASSWORD"
)

func secretsFromEnvironment(c *Config) {
	if v := os.Getenv(EnvToken); v != "" && c.HTTP.Token == "" {
		c.HTTP.Token = serve.Secret(v)
	}
	if v := os.Getenv(EnvPassword); v != "" && c.Kafka.SASL.Mechanism != "" && c.Kafka.SASL.Password.Reveal() == "" {
		c.Kafka.SASL.Password = ingest.NewSecret(v)
	}
}
