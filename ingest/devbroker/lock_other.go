//go:build !unix

package devbroker

import (
	"fmt"
	"os"
	"runtime"
)

// tryLock: the lock is flock's, which other systems lack; without one, two processes could write one log.
func tryLock(string) (*os.File, error) {
	return nil, fmt.Errorf("an embedded broker with a data folder is not supported on %s (fix: run Apache Kafka and pass its address)", runtime.GOOS)
}
