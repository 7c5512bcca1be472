package main

import (
	"os"

	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/serve"
)

// Variables for what should not be written into a file; a value in the file goes first.
const (
	envToken    = "CORASTREAM_HTTP_TOKEN"
	envPassword = "CORASTREAM_KAFKA_PASSWORD"
)

func secretsFromEnvironment(c *Config) {
	if v := os.Getenv(envToken); v != "" && c.HTTP.Token == "" {
		c.HTTP.Token = serve.Secret(v)
	}
	if v := os.Getenv(envPassword); v != "" && c.Kafka.SASL.Mechanism != "" && c.Kafka.SASL.Password.Reveal() == "" {
		c.Kafka.SASL.Password = ingest.NewSecret(v)
	}
}

//go:generate env CORASTREAM_WRITE=1 go test -count=1 -run TestConfigurationReferenceIsUpToDate .
//go:generate env CORASTREAM_WRITE=1 go test -count=1 -run TestThePageOfEventsIsTheTable .
