package main

import (
	"bytes"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestWordsAreTheInstructionsBesideThem has LLVM's assembler, where it is installed, encode the instruction in each comment.
func TestWordsAreTheInstructionsBesideThem(t *testing.T) {
	mc, err := exec.LookPath("llvm-mc")
	if err != nil {
		t.Skip("NOT TESTED: llvm-mc is missing (fix: apt-get install llvm)")
	}
	line := regexp.MustCompile(`(?m)^\tWORD \$0x([0-9a-f]{8}) // (.*)$`)
	words := map[string]uint32{}
	for _, f := range filesARM() {
		for _, m := range line.FindAllStringSubmatch(f.buf.String(), -1) {
			w, err := strconv.ParseUint(m[1], 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			words[m[2]] = uint32(w)
		}
	}
	if len(words) < 1000 {
		t.Fatalf("%d different instructions were found", len(words))
	}
	var asked []string
	for text := range words {
		asked = append(asked, text)
	}
	cmd := exec.Command(mc, "-triple=aarch64", "-mattr=+dotprod,+bf16,+i8mm", "-show-encoding")
	cmd.Stdin = strings.NewReader(strings.Join(asked, "\n") + "\n")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	encoding := regexp.MustCompile(`encoding: \[0x(..),0x(..),0x(..),0x(..)\]`).FindAllStringSubmatch(string(out), -1)
	if len(encoding) != len(asked) {
		t.Fatalf("%d encodings of %d instructions", len(encoding), len(asked))
	}
	for n, e := range encoding {
		w, err := strconv.ParseUint(e[4]+e[3]+e[2]+e[1], 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		if uint32(w) != words[asked[n]] {
			t.Errorf("%s is %08x, not %08x", asked[n], w, words[asked[n]])
		}
	}
}
