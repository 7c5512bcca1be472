// Command gen writes the assembly of package kernels, and the Go declarations that go with it, into the folder given as its
// argument. It is a module of its own, so that the main module neither builds nor lists it.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run . FOLDER")
		os.Exit(2)
	}
	files := []*file{constants(), gemmF32(), packing(), vectors(), nonlinear(), attention(), gemmBF16(), gemmInt8(), gemmK(), gemmBytes(), quantise(), quantiseK(), expand(), expandK(), lists()}
	err := writeStubs(os.Args[1], files)
	for _, f := range files {
		if err == nil {
			err = f.write(os.Args[1])
		}
	}
	if err == nil {
		err = writeARM(os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
