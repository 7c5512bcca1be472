// Kernels with one mistake each, for races_gpu_test.go: what the checked build has to find. Blocks of 128 threads over 128 floats, with 512
// bytes of shared memory.
#include "../src/common.cuh"

KERNEL void right(float* v) {
  SHARED_BYTES(bytes);
  float* s = (float*)bytes;
  int t = threadIdx.x;
  if (t % 4 == 0) copy16(s + t, v + t, true);
  copy_commit();
  copy_wait<0>();
  __syncthreads();
  float x = s[127 - t];
  __syncthreads();
  s[t] = x;
  __syncwarp();
  v[t] = s[t ^ 1];
}
REGISTER(right);

KERNEL void wrong_barrier(float* v) {  // another thread's value, without waiting for it
  SHARED_BYTES(bytes);
  float* s = (float*)bytes;
  s[threadIdx.x] = 1.f;
  v[threadIdx.x] = s[127 - threadIdx.x];
}
REGISTER(wrong_barrier);

KERNEL void wrong_reuse(float* v) {  // overwritten while others still read
  SHARED_BYTES(bytes);
  float* s = (float*)bytes;
  s[threadIdx.x] = 1.f;
  __syncthreads();
  float x = s[127 - threadIdx.x];
  s[threadIdx.x] = x;
  v[threadIdx.x] = x;
}
REGISTER(wrong_reuse);

KERNEL void wrong_lanes(float* v) {  // lanes of a warp do not march in step
  SHARED_BYTES(bytes);
  float* s = (float*)bytes;
  s[threadIdx.x] = 1.f;
  v[threadIdx.x] = s[threadIdx.x ^ 1];
}
REGISTER(wrong_lanes);

KERNEL void wrong_copy(float* v) {  // read before its copy has landed
  SHARED_BYTES(bytes);
  float* s = (float*)bytes;
  int t = threadIdx.x;
  if (t % 4 == 0) copy16(s + t, v + t, true);
  copy_commit();
  __syncthreads();
  v[t] = s[t];
  copy_wait<0>();
}
REGISTER(wrong_copy);

KERNEL void wrong_blocks(float* v) { v[threadIdx.x] += 1.f; }  // by every block
REGISTER(wrong_blocks);

KERNEL void wrong_bounds(float* v) {
  if (threadIdx.x == 0) v[0] = v[128];
}
REGISTER(wrong_bounds);

struct alignas(8) Two { float x, y; };
KERNEL void wrong_address(float* v) { ((Two*)(v + 1))[threadIdx.x % 32] = Two{1.f, 2.f}; }
REGISTER(wrong_address);
