// Package bounded holds a parser to what any input may cost: fuzz targets wrap their call in it.
package bounded

import (
	"fmt"
	"runtime/metrics"
	"testing"
	"time"
)

const (
	times = 4        // bytes a parser may allocate for each byte of input
	fixed = 16 << 20 // and beside that
	spent = time.Second
	stuck = 20 * spent // of it: one that never ends is ended with its stack, which a fuzzing engine takes for this input's failure
)

// Parse runs parse, which reads n bytes of input, and fails the test when it allocated more than 4n bytes + 16 MiB or used
// more than a second of processor time. Processor time, because a machine that does ten things at once is no hang.
func Parse(t testing.TB, n int, parse func()) {
	t.Helper()
	before, began := allocated(), processor()
	watch := time.AfterFunc(3*stuck, func() { // a stopped process, or one that others crowd out, has not used that much
		if took := processor() - began; took > stuck {
			panic(fmt.Sprintf("%d bytes of input: still parsing after %s", n, took))
		}
	})
	defer watch.Stop()
	parse()
	took := processor() - began
	if got, limit := allocated()-before, uint64(times*n+fixed); got > limit {
		t.Errorf("%d bytes of input made the parser allocate %d, above %d", n, got, limit)
	}
	if took > spent {
		t.Errorf("%d bytes of input kept the parser busy for %s", n, took)
	}
}

// allocated is what the process has allocated so far, freed or not; a span's small objects count when it is full.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
