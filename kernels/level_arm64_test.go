//go:build !purego

package kernels

import (
	"os"
	"testing"
)

// TestTheLevelIsThatOfTheProcessor holds detection to what .ci/arm64.sh knows of the processor that it lets qemu-user play.
func TestTheLevelIsThatOfTheProcessor(t *testing.T) {
	want := os.Getenv("CORASTREAM_EXPECT_LEVEL")
	if want == "" {
		t.Skip("CORASTREAM_EXPECT_LEVEL is not set (.ci/arm64.sh sets it)")
	}
	if levelNames[best] != want {
		t.Errorf("level %s, want %s", levelNames[best], want)
	}
}
