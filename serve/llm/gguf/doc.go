// Package gguf reads and writes GGUF, the file format in which llama.cpp's world ships language models.
//
// It promises: a file that Open accepts is consistent. Every count, length, dimension, product and offset was checked
// against the bytes that are really there, tensors do not overlap, and what Open allocates is bounded by the file's size.
// Dequantised values are bit for bit those of the format's reference implementation.
//
// It refuses, with an error that names the file, the byte, key or tensor, and the fix: version 1, big-endian files,
// nested arrays, duplicate names, more than MaxKeys keys or MaxTensors tensors, tensor types without a decoder here
// (Supported lists those that have one), and split models (a part says so in its key split.count).
//
//	f, err := gguf.Open("model.gguf")
//	if err != nil { ... }
//	defer f.Close()
//	layers, err := f.Uint("llama.block_count")               // an error when the key is missing
//	base, err := f.Float("llama.rope.freq_base", 10000)      // 10000 when it is missing
//	t, err := f.Tensor("blk.0.attn_q.weight")
//	w := make([]float32, t.Elements())                       // [Rows()][RowLen()], row-major
//	err = t.Float32(w)
//
// The file is mapped into memory where the system can do that, so Raw slices and the strings' bytes live as long as the
// File is open. A mapped file must not be cut short in place while it is open (the process would get a bus error);
// replace it by renaming a new file over it.
//
// Source of the format: docs/gguf.md of the ggml project, versions 2 and 3.
package gguf
