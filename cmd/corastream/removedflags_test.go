package main

import (
	"io"
	"strings"
	"testing"
)

// TestARemovedFlagIsRefusedWithItsReplacement calls each command of the table with the flag that it lost.
func TestARemovedFlagIsRefusedWithItsReplacement(t *testing.T) {
	for line, instead := range removedFlags {
		args := strings.Fields(line)
		root := newRoot()
		if found, _, err := root.Find(args[:1]); err != nil || found == root { // gpu-check belongs to another binary
			continue
		}
		if found, _, _ := root.Find(args[:1]); found.Flags().Lookup(strings.TrimPrefix(args[1], "--")) != nil {
			t.Errorf("%s is a flag, and in the table of removed ones", line)
		}
		root.SetArgs(append(args, "1"))
		root.SetOut(io.Discard)
		root.SetErr(io.Discard)
		if err := root.Execute(); err == nil || !strings.Contains(err.Error(), instead) {
			t.Errorf("%s: want %q in %v", line, instead, err)
		}
	}
}
