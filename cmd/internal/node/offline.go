package node

import (
	"context"
	"time"

	"github.com/rs/zerolog"
)

// OpenOffline wires the stages over a data folder that nobody holds, without any broker.
func OpenOffline(cfg Config, version string, log zerolog.Logger) (*Node, error) {
	e := &Node{Config: cfg, Version: version, Log: log, began: time.Now()}
	err := e.openState(context.Background())
	if err == nil {
		err = e.openModels()
	}
	if err == nil {
		err = e.wire(context.Background())
	}
	if err != nil {
		_ = e.Close()
		return nil, err
	}
	return e, nil
}
