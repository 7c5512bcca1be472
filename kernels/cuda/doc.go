// Package cuda runs corastream's kernels on an NVIDIA GPU: tensor-core products with what follows them in a transformer,
// the generator, and (through serve/llm) the frozen LLM with a different low-rank weight for every prompt.
//
// It promises:
//   - The default build has none of it: Open answers ErrNotBuilt and nothing is linked. With the tag gpu (`make cuda`, never the tag
//     cuda, which is gorgonia's own and drags in cuDNN) the binary bin/corastream-gpu is built on any machine, starts on any
//     machine, and finds the driver when it starts (host/loader.c).
//   - Kernels are checked in twice: as CUDA C (src/) and as PTX 7.0 for sm_80 (ptx/), which every driver from CUDA 11.0 on compiles for
//     its own device. Each .ptx carries the SHA-256 of its source; a test holds it to that, `go generate` rebuilds it.
//   - One table (Cases) holds the kernels to package kernels: generic Go, the CPU's assembly and CUDA give the same numbers, within
//     bounds that are written there.
//   - An error is an error of one Do: what was asked of the device has ended when Do returns, and ErrMemory leaves the device usable.
//     After any other error of the device every later Do answers ErrLost at once, so that callers fall back to the CPU (Fallback
//     counts it).
//   - The host waits once for a Do that needs nothing before its end: copies go through pinned memory and are ordered by events (Waits counts).
//
// Three rules of memory have caused bugs:
//   - W_A on the device is found by the address of its host copy (rows.go), so nobody may copy that slice.
//   - Uploads overtake launches. Nothing of a pass may be uploaded to memory that an earlier launch of it still uses (queue.go).
//   - A training step may live on the device (generator/train/device.go). The host's parameters are then those of the last pull, so
//     an evaluation or a state file pulls first.
//
// It refuses: devices below compute capability 8.0, and to guess: shapes that a kernel has no form for are an error.
//
// Without a GPU the whole path still runs (`make test-cuda`): host/shim.h compiles each kernel's source as C++, threads as
// coroutines in order, mma, ldmatrix and cp.async in plain C++; host/libcuda.cpp is a driver around it with streams, events and
// faults on demand. A checked build of it (races_gpu_test.go) holds every access of a kernel to what threads may do beside each other, to its
// buffers and to its alignment. What that can not show is speed, and what a device makes of the PTX: `corastream-gpu gpu-check` is for one.
//
//	d, err := cuda.Open()
//	if err != nil { ... } // errors.Is(err, cuda.ErrNoDevice)
//	defer d.Close()
//	err = d.Do(ctx, func(q *cuda.Queue) error {
//		b, err := q.Alloc(4 * n)
//		...
//		return cuda.Download(q, y, b, 0)
//	})
//
// Files: device.go (Device, Do), queue.go (copies, launches), shapes.go (products), rows.go (W_A that stays), arena.go (an
// optimiser's state), fallback.go, parity.go (the table), roofline.go and count.go (what launches cost, on a device that only counts);
// driver_cu.go is the only one that knows CUDA. src/common.cuh has the device's instructions, src/gemm.cu the products,
// src/generator.cu and src/qformer.cu the generator, src/llm.cu the rest of the LLM, src/train.cu its way
// back, src/optim.cu the generator's way back and AdamW.
package cuda
