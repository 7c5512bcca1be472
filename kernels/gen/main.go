// Command gen writes the assembly of package kernels into the folder given as its argument. It is a module of its own, so
// that the main module neither builds nor lists it.
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
	for _, f := range []*file{gemmF32(), packing()} {
		if err := f.write(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
