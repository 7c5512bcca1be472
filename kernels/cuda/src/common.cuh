// What every kernel file includes: the few device instructions that C++ has no word for, each with its meaning. Compiled by
// nvcc they are PTX of sm_80; with CORASTREAM_HOST defined, host/shim.h gives each of them in plain C++, so that the same
// kernel source runs on a CPU, block after block (see ../doc.go).
#pragma once
#include <stdint.h>

typedef uint16_t bf16;  // the upper half of a float; arithmetic happens in float

#ifdef CORASTREAM_HOST
#include "../host/shim.h"
#else

#define KERNEL extern "C" __global__
#define REGISTER(name)
#define SHARED_BYTES(name) extern __shared__ __align__(16) unsigned char name[]
#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")

// pack2 rounds two floats to bf16, to the nearest even; lo in the lower half.
static __device__ __forceinline__ uint32_t pack2(float lo, float hi) {
  uint32_t d;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(hi), "f"(lo));
  return d;
}

// ldmatrix4 loads four 8x8 matrices of 16-bit values from shared memory; lane i gives the address of row i%8 of matrix i/8.
// Lane i gets of each matrix row i/4, columns 2*(i%4) and the next.
static __device__ __forceinline__ void ldmatrix4(uint32_t r[4], const bf16* row) {
  uint32_t a = (uint32_t)__cvta_generic_to_shared(row);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(a) : "memory");
}

// ldmatrix4t does so with each matrix transposed.
static __device__ __forceinline__ void ldmatrix4t(uint32_t r[4], const bf16* row) {
  uint32_t a = (uint32_t)__cvta_generic_to_shared(row);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(a) : "memory");
}

// mma adds A[16][16] B[16][8] to C[16][8] on a warp's tensor core. Lane i, with g = i/4 and t = 2*(i%4), holds of A the
// pairs at (g,t) (g+8,t) (g,t+8) (g+8,t+8), of B the pairs at rows (t,t+1) and (t+8,t+9) of column g, of C the values at
// (g,t) (g,t+1) (g+8,t) (g+8,t+1).
static __device__ __forceinline__ void mma(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// copy16 starts a copy of 16 bytes from device to shared memory, or zeroes them where there is nothing to copy.
static __device__ __forceinline__ void copy16(void* to, const void* from, bool there) {
  uint32_t a = (uint32_t)__cvta_generic_to_shared(to);
  int n = there ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(a), "l"(from), "r"(n) : "memory");
}
static __device__ __forceinline__ void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N>
static __device__ __forceinline__ void copy_wait() {  // until at most N groups of copies are still under way
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

static __device__ __forceinline__ float shuffle_xor(float v, int lanes) { return __shfl_xor_sync(0xffffffffu, v, lanes); }
static __device__ __forceinline__ float bits_float(uint32_t v) { return __uint_as_float(v); }
static __device__ __forceinline__ uint32_t float_bits(float v) { return __float_as_uint(v); }
static __device__ __forceinline__ void atomic_add(float* p, float v) { atomicAdd(p, v); }

#endif

static __device__ __forceinline__ float widen(bf16 v) { return bits_float((uint32_t)v << 16); }
static __device__ __forceinline__ float widen_lo(uint32_t v) { return bits_float(v << 16); }
static __device__ __forceinline__ float widen_hi(uint32_t v) { return bits_float(v & 0xffff0000u); }
static __device__ __forceinline__ bf16 narrow(float v) { return (bf16)pack2(v, 0.f); }

// sum_warp adds a value over the 32 lanes, in the order of a butterfly.
static __device__ __forceinline__ float sum_warp(float v) {
  UNROLL for (int m = 16; m > 0; m /= 2) v += shuffle_xor(v, m);
  return v;
}

// gelu is the tanh form: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
static __device__ __forceinline__ float gelu(float v) {
  float z = v * (1.5957691216057308f + 0.07135481282652f * v * v);
  return v / (1.f + expf(-z));
}
