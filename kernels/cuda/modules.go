package cuda

//go:generate python3 ../../.ci/cuda/toolchain.py ptx

// module is the PTX of one source file.
type module struct{ name, text string }
