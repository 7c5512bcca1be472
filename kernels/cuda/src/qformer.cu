// The paper's Q-Former (see generator/qformer.go) between its products: queries h [rows*nq][width] floats, with a bf16 copy
// [rows*nq][ld] for the next product. The memory is one token, so cross-attention is one linear map of the inputs that does not
// depend on h: all layers' are made by one product.
#include "common.cuh"

// qf_start writes the learnt queries for every row. A block for each row of h.
KERNEL void qf_start(const float* query, int nq, int width, float* h, bf16* copy, int ld) {
  int row = blockIdx.x;
  for (int i = threadIdx.x; i < ld; i += 128) {
    float v = i < width ? query[row % nq * width + i] : 0.f;
    if (i < width) h[(size_t)row * width + i] = v;
    copy[(size_t)row * ld + i] = narrow(v);
  }
}
REGISTER(qf_start);

// qf_attend is self-attention among the nq queries of a row: qkv [rows*nq][ldq] bf16 with queries, keys and values side by side,
// heads of d values; out [rows*nq][ldo] bf16. A block of 128 threads for each row; shared memory 4*(nq*3*width + heads*nq*nq) bytes.
KERNEL void qf_attend(const bf16* qkv, int ldq, int nq, int width, int heads, float scale, bf16* out, int ldo) {
  SHARED_BYTES(bytes);
  float* v = (float*)bytes;
  float* s = v + nq * 3 * width;
  int d = width / heads, tid = threadIdx.x, w3 = 3 * width;
  for (int i = tid; i < nq * w3; i += 128) v[i] = widen(qkv[((size_t)blockIdx.x * nq + i / w3) * ldq + i % w3]);
  __syncthreads();
  for (int x = tid; x < heads * nq * nq; x += 128) {
    int c = x / (nq * nq), i = x / nq % nq, j = x % nq;
    float sum = 0.f;
    for (int k = 0; k < d; k++) sum += v[i * w3 + c * d + k] * v[j * w3 + width + c * d + k];
    s[x] = sum * scale;
  }
  __syncthreads();
  for (int x = tid; x < heads * nq; x += 128) {
    float top = -INFINITY, sum = 0.f;
    for (int j = 0; j < nq; j++) top = fmaxf(top, s[x * nq + j]);
    for (int j = 0; j < nq; j++) sum += s[x * nq + j] = expf(s[x * nq + j] - top);
    for (int j = 0; j < nq; j++) s[x * nq + j] /= sum;
  }
  __syncthreads();
  for (int x = tid; x < nq * ldo; x += 128) {
    int i = x / ldo, col = x % ldo;
    float sum = 0.f;
    if (col < width)
      for (int j = 0; j < nq; j++) sum += s[(col / d * nq + i) * nq + j] * v[j * w3 + 2 * width + col];
    out[((size_t)blockIdx.x * nq + i) * ldo + col] = narrow(sum);
  }
}
REGISTER(qf_attend);

// qf_norm sets h = LayerNorm(h + more) * scale + bias, row by row, and its copy; more (may be null) has a row of lm values for every
// nq rows of h. A warp for each row.
KERNEL void qf_norm(float* h, const float* more, int lm, int nq, const float* scale, const float* bias, float eps, int rows, int width, bf16* copy, int ld) {
  int row = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= rows) return;
  float* v = h + (size_t)row * width;
  const float* m = more ? more + (size_t)(row / nq) * lm : nullptr;
  float sum = 0.f, square = 0.f;
  for (int i = lane; i < width; i += 32) {
    if (m) v[i] += m[i];
    sum += v[i];
  }
  float mean = sum_warp(sum) / width;
  for (int i = lane; i < width; i += 32) square += (v[i] - mean) * (v[i] - mean);
  float r = 1.f / sqrtf(sum_warp(square) / width + eps);
  for (int i = lane; i < ld; i += 32) {
    float y = 0.f;
    if (i < width) v[i] = y = (v[i] - mean) * r * scale[i] + bias[i];
    copy[(size_t)row * ld + i] = narrow(y);
  }
}
REGISTER(qf_norm);

// qf_mean makes out [rows][ld] bf16, the mean over the queries.
KERNEL void qf_mean(const float* h, int nq, int width, bf16* out, int ld) {
  for (int i = threadIdx.x; i < ld; i += 128) {
    float s = 0.f;
    if (i < width)
      for (int j = 0; j < nq; j++) s += h[((size_t)blockIdx.x * nq + j) * width + i];
    out[(size_t)blockIdx.x * ld + i] = narrow(s / nq);
  }
}
REGISTER(qf_mean);

// unit_rows scales row where[i] of x [..][width], or row i where that is null, to length gain (eps under the root). A block of 128
// threads for each.
KERNEL void unit_rows(float* x, const int* where, int width, float gain, float eps) {
  SHARED_BYTES(bytes);
  float* part = (float*)bytes;
  float* v = x + (size_t)(where ? where[blockIdx.x] : blockIdx.x) * width;
  float square = 0.f;
  for (int i = threadIdx.x; i < width; i += 128) square += v[i] * v[i];
  square = sum_warp(square);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = square;
  __syncthreads();
  float s = gain / sqrtf(part[0] + part[1] + part[2] + part[3] + eps);
  for (int i = threadIdx.x; i < width; i += 128) v[i] *= s;
}
REGISTER(unit_rows);

// round_rows makes row where[i] of out row i of x, rounded; width is even. A block of 128 threads for each.
KERNEL void round_rows(const float* x, const int* where, int width, bf16* out) {
  const float* v = x + (size_t)blockIdx.x * width;
  bf16* to = out + (size_t)where[blockIdx.x] * width;
  for (int i = threadIdx.x * 2; i < width; i += 256) *(uint32_t*)(to + i) = pack2(v[i], v[i + 1]);
}
REGISTER(round_rows);
