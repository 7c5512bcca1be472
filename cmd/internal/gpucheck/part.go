//go:build gpu

package gpucheck

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/corastream/corastream/kernels/cuda"
)

// Options are gpu-check's own.
type Options struct {
	Seconds float64       // of each measurement
	Limit   time.Duration // nothing begins later
	Tiny    bool
	Carried string // JSON of a carried
}

// Carried is what a run leaves to the program started anew: the driver gives a process no other device once it has lost one.
type carried struct {
	After       string // the part that was done last
	Bad, Failed int
	Answers     int64
	Began       time.Time
	Figures     map[string]float64
}

// How long a part may take: a kernel that never ends must not take the other parts with it.
const (
	partLimit   = 2 * time.Minute
	parityLimit = 30 * time.Second
)

// Tiny is the argument of gpu-check that asks for small sizes.
const Tiny = "tiny"

// CarriedVariable names the environment variable in which a process leaves a carried to the one that it becomes.
const CarriedVariable = "CORASTREAM_GPU_CARRIED"

// startAnew replaces this process by a fresh one; a variable for tests.
var startAnew = func(args []string, carried string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return syscall.Exec(self, append([]string{self}, args...), append(os.Environ(), CarriedVariable+"="+carried))
}

// tellCPU keeps the last error that the CPU made good; a part with one has not measured the device.
func (c *checker) tellCPU(err error) {
	fmt.Fprintln(os.Stderr, "the CPU took over:", err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.why = err
}

// set keeps a figure that a goal is held to.
func (c *checker) set(name string, v float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.figures[name] = v
}

// part runs one piece of gpu-check. What fails is told and counted, and the others go on; where the device is lost, or does not answer, in
// the program started anew. An error means that nothing can go on here.
func (c *checker) part(ctx context.Context, name string, limit time.Duration, f func() error) error {
	if c.after != "" { // done before
		if name == c.after {
			c.after = ""
		}
		return nil
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if time.Now().After(c.until) {
		return c.failure(name, errors.New("not begun, the time is over (fix: a longer --limit)"))
	}
	before, done := c.count.Count(), make(chan error, 1)
	go func() { done <- f() }()
	var err error
	answers := true
	select {
	case err = <-done:
	case <-time.After(limit):
		err, answers = fmt.Errorf("no end within %v", limit), false
	}
	if n := c.count.Count() - before; err == nil && n > 0 {
		c.mu.Lock()
		err = fmt.Errorf("the CPU gave %d answers in the device's place: %w", n, c.why)
		c.mu.Unlock()
	}
	if err != nil {
		if err := c.failure(name, err); err != nil {
			return err
		}
	}
	if answers && c.d.Lost() == nil {
		return nil
	}
	return c.anew(name)
}

// failure tells what went wrong in a part.
func (c *checker) failure(name string, err error) error {
	c.failed++
	return c.line("error", map[string]any{"part": name, "error": err.Error()})
}

// anew goes on behind a part in the program started anew.
func (c *checker) anew(name string) error {
	if c.dir != "" {
		_ = os.RemoveAll(c.dir) // the program ends here
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	v, err := json.Marshal(carried{name, c.bad, c.failed, c.answers + c.count.Count(), c.began, c.figures})
	if err != nil {
		return err
	}
	args := []string{"gpu-check", "--seconds", fmt.Sprint(c.asked.Seconds), "--limit", c.asked.Limit.String()}
	if c.asked.Tiny {
		args = append(args, Tiny)
	}
	return startAnew(args, string(v))
}

// take goes on where another process ended.
func (c *checker) take(text string) error {
	if text == "" {
		return nil
	}
	var v carried
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return fmt.Errorf(CarriedVariable+": %w", err)
	}
	c.after, c.bad, c.failed, c.answers, c.began = v.After, v.Bad, v.Failed, v.Answers, v.Began
	for name, f := range v.Figures {
		c.figures[name] = f
	}
	return nil
}

func (c *checker) parity(ctx context.Context) error {
	for _, k := range cuda.Cases() {
		if err := c.part(ctx, "parity: "+k.Name, parityLimit, func() error {
			off, err := k.Off(ctx, c.d)
			return c.judge(k.Name, off, k.Bound, err)
		}); err != nil {
			return err
		}
	}
	return nil
}
