package corastream_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/corastream/corastream"

// allowed is the table of docs/develop/architecture.md: folder -> what its non-test code may import beside the standard library
// and zerolog, which any stage may use. The longest matching folder counts.
var allowed = map[string][]string{
	"":                 {},
	"kernels":          {"golang.org/x/sys"},
	"kernels/cuda":     {module + "/kernels", "gorgonia.org/cu"},
	"store":            {module, "github.com/dgraph-io/badger"},
	"ingest":           {module, "github.com/segmentio/kafka-go", "github.com/goccy/go-json"},
	"ingest/decode":    {module, "golang.org/x/text"},
	"ingest/devbroker": {"github.com/twmb/franz-go"},
	"cfstream":         {module, module + "/kernels"},
	"generator":        {module, module + "/kernels", "gorgonia.org/gorgonia", "gorgonia.org/tensor", "go4.org/unsafe/assume-no-moving-gc", "gonum.org/v1/gonum"},
	"serve":            {module, module + "/kernels", "github.com/prometheus/client_golang", "golang.org/x/text", "golang.org/x/sys"},
	"replay":           {module, "gonum.org/v1/gonum"},
	"configs":          {},
	"cmd/bounded":      {},
	"cmd/scalesim":     {module + "/cmd/internal/cluster", module + "/cmd/internal/console", module + "/cmd/internal/scalesim", "github.com/spf13/cobra"},
	"cmd/simulation":   {module, module + "/cfstream", module + "/generator", module + "/kernels", module + "/replay", "gonum.org/v1/gonum"},

	// The commands: flags and printing. Long work is a package of cmd/internal.
	"cmd/corastream": {
		module, module + "/cfstream", module + "/cmd/internal", module + "/configs", module + "/generator", module + "/ingest", module + "/kernels", module + "/replay", module + "/serve",
		module + "/store", "github.com/goccy/go-yaml", "github.com/spf13/cobra",
	},

	// These folders are what the commands share. node has the configuration and wires the stages. All others are handed what they need in a Deps, and
	// know neither node nor its Config; none imports a command.
	"cmd/internal/node": {
		module, module + "/cfstream", module + "/cmd/internal/adapter", module + "/cmd/internal/closers", module + "/cmd/internal/cluster", module + "/cmd/internal/console", module + "/cmd/internal/datafile",
		module + "/cmd/internal/gorse", module + "/cmd/internal/itemcodes", module + "/cmd/internal/listworth", module + "/cmd/internal/rollout", module + "/cmd/internal/tracing", module + "/generator", module + "/ingest", module + "/kernels/cuda", module + "/replay",
		module + "/serve", module + "/store", "github.com/goccy/go-yaml",
	},
	"cmd/internal/closers":   {},
	"cmd/internal/console":   {"github.com/schollz/progressbar/v3", "golang.org/x/term"},
	"cmd/internal/listworth": {module + "/cfstream/mix", module + "/serve"},
	"cmd/internal/itemcodes": {module, module + "/generator", module + "/serve/llm"},
	"cmd/apptest":            {},
	"cmd/internal/testkit":   {},
	"cmd/internal/tracing":   {module, module + "/serve", "go.opentelemetry.io/otel"},
	"cmd/internal/scalesim":  {module},
	"cmd/internal/cluster":   {module, module + "/cfstream", module + "/cmd/internal/closers", module + "/cmd/internal/tracing", module + "/generator", module + "/ingest", module + "/replay", module + "/serve", module + "/store"},
	"cmd/internal/gpucheck":  {module, module + "/cfstream", module + "/cmd/internal/bench", module + "/cmd/internal/training", module + "/generator", module + "/kernels", module + "/serve/llm"},
	"cmd/internal/training":  {module, module + "/cfstream", module + "/generator", module + "/kernels/cuda", module + "/serve/llm"},
	"cmd/internal/bench":     {module, module + "/cfstream", module + "/generator", module + "/ingest", module + "/kernels", module + "/serve/llm", module + "/store"},
	"cmd/internal/rollout":   {module, module + "/generator", module + "/replay", module + "/serve"},
	"cmd/internal/gorse":     {},
	"cmd/internal/datafile":  {module, module + "/ingest", module + "/replay"},
	"cmd/internal/adapter":   {module, module + "/generator", module + "/serve"},
}

// TestImportsFlowOneWay holds the real imports against the table: stages meet only through the root package.
func TestImportsFlowOneWay(t *testing.T) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		folder := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		rule, own := lookup(folder)
		if rule == nil {
			t.Errorf("folder %q is not in the table", folder)
			continue
		}
		for _, imp := range p.Imports {
			if !strings.Contains(strings.SplitN(imp, "/", 2)[0], ".") || imp == "github.com/rs/zerolog" ||
				own != "" && within(imp, module+"/"+own) {
				continue
			}
			if !slices.ContainsFunc(rule, func(r string) bool { return r == "" || imp == r || r != module && within(imp, r) }) {
				t.Errorf("%s imports %s, which the table forbids", folder, imp)
			}
		}
	}
	if seen < len(allowed)-2 {
		t.Errorf("only %d packages seen: is the list complete?", seen)
	}
}

func lookup(folder string) ([]string, string) {
	for f := folder; ; {
		if r, ok := allowed[f]; ok && (f != "" || folder == "") {
			return r, f
		}
		i := strings.LastIndexByte(f, '/')
		if i < 0 {
			return nil, ""
		}
		f = f[:i]
	}
}

func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// The commands stay small: what is longer is logic, and belongs into a package of cmd/internal.
const (
	commandLines     = 4500 // of cmd/corastream, without tests
	commandFileLines = 300  // of one file there
)

// TestTheCommandsAreFlagsAndPrinting counts the lines of cmd/corastream.
func TestTheCommandsAreFlagsAndPrinting(t *testing.T) {
	files, err := filepath.Glob("cmd/corastream/*.go")
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		n := bytes.Count(b, []byte("\n"))
		if total += n; n > commandFileLines {
			t.Errorf("%s has %d lines, over %d", name, n, commandFileLines)
		}
	}
	if total == 0 || total > commandLines {
		t.Errorf("cmd/corastream has %d lines without tests, over %d", total, commandLines)
	}
	t.Logf("%d lines", total)
}

// TestPairsAreScoredInOnePlace: filters, arms, degradation and the check of numbers change in ScorePairs, and nowhere else.
func TestPairsAreScoredInOnePlace(t *testing.T) {
	own := map[string]string{
		"score.go":                          "the one place",
		"cmd/internal/tracing/stages.go":    "a span around the stage",
		"cmd/internal/adapter/adapter.go":   "one pair with the weights that are exported",
		"generator/train/measure.go":        "weights of a generator in training, which is no stage yet",
		"cmd/internal/bench/llm.go":         "times the LLM alone",
		"cmd/internal/bench/list.go":        "the same, for a list",
		"cmd/internal/gpucheck/llm.go":      "the same",
		"cmd/internal/gpucheck/roofline.go": "the same",
		"serve/llm/score.go":                "the implementation",
	}
	call := regexp.MustCompile(`\.Score\(ctx, `)
	seen := 0
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, ".cache") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || !call.Match(b) {
			return err
		}
		seen++
		if own[path] == "" && !strings.HasSuffix(path, "doc.go") {
			t.Errorf("%s runs the LLM on prompts by itself: call corastream.ScorePairs", path)
		}
		return nil
	})
	if err != nil || seen == 0 {
		t.Errorf("%d files seen: %v", seen, err)
	}
}

// TestRealBinariesAreTestedApart: each test file of cmd/apptest has the tag `app`, so that `go test ./...` starts no binary.
func TestRealBinariesAreTestedApart(t *testing.T) {
	files, err := filepath.Glob("cmd/apptest/*_test.go")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if first, _, _ := strings.Cut(string(b), "\n"); first != "//go:build app" && !strings.HasPrefix(first, "//go:build app && ") {
			t.Errorf("%s begins with %q, not with //go:build app", file, first)
		}
	}
}
