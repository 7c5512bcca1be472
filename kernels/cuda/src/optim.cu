// A training step beside the frozen LLM's: the generator `mlp` there and back in float32 (see generator/train: graph.go), and AdamW over
// all that is trained. Every sum has one order: equal inputs give equal bytes.
#include "common.cuh"

// learn_hidden makes the MLP's hidden layer: a = x w0 + b0 and h = GELU(a), both [rows][width]. A block of 128 threads for each row; shared
// memory 4*in bytes.
KERNEL void learn_hidden(const float* x, const float* w0, const float* b0, int in, int width, float* a, float* h) {
  SHARED_BYTES(bytes);
  float* xs = (float*)bytes;
  size_t row = blockIdx.x;
  for (int i = threadIdx.x; i < in; i += 128) xs[i] = x[row * in + i];
  __syncthreads();
  for (int j = threadIdx.x; j < width; j += 128) {
    float v = b0[j];
    for (int i = 0; i < in; i++) v += xs[i] * w0[i * width + j];
    a[row * width + j] = v;
    h[row * width + j] = gelu(v);
  }
}
REGISTER(learn_hidden);

// learn_affine makes y [rows][size] = x [rows][k] w [k][size] + b; b may be null. Block (128 columns, 16 rows), a thread for each column.
KERNEL void learn_affine(const float* x, const float* w, const float* b, int rows, int k, int size, float* y) {
  int j = blockIdx.x * 128 + threadIdx.x, r0 = blockIdx.y * 16;
  if (j >= size) return;
  float acc[16];
  UNROLL for (int r = 0; r < 16; r++) acc[r] = b ? b[j] : 0.f;
  for (int i = 0; i < k; i++) {
    float v = w[(size_t)i * size + j];
    UNROLL for (int r = 0; r < 16; r++)
      if (r0 + r < rows) acc[r] += x[(size_t)(r0 + r) * k + i] * v;
  }
  UNROLL for (int r = 0; r < 16; r++)
    if (r0 + r < rows) y[(size_t)(r0 + r) * size + j] = acc[r];
}
REGISTER(learn_affine);

// block_sum adds a value over a block of 128 threads; part has 4 floats of shared memory.
static __device__ __forceinline__ float block_sum(float v, float* part) {
  v = sum_warp(v);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
  __syncthreads();
  return part[0] + part[1] + part[2] + part[3];
}

// learn_unit writes W_A, row where[i] of out in bf16: path + gain * raw / |raw|. inv [rows] keeps 1/|raw|. path and gain (one float) may be
// null. A block of 128 threads for each row; shared memory 16 bytes. size is even.
KERNEL void learn_unit(const float* raw, const float* path, const float* gain, float eps, int size, const int* where, bf16* out, float* inv) {
  SHARED_BYTES(bytes);
  size_t row = blockIdx.x;
  const float* v = raw + row * size;
  float square = 0.f;
  for (int i = threadIdx.x; i < size; i += 128) square += v[i] * v[i];
  float r = 1.f / sqrtf(block_sum(square, (float*)bytes) + eps), s = gain ? gain[0] * r : r;
  if (threadIdx.x == 0) inv[row] = r;
  bf16* to = out + (size_t)where[row] * size;
  for (int i = threadIdx.x * 2; i < size; i += 256) {
    float x = s * v[i], y = s * v[i + 1];
    if (path) { x += path[row * size + i]; y += path[row * size + i + 1]; }
    *(uint32_t*)(to + i) = pack2(x, y);
  }
}
REGISTER(learn_unit);

// learn_unit_back turns raw into its gradient, given d, that of W_A: gain*inv*(d - u (u.d)) with u = raw*inv; dgain [rows] is u.d. A block of
// 128 threads for each row; shared memory 16 bytes.
KERNEL void learn_unit_back(float* raw, const float* d, const float* gain, const float* inv, int size, float* dgain) {
  SHARED_BYTES(bytes);
  size_t row = blockIdx.x;
  float* v = raw + row * size;
  const float* g = d + row * size;
  float r = inv[row], dot = 0.f;
  for (int i = threadIdx.x; i < size; i += 128) dot += v[i] * r * g[i];
  dot = block_sum(dot, (float*)bytes);
  if (threadIdx.x == 0) dgain[row] = dot;
  float s = gain ? gain[0] * r : r;
  for (int i = threadIdx.x; i < size; i += 128) v[i] = s * (g[i] - v[i] * r * dot);
}
REGISTER(learn_unit_back);

// learn_outer makes out [k][size] = t^T d of t [rows][k] and d [rows][size]; t null is a column of ones (k is 1). Block (128 of size, 16 of
// k), a thread for each column.
KERNEL void learn_outer(const float* t, int k, const float* d, int rows, int size, float* out) {
  int j = blockIdx.x * 128 + threadIdx.x, k0 = blockIdx.y * 16;
  if (j >= size) return;
  float acc[16];
  UNROLL for (int i = 0; i < 16; i++) acc[i] = 0.f;
  for (int r = 0; r < rows; r++) {
    float v = d[(size_t)r * size + j];
    UNROLL for (int i = 0; i < 16; i++)
      if (k0 + i < k) acc[i] += t ? t[(size_t)r * k + k0 + i] * v : v;
  }
  UNROLL for (int i = 0; i < 16; i++)
    if (k0 + i < k) out[(size_t)(k0 + i) * size + j] = acc[i];
}
REGISTER(learn_outer);

// learn_hidden_back makes da [rows][width]: the gradient of a, given that of raw: (draw w^T) GELU'(a), w [width][size]. Block (row, 4 of
// width), a warp for each value.
KERNEL void learn_hidden_back(const float* draw, const float* w, const float* a, int width, int size, float* da) {
  int k = blockIdx.y * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;
  size_t row = blockIdx.x;
  if (k >= width) return;
  float s = 0.f;
  for (int j = lane; j < size; j += 32) s += draw[row * size + j] * w[(size_t)k * size + j];
  s = sum_warp(s);
  if (lane) return;
  float v = a[row * width + k];
  float p = 1.f / (1.f + expf(-v * (1.5957691216057308f + 0.07135481282652f * v * v)));
  da[row * width + k] = s * (p + v * p * (1.f - p) * (1.5957691216057308f + 0.21406443847956f * v * v));
}
REGISTER(learn_hidden_back);

// put_rows makes row place[i] of dst [..][width] row i of src.
KERNEL void put_rows(const float* src, const int* place, int width, float* dst) {
  size_t to = place[blockIdx.x];
  for (int i = threadIdx.x; i < width; i += 128) dst[to * width + i] = src[(size_t)blockIdx.x * width + i];
}
REGISTER(put_rows);

// p_forms writes an adapted linear's P as products read it, times scale: down [out][ldd] bf16 is P^T, for the way there, back [even
// rank][ldb] bf16 is P, for the way back. Column n of P begins at columns[2n] of params (-1: there is none, zeros) and goes on every
// columns[2n+1] values. A thread for each of ldb columns.
KERNEL void p_forms(const float* params, const int* columns, float scale, int out, int rank, bf16* down, int ldd, bf16* back, int ldb) {
  int n = blockIdx.x * 128 + threadIdx.x;
  if (n >= ldb) return;
  int from = n < out ? columns[2 * n] : -1, step = n < out ? columns[2 * n + 1] : 0, even = rank + rank % 2;
  for (int r = 0; r < (ldd > even ? ldd : even); r++) {
    bf16 v = narrow(from >= 0 && r < rank ? scale * params[from + (size_t)r * step] : 0.f);
    if (n < out && r < ldd) down[(size_t)n * ldd + r] = v;
    if (r < even) back[(size_t)r * ldb + n] = v;
  }
}
REGISTER(p_forms);

// p_take adds scale * dp [rank][out] to the gradients of P's columns, which lie as p_forms says.
KERNEL void p_take(const float* dp, const int* columns, float scale, int out, int rank, float* grads) {
  int n = blockIdx.x * 128 + threadIdx.x;
  if (n >= out || columns[2 * n] < 0) return;
  for (int r = 0; r < rank; r++) grads[columns[2 * n] + (size_t)r * columns[2 * n + 1]] += scale * dp[(size_t)r * out + n];
}
REGISTER(p_take);

// grad_square adds up the squares of g [n] in float64: part [gridDim.x]. Shared memory 1024 bytes.
KERNEL void grad_square(const float* g, int n, double* part) {
  SHARED_BYTES(bytes);
  double* sums = (double*)bytes;
  double s = 0;
  for (int i = blockIdx.x * 128 + threadIdx.x; i < n; i += gridDim.x * 128) s += (double)g[i] * g[i];
  sums[threadIdx.x] = s;
  __syncthreads();
  if (threadIdx.x) return;
  for (int i = 1; i < 128; i++) s += sums[i];
  part[blockIdx.x] = s;
}
REGISTER(grad_square);

// grad_length makes clip = {what the gradient is multiplied by, its length}: length limit at most. One thread.
KERNEL void grad_length(const double* part, int parts, float limit, float* clip) {
  if (threadIdx.x) return;
  double s = 0;
  for (int i = 0; i < parts; i++) s += part[i];
  s = sqrt(s);
  clip[0] = s > limit ? (float)(limit / s) : 1.f;
  clip[1] = (float)s;
}
REGISTER(grad_length);

// adamw takes one step of generator/train: adamw.go over param [n]. Slice k ends before ends[k] and has rates[2k] and what it keeps,
// rates[2k+1]. Nothing moves when the gradient's length clip[1] is not finite.
KERNEL void adamw(float* param, const float* grad, float* first, float* second, int n, const int* ends, const float* rates, int slices, float beta1,
                  float beta2, float fresh1, float fresh2, float c2, float eps, const float* clip) {
  int i = blockIdx.x * 128 + threadIdx.x;
  if (i >= n || !(clip[1] <= 3.4e38f)) return;
  int k = 0, last = slices - 1;
  while (k < last) {  // the first slice that ends behind i
    int mid = (k + last) / 2;
    if (ends[mid] > i) last = mid;
    else k = mid + 1;
  }
  float g = grad[i] * clip[0];
  float m = beta1 * first[i] + fresh1 * g, v = beta2 * second[i] + fresh2 * g * g;
  first[i] = m;
  second[i] = v;
  param[i] = rates[2 * k + 1] * param[i] - rates[2 * k] * m / (sqrtf(v * c2) + eps);
}
REGISTER(adamw);
