//go:build failpoint

package corastream

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// ErrFailpoint is what a failpoint asked to fail returns.
var ErrFailpoint = errors.New("failpoint")

// hit is CORASTREAM_FAILPOINT=NAME@N=ACTION, read once: at the N-th time that the process passes NAME, counted from
// 1, it is killed as by kill -9 (kill), or the place fails with ErrFailpoint (error).
var hit = readFailpoint()

type armed struct {
	name string
	left atomic.Int64
	kill bool
}

func readFailpoint() *armed {
	f := &armed{}
	spec := os.Getenv("CORASTREAM_FAILPOINT")
	if spec == "" {
		return f
	}
	at, action, _ := strings.Cut(spec, "=")
	name, n, _ := strings.Cut(at, "@")
	times, err := strconv.ParseInt(n, 10, 64)
	if err != nil || times < 1 || action != "kill" && action != "error" {
		fmt.Fprintf(os.Stderr, "CORASTREAM_FAILPOINT=%s: write NAME@N=kill or NAME@N=error\n", spec)
		os.Exit(2)
	}
	f.name, f.kill = name, action == "kill"
	f.left.Store(times)
	return f
}

// FailpointLimit is the number that the environment variable CORASTREAM_NAME gives in place of n: with a small limit, a test reaches
// a place that would take much data.
func FailpointLimit(name string, n int) int {
	if small, err := strconv.Atoi(os.Getenv("CORASTREAM_" + name)); err == nil {
		return small
	}
	return n
}

// Failpoint does at the place called name what CORASTREAM_FAILPOINT asks for; elsewhere it does nothing.
func Failpoint(name string) error {
	if name != hit.name || hit.left.Add(-1) != 0 {
		return nil
	}
	fmt.Fprintln(os.Stderr, "failpoint", name)
	if !hit.kill {
		return fmt.Errorf("%w %s", ErrFailpoint, name)
	}
	p, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		panic(err)
	}
	select {} // the signal is on its way
}
