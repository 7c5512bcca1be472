// A training step beside the frozen LLM's: the generator there and back in float32 (see generator/train: graph.go, graph_qformer.go), and
// AdamW over all that is trained. Every sum has one order: equal inputs give equal bytes.
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

// A weight of k inputs and size outputs is [size/d][k][d]: with d = size a plain matrix, with d smaller one for each head.
//
// learn_affine makes y [rows][size] = x [rows][k] w + b; b may be null. Block (128 columns, 16 rows), a thread for each column.
KERNEL void learn_affine(const float* x, const float* w, const float* b, int rows, int k, int size, int d, float* y) {
  int j = blockIdx.x * 128 + threadIdx.x, r0 = blockIdx.y * 16;
  if (j >= size) return;
  float acc[16];
  UNROLL for (int r = 0; r < 16; r++) acc[r] = b ? b[j] : 0.f;
  for (int i = 0; i < k; i++) {
    float v = w[((size_t)(j / d) * k + i) * d + j % d];
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

// learn_outer makes a weight's gradient out = t^T g of t [rows][k] and g [rows][size]; t null is a column of ones (k is 1). Block (128 of
// size, 16 of k), a thread for each column.
KERNEL void learn_outer(const float* t, int k, const float* g, int rows, int size, int d, float* out) {
  int j = blockIdx.x * 128 + threadIdx.x, k0 = blockIdx.y * 16;
  if (j >= size) return;
  float acc[16];
  UNROLL for (int i = 0; i < 16; i++) acc[i] = 0.f;
  for (int r = 0; r < rows; r++) {
    float v = g[(size_t)r * size + j];
    UNROLL for (int i = 0; i < 16; i++)
      if (k0 + i < k) acc[i] += t ? t[(size_t)r * k + k0 + i] * v : v;
  }
  UNROLL for (int i = 0; i < 16; i++)
    if (k0 + i < k) out[((size_t)(j / d) * k + k0 + i) * d + j % d] = acc[i];
}
REGISTER(learn_outer);

// learn_back makes dx [rows][k] of y = x w, given dy [rows][size]; with a, that of x = GELU(a); with more, added to what dx holds. Block (row,
// 4 of k), a warp for each value.
KERNEL void learn_back(const float* dy, const float* w, const float* a, int k, int size, int d, int more, float* dx) {
  int i = blockIdx.y * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;
  size_t row = blockIdx.x;
  if (i >= k) return;
  float s = 0.f;
  for (int j = lane; j < size; j += 32) s += dy[row * size + j] * w[((size_t)(j / d) * k + i) * d + j % d];
  s = sum_warp(s);
  if (lane) return;
  if (a) {
    float v = a[row * k + i];
    float p = 1.f / (1.f + expf(-v * (1.5957691216057308f + 0.07135481282652f * v * v)));
    s *= p + v * p * (1.f - p) * (1.5957691216057308f + 0.21406443847956f * v * v);
  }
  if (more) s += dx[row * k + i];
  dx[row * k + i] = s;
}
REGISTER(learn_back);

// learn_gelu makes h = GELU(a) of n values.
KERNEL void learn_gelu(const float* a, int n, float* h) {
  int i = blockIdx.x * 128 + threadIdx.x;
  if (i < n) h[i] = gelu(a[i]);
}
REGISTER(learn_gelu);

// learn_norm makes out = unit * scale + bias of h + y, row by row: unit has mean 0 and variance 1, inv is what made it so. y has a row for
// every `group` rows of h. A warp for each row.
KERNEL void learn_norm(const float* h, const float* y, int group, const float* scale, const float* bias, float eps, int rows, int width, float* unit,
                       float* inv, float* out) {
  int row = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= rows) return;
  const float* v = h + (size_t)row * width;
  const float* m = y + (size_t)(row / group) * width;
  float sum = 0.f, square = 0.f;
  for (int i = lane; i < width; i += 32) sum += v[i] + m[i];
  float mean = sum_warp(sum) / width;
  for (int i = lane; i < width; i += 32) square += (v[i] + m[i] - mean) * (v[i] + m[i] - mean);
  float r = 1.f / sqrtf(sum_warp(square) / width + eps);
  if (lane == 0) inv[row] = r;
  for (int i = lane; i < width; i += 32) {
    float u = (v[i] + m[i] - mean) * r;
    unit[(size_t)row * width + i] = u;
    out[(size_t)row * width + i] = u * scale[i] + bias[i];
  }
}
REGISTER(learn_norm);

// learn_norm_back makes the gradient of h + y, given d, that of out. A warp for each row.
KERNEL void learn_norm_back(const float* d, const float* unit, const float* inv, const float* scale, int rows, int width, float* dx) {
  int row = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= rows) return;
  const float* g = d + (size_t)row * width;
  const float* u = unit + (size_t)row * width;
  float sum = 0.f, dot = 0.f;
  for (int i = lane; i < width; i += 32) {
    sum += g[i] * scale[i];
    dot += g[i] * scale[i] * u[i];
  }
  sum = sum_warp(sum) / width;
  dot = sum_warp(dot) / width;
  for (int i = lane; i < width; i += 32) dx[(size_t)row * width + i] = inv[row] * (g[i] * scale[i] - sum - u[i] * dot);
}
REGISTER(learn_norm_back);

// learn_scale_back makes the gradient of a norm's scale: out [width], the sum over rows of d * unit.
KERNEL void learn_scale_back(const float* d, const float* unit, int rows, int width, float* out) {
  int i = blockIdx.x * 128 + threadIdx.x;
  if (i >= width) return;
  float s = 0.f;
  for (int r = 0; r < rows; r++) s += d[(size_t)r * width + i] * unit[(size_t)r * width + i];
  out[i] = s;
}
REGISTER(learn_scale_back);

// learn_mix is self-attention within groups of nq rows: q, k, v, out [rows][width], heads side by side; p [groups][heads][nq][nq] keeps the
// weights. A block of 128 threads for each group.
KERNEL void learn_mix(const float* q, const float* k, const float* v, int nq, int width, int heads, float scale, float* p, float* out) {
  size_t base = (size_t)blockIdx.x * nq * width;
  float* w = p + (size_t)blockIdx.x * heads * nq * nq;
  int d = width / heads;
  for (int x = threadIdx.x; x < heads * nq; x += 128) {  // a query of a head
    const float* a = q + base + (size_t)(x % nq) * width + x / nq * d;
    float top = -INFINITY, sum = 0.f;
    for (int j = 0; j < nq; j++) {
      const float* b = k + base + (size_t)j * width + x / nq * d;
      float s = 0.f;
      for (int i = 0; i < d; i++) s += a[i] * b[i];
      w[x * nq + j] = s * scale;
      top = fmaxf(top, s * scale);
    }
    for (int j = 0; j < nq; j++) sum += w[x * nq + j] = expf(w[x * nq + j] - top);
    for (int j = 0; j < nq; j++) w[x * nq + j] /= sum;
  }
  __syncthreads();
  for (int x = threadIdx.x; x < nq * width; x += 128) {
    int i = x / width, col = x % width;
    float s = 0.f;
    for (int j = 0; j < nq; j++) s += w[(col / d * nq + i) * nq + j] * v[base + (size_t)j * width + col];
    out[base + x] = s;
  }
}
REGISTER(learn_mix);

// learn_mix_back makes the gradients of q, k and v, given g, that of out; ds is room like p.
KERNEL void learn_mix_back(const float* g, const float* q, const float* k, const float* v, const float* p, int nq, int width, int heads, float scale,
                           float* ds, float* dq, float* dk, float* dv) {
  size_t base = (size_t)blockIdx.x * nq * width;
  const float* w = p + (size_t)blockIdx.x * heads * nq * nq;
  float* z = ds + (size_t)blockIdx.x * heads * nq * nq;
  int d = width / heads;
  for (int x = threadIdx.x; x < heads * nq; x += 128) {
    const float* a = g + base + (size_t)(x % nq) * width + x / nq * d;
    float dot = 0.f;
    for (int j = 0; j < nq; j++) {
      const float* b = v + base + (size_t)j * width + x / nq * d;
      float s = 0.f;
      for (int i = 0; i < d; i++) s += a[i] * b[i];
      z[x * nq + j] = s;
      dot += s * w[x * nq + j];
    }
    for (int j = 0; j < nq; j++) z[x * nq + j] = w[x * nq + j] * (z[x * nq + j] - dot) * scale;
  }
  __syncthreads();
  for (int x = threadIdx.x; x < nq * width; x += 128) {
    int i = x / width, col = x % width, h = col / d * nq;
    float a = 0.f, b = 0.f, c = 0.f;
    for (int j = 0; j < nq; j++) {
      size_t at = base + (size_t)j * width + col;
      a += z[(h + i) * nq + j] * k[at];
      b += z[(h + j) * nq + i] * q[at];
      c += w[(h + j) * nq + i] * g[at];
    }
    dq[base + x] = a;
    dk[base + x] = b;
    dv[base + x] = c;
  }
}
REGISTER(learn_mix_back);

// learn_sum makes row o of out scale times the sum of `count` rows of x, from row o*from on, every `step` rows. A block for each row of out.
KERNEL void learn_sum(const float* x, int count, int from, int step, int width, float scale, float* out) {
  for (int i = threadIdx.x; i < width; i += 128) {
    float s = 0.f;
    for (int c = 0; c < count; c++) s += x[((size_t)blockIdx.x * from + (size_t)c * step) * width + i];
    out[(size_t)blockIdx.x * width + i] = s * scale;
  }
}
REGISTER(learn_sum);

// learn_spread makes row r of out scale times row r/every%rows of x. A block for each row of out.
KERNEL void learn_spread(const float* x, int every, int rows, int width, float scale, float* out) {
  size_t from = blockIdx.x / every % rows;
  for (int i = threadIdx.x; i < width; i += 128) out[(size_t)blockIdx.x * width + i] = scale * x[from * width + i];
}
REGISTER(learn_spread);

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
