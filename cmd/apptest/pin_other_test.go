//go:build app && !linux

package apptest

import "testing"

// pin is possible on Linux alone.
func pin(t *testing.T, _, _ int) { t.Skip("processes are pinned to cores on Linux alone") }
