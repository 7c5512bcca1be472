// The generator `mlp` (see generator/model.go: Forward). Its whole output is one product of gemm.cu:
//
//   W_A = [s*h, s, lin] [out.weight; out.bias; lin.weight],  h = GELU(x W0 + b0),  s = gain / |raw|
//
// raw = [h, 1] [out.weight; out.bias] is never written: its norm is the quadratic form |raw|^2 = z G z^T of z = [h, 1], with G the
// Gram matrix of those rows, made once for a checkpoint.
#include "common.cuh"

// mlp_rows makes that product's left side: out [rows][ldo] bf16 = [s*h, s, lin, 0...]. x [rows][in], lin [rows][lins] (lins may
// be 0); w0 [in][width], b0 [width], gram [width+1][width+1]. One block of 128 threads for each row; shared memory
// 4*(in + width + 1 + 4) bytes.
KERNEL void mlp_rows(const float* x, const float* lin, const float* w0, const float* b0, const float* gram, float gain, float eps, int in, int width,
                     int lins, bf16* out, int ldo) {
  SHARED_BYTES(bytes);
  float* xs = (float*)bytes;
  float* z = xs + in;
  float* part = z + width + 1;
  int tid = threadIdx.x, row = blockIdx.x, n = width + 1;
  for (int i = tid; i < in; i += 128) xs[i] = x[(size_t)row * in + i];
  __syncthreads();
  for (int j = tid; j < n; j += 128) {
    float v = 1.f;
    if (j < width) {
      v = b0[j];
      for (int i = 0; i < in; i++) v += xs[i] * w0[i * width + j];
      v = gelu(v);
    }
    z[j] = v;
  }
  __syncthreads();
  float square = 0.f;
  for (int j = tid; j < n; j += 128) {
    float v = 0.f;
    for (int i = 0; i < n; i++) v += z[i] * gram[i * n + j];  // G is symmetric
    square += v * z[j];
  }
  square = sum_warp(square);
  if (tid % 32 == 0) part[tid / 32] = square;
  __syncthreads();
  square = part[0] + part[1] + part[2] + part[3];
  float s = gain / sqrtf(square + eps);
  bf16* o = out + (size_t)row * ldo;
  for (int j = tid; j < ldo; j += 128) {
    float v = 0.f;
    if (j < n) v = s * z[j];
    else if (j < n + lins) v = lin[(size_t)row * lins + j - n];
    o[j] = narrow(v);
  }
}
REGISTER(mlp_rows);
