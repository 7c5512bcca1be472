//go:build !linux

package bench

import "time"

// cpuTime and peakMemory are measured on Linux alone; 0 says that they are not.
func cpuTime() time.Duration { return 0 }
func peakMemory() int64      { return 0 }
