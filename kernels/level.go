package kernels

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// level is an instruction set that kernels may use; a higher one includes all lower ones. Those of arm64 are in level_arm64.go.
type level int32

const (
	generic    level = iota // portable Go
	avx2                    // AVX2, FMA and F16C
	avx512                  // AVX-512 F, BW, DQ, VL and VNNI
	avx512bf16              // the same with AVX512_BF16
)

// levelNames are those of the processor that this is built for.
var levelNames = namesFor(runtime.GOARCH)

func namesFor(arch string) []string {
	if arch == "arm64" {
		return []string{"generic", "neon", "dotprod", "i8mmbf16"}
	}
	return []string{"generic", "avx2", "avx512", "avx512bf16"}
}

// levelVariable forces a level at start.
const levelVariable = "CORASTREAM_KERNELS"

var (
	current  level // in use; set at start, and by SetLevel
	best     level // the highest that this CPU and build have
	levelErr error
)

func init() {
	best = detect()
	current = best
	if name := os.Getenv(levelVariable); name != "" {
		if err := SetLevel(name); err != nil {
			current = generic
			levelErr = fmt.Errorf("environment variable %s: %w", levelVariable, err)
		}
	}
}

// Level names the instruction set in use: "generic", on amd64 "avx2", "avx512" or "avx512bf16", on arm64 "neon", "dotprod" or
// "i8mmbf16".
func Level() string { return levelNames[current] }

// Levels names the levels that this CPU and this build have, lowest first.
func Levels() []string { return append([]string(nil), levelNames[:best+1]...) }

// LevelError says why CORASTREAM_KERNELS could not be obeyed (generic kernels are in use then), or is nil.
func LevelError() error { return levelErr }

// SetLevel chooses a level by name, for tests and benchmarks: it must not run beside any kernel. Packed matrices stay
// valid across levels.
func SetLevel(name string) error {
	for i, n := range levelNames {
		if n != name {
			continue
		}
		if level(i) > best {
			return fmt.Errorf("kernel level %q is not available in this build on this CPU (fix: use one of %s)", name, strings.Join(Levels(), ", "))
		}
		current = level(i)
		return nil
	}
	return fmt.Errorf("unknown kernel level %q (fix: use one of %s)", name, strings.Join(Levels(), ", "))
}

// need panics when a slice is shorter than the sizes given with it ask for: assembly would read or write past its end.
func need(function, name string, have, want int) {
	if have < want {
		panic(fmt.Sprintf("kernels.%s: %s holds %d values, %d are needed", function, name, have, want))
	}
}

// span is the length that a matrix of rows x cols with the given row stride takes up.
func span(rows, cols, stride int) int {
	if rows <= 0 || cols <= 0 {
		return 0
	}
	return (rows-1)*stride + cols
}
