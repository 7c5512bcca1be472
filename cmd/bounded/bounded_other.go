//go:build !unix

package bounded

import "time"

var started = time.Now()

// processor is the wall clock where the system does not tell processor time.
func processor() time.Duration { return time.Since(started) }
