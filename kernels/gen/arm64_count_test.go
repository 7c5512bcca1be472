package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// counted are the loops whose instructions docs/measured/performance.md counts: the first loop of a function's body for so many rows.
var counted = []struct {
	name, function, rows, product string
	each                          int     // multiply-adds of one product instruction
	most                          float64 // share of other instructions that is allowed, of those up to the scaling
}{
	{"float32, 12 x 8, FMLA", "gemmF32x8NEON", "rows12_", "fmla", 4, .3},
	{"float32, 6 x 16, FMLA", "gemmF32x16NEON", "rows6_", "fmla", 4, .3},
	{"float32, 3 x 32, FMLA", "gemmF32x32NEON", "rows3_", "fmla", 4, .3},
	{"bfloat16, 12 x 8, BFMMLA", "gemmBF16x8MM", "rows6_", "bfmmla", 16, .3},
	{"int8, 6 x 8, SDOT", "gemmInt8x8DOT", "rows6_", "sdot", 16, .3},
	{"int8, 6 x 8, SMMLA", "gemmInt8x8MM", "rows3_", "smmla", 32, .3},
	{"Q4_1 and Q4_K, 6 x 8, SDOT", "gemmQ4x8DOT", "rows6_", "sdot", 16, .3},
	{"Q4_1 and Q4_K, 6 x 8, SMMLA", "gemmQ4x8MM", "rows3_", "smmla", 32, .3},
	{"Q6_K, 6 x 8, SDOT", "gemmQ6x8DOT", "rows6_", "sdot", 16, .3},
	{"Q6_K, 6 x 8, SMMLA", "gemmQ6x8MM", "rows3_", "smmla", 32, .3},
}

const countsBegin, countsEnd = "<!-- arm64 instructions: written by kernels/gen -->\n", "<!-- end of arm64 instructions -->"

// TestInstructionsAreCountedInTheDocs reads the loops and holds the table in the documents to them. CORASTREAM_COUNT=write
// writes the table.
func TestInstructionsAreCountedInTheDocs(t *testing.T) {
	table := "| loop | products in a turn | loads | scaling | the loop itself | multiply-adds an instruction: products and their loads; all | others of all |\n|---|---|---|---|---|---|---|\n"
	text := map[string]string{}
	for _, f := range filesARM() {
		for _, part := range strings.Split(f.buf.String(), "\nTEXT ·")[1:] {
			text[part[:strings.Index(part, "(")]] = part
		}
	}
	for _, c := range counted {
		n := countLoop(t, text[c.function], c.rows, c.product)
		macs := float64(n.products * c.each)
		all := n.products + n.loads + n.scaling + n.loop
		if others := float64(n.loads+n.loop) / float64(n.products+n.loads+n.loop); others > c.most {
			t.Errorf("%s: %.0f %% of the instructions up to the scaling are no products", c.name, 100*others)
		}
		table += fmt.Sprintf("| %s | %d | %d | %d | %d | %.1f; %.1f | %.0f %% |\n", c.name, n.products, n.loads, n.scaling, n.loop,
			macs/float64(n.products+n.loads), macs/float64(all), 100*float64(all-n.products)/float64(all))
	}
	t.Log("\n" + table)
	const path = "../../docs/measured/performance.md"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), countsBegin)
	old, after, ok2 := strings.Cut(rest, countsEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", path)
	}
	if old == table {
		return
	}
	if os.Getenv("CORASTREAM_COUNT") != "write" {
		t.Fatalf("%s has another table (fix: CORASTREAM_COUNT=write go test -C kernels/gen .)", path)
	}
	if err := os.WriteFile(path, []byte(before+countsBegin+table+countsEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

type counts struct{ products, loads, scaling, loop int }

// countLoop counts the instructions of the first loop after the label that begins with rows. Loads are those of A and B, by R2 and R3;
// the loop itself is the count and the branch; the rest is zeroing sums and scaling them.
func countLoop(t *testing.T, text, rows, product string) (n counts) {
	t.Helper()
	at := regexp.MustCompile(`(?m)^` + rows + `\d+:\n`).FindStringIndex(text)
	if at == nil {
		t.Fatalf("no label %s", rows)
	}
	text = text[at[1]:]
	top := regexp.MustCompile(`(?m)^(loop\d+):\n`).FindStringSubmatchIndex(text)
	label := text[top[2]:top[3]]
	body, _, ok := strings.Cut(text[top[1]:], "\tBGE "+label+"\n")
	if !ok {
		t.Fatalf("loop %s has no end", label)
	}
	for _, line := range strings.Split(strings.TrimSpace(body), "\n") {
		op, operands, _ := strings.Cut(strings.TrimSpace(line), " ")
		if op == "WORD" {
			_, instruction, _ := strings.Cut(operands, "// ")
			op, operands, _ = strings.Cut(instruction, " ")
		}
		switch {
		case op == "//" || op == "PCALIGN":
		case op == product:
			n.products++
		case strings.Contains(operands, "(R2)") || strings.Contains(operands, "(R3)"):
			n.loads++
		case op == "SUBS":
			n.loop++
		default:
			n.scaling++
		}
	}
	n.loop++ // the branch
	return n
}
