package node

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/ingest/devbroker"
)

// embed starts the embedded broker where the configuration names no brokers.
func embed(cfg *Config, log zerolog.Logger) (*devbroker.Broker, error) {
	if len(cfg.Kafka.Brokers) > 0 {
		return nil, nil
	}
	_, port, err := net.SplitHostPort(cfg.Broker.Listen)
	if err != nil {
		return nil, corastream.Usagef("broker.listen", "write 127.0.0.1:PORT", "%v", err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, corastream.Usagef("broker.listen", "write 127.0.0.1:PORT", "%q is not a port", port)
	}
	b, err := devbroker.Start(devbroker.Options{
		Dir: filepath.Join(cfg.Data, "broker"), Port: n, SyncWrites: cfg.Broker.SyncWrites, Partitions: cfg.Kafka.Create.Partitions,
	})
	if err != nil {
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	cfg.Kafka.Brokers = []string{b.Addr()}
	cfg.Kafka.Group = "" // one process owns the folder; a killed member would hold its partitions for seconds
	log.Info().Str("address", b.Addr()).Msg("embedded broker")
	return b, nil
}

// Dial finds the brokers: the configured ones, the embedded broker of a running `up` on the data folder, or, where a
// one-shot producer may own the folder, an embedded broker of its own. done closes what was opened.
func Dial(cfg *Config, own bool, log zerolog.Logger) (done func() error, err error) {
	none := func() error { return nil }
	if len(cfg.Kafka.Brokers) > 0 {
		return none, nil
	}
	addr, err := devbroker.Find(filepath.Join(cfg.Data, "broker"))
	if err == nil {
		cfg.Kafka.Brokers = []string{addr}
		return none, nil
	}
	if !errors.Is(err, devbroker.ErrNone) {
		return nil, err
	}
	if !own {
		return nil, corastream.Usagef("", "start `corastream up` on the same --data folder, or name brokers with --bootstrap-server", "no broker: %v", err)
	}
	b, err := embed(cfg, log)
	if err != nil {
		return nil, err
	}
	return b.Close, nil
}
