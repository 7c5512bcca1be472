// The way back through the adapted layers of the frozen LLM (see serve/llm: backward.go): gradients for W_A of every row and for P.
// Products are gemm.cu's, on transposed weights. Every sum has one order: no atomics, equal inputs give equal bytes.
#include "common.cuh"

// swiglu makes act [rows][lda] bf16 from gate and up, alternating in gu [rows][ldg]; zeros behind f.
KERNEL void swiglu(const bf16* gu, int ldg, int f, bf16* act, int lda) {
  size_t row = blockIdx.x;
  for (int i = threadIdx.x; i < lda; i += 128) {
    float v = 0.f;
    if (i < f) {
      uint32_t p = *(const uint32_t*)(gu + row * ldg + 2 * i);
      float g = widen_lo(p);
      v = g / (1.f + expf(-g)) * widen_hi(p);
    }
    act[row * lda + i] = narrow(v);
  }
}
REGISTER(swiglu);

// swiglu_back makes the gradients of gate and up, alternating, from that of their product.
KERNEL void swiglu_back(const bf16* dact, int lda, const bf16* gu, int ldg, int f, bf16* dgu) {
  size_t row = blockIdx.x;
  for (int i = threadIdx.x; i < ldg / 2; i += 128) {
    uint32_t out = 0;
    if (i < f) {
      uint32_t p = *(const uint32_t*)(gu + row * ldg + 2 * i);
      float g = widen_lo(p), up = widen_hi(p), d = widen(dact[row * lda + i]);
      float s = 1.f / (1.f + expf(-g));
      out = pack2(d * up * (s + g * s * (1.f - s)), d * g * s);
    }
    *(uint32_t*)(dgu + row * ldg + 2 * i) = out;
  }
}
REGISTER(swiglu_back);

// head_back starts: logit z = yes - no of each answer, and the gradient of its part of the loss, (sigmoid(z) - label) * share, down to
// the residual stream. yes and no carry the last norm's weight; no may be null. A warp for each row.
KERNEL void head_back(const float* x, const float* yes, const float* no, const float* label, float share, float eps, int rows, int width, float* z,
                      float* dx, bf16* copy, int ld) {
  int row = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= rows) return;
  const float* v = x + (size_t)row * width;
  float square = 0.f, dot = 0.f;
  for (int i = lane; i < width; i += 32) {
    square += v[i] * v[i];
    dot += v[i] * (yes[i] - (no ? no[i] : 0.f));
  }
  float r = 1.f / sqrtf(sum_warp(square) / width + eps);
  dot = sum_warp(dot);
  float logit = dot * r, g = (1.f / (1.f + expf(-logit)) - label[row]) * share;
  if (lane == 0) z[row] = logit;
  for (int i = lane; i < ld; i += 32) {
    float d = 0.f;
    if (i < width) dx[(size_t)row * width + i] = d = g * r * (yes[i] - (no ? no[i] : 0.f)) - g * dot * r * r * r / width * v[i];
    copy[(size_t)row * ld + i] = narrow(d);
  }
}
REGISTER(head_back);

// norm_back adds to dx the gradient through y = x w r, r = 1/sqrt(mean(x^2)+eps), given dy, and rounds the sum into copy.
KERNEL void norm_back(float* dx, const float* dy, const float* x, const float* w, float eps, int rows, int width, bf16* copy, int ld) {
  int row = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= rows) return;
  const float* v = x + (size_t)row * width;
  const float* d = dy + (size_t)row * width;
  float square = 0.f, dot = 0.f;
  for (int i = lane; i < width; i += 32) {
    square += v[i] * v[i];
    dot += v[i] * d[i] * w[i];
  }
  float r = 1.f / sqrtf(sum_warp(square) / width + eps);
  dot = sum_warp(dot) * r * r * r / width;
  for (int i = lane; i < ld; i += 32) {
    float s = 0.f;
    if (i < width) {
      float* to = dx + (size_t)row * width + i;
      *to = s = *to + r * d[i] * w[i] - dot * v[i];
    }
    copy[(size_t)row * ld + i] = narrow(s);
  }
}
REGISTER(norm_back);

// turn_back undoes the rotation of the gradients of q and k and rounds them, v's too: out [rows][ldq] bf16, zeros behind width.
KERNEL void turn_back(const float* d, int width, const float* angles, const int* pos, int turned, int head, bf16* out, int ldq) {
  size_t row = blockIdx.x;
  const float* a = angles + (size_t)pos[row] * head;
  for (int i = threadIdx.x * 2; i < ldq; i += 256) {
    float x = 0.f, y = 0.f;
    if (i < width) {
      x = d[row * width + i];
      y = d[row * width + i + 1];
    }
    if (i < turned) {
      float c = a[i % head / 2], s = a[i % head / 2 + head / 2], p = x;
      x = p * c + y * s;
      y = y * c - p * s;
    }
    *(uint32_t*)(out + row * ldq + i) = pack2(x, y);
  }
}
REGISTER(turn_back);

// scatter_rows clears dst but for rows index[i], which become src's row i: a block for each row of dst, place[row] is i or -1.
KERNEL void scatter_rows(float* dst, const float* src, const int* place, int width) {
  int from = place[blockIdx.x];
  for (int i = threadIdx.x; i < width; i += 128) dst[(size_t)blockIdx.x * width + i] = from < 0 ? 0.f : src[(size_t)from * width + i];
}
REGISTER(scatter_rows);

// delta_up adds W_A dT to dx [row][hidden], tile by tile as delta_down: dT [row][ldt] floats.
KERNEL void delta_up(float* dx, const float* dt, int ldt, const int* tiles, const bf16* mats, const float* scale, int hidden, int rank) {
  const int* tile = tiles + 4 * blockIdx.x;
  int k = blockIdx.y * 128 + threadIdx.x;
  if (k >= hidden) return;
  size_t size = (size_t)hidden * rank;
  const bf16* u = mats + tile[2] * size + (size_t)k * rank;
  const bf16* it = tile[3] < 0 ? nullptr : mats + tile[3] * size + (size_t)k * rank;
  for (int row = tile[0]; row < tile[0] + tile[1]; row++) {
    const float* t = dt + (size_t)row * ldt;
    float a = 0.f, b = 0.f;
    for (int r = 0; r < rank; r++) {
      a += t[r] * widen(u[r]);
      if (it) b += t[r] * widen(it[r]);
    }
    dx[(size_t)row * hidden + k] += it ? a + scale[row] * b : a;
  }
}
REGISTER(delta_up);

// delta_grad adds x^T dT over each pair's rows to its dW [hidden][rank]: spans holds first row and end of each pair. Block (pair, 128 of
// hidden, 16 of rank).
KERNEL void delta_grad(const bf16* x, int ldx, const float* dt, int ldt, const int* spans, int hidden, int rank, float* dw) {
  int k = blockIdx.y * 128 + threadIdx.x, r0 = blockIdx.z * 16;
  if (k >= hidden) return;
  float acc[16];
  UNROLL for (int r = 0; r < 16; r++) acc[r] = 0.f;
  for (int row = spans[2 * blockIdx.x]; row < spans[2 * blockIdx.x + 1]; row++) {
    float v = widen(x[(size_t)row * ldx + k]);
    const float* t = dt + (size_t)row * ldt + r0;
    UNROLL for (int r = 0; r < 16; r++)
      if (r0 + r < rank) acc[r] += v * t[r];
  }
  float* to = dw + ((size_t)blockIdx.x * hidden + k) * rank + r0;
  UNROLL for (int r = 0; r < 16; r++)
    if (r0 + r < rank) to[r] += acc[r];
}
REGISTER(delta_grad);

// p_grad makes T^T dY over a part of the rows: part [split][rank][out]. Block (128 of out, split, 16 of rank); `each` rows a split.
KERNEL void p_grad(const bf16* t, int ldt, const bf16* dy, int ldy, int rows, int each, int out, int rank, float* part) {
  int n = blockIdx.x * 128 + threadIdx.x, r0 = blockIdx.z * 16;
  if (n >= out) return;
  float acc[16];
  UNROLL for (int r = 0; r < 16; r++) acc[r] = 0.f;
  int end = min(rows, (int)(blockIdx.y + 1) * each);
  for (int row = blockIdx.y * each; row < end; row++) {
    float v = widen(dy[(size_t)row * ldy + n]);
    UNROLL for (int r = 0; r < 16; r++)
      if (r0 + r < rank) acc[r] += v * widen(t[(size_t)row * ldt + r0 + r]);
  }
  UNROLL for (int r = 0; r < 16; r++)
    if (r0 + r < rank) part[((size_t)blockIdx.y * rank + r0 + r) * out + n] = acc[r];
}
REGISTER(p_grad);

// p_sum adds the parts to dp [rank*out], in order.
KERNEL void p_sum(const float* part, int splits, int size, float* dp) {
  int i = blockIdx.x * 128 + threadIdx.x;
  if (i >= size) return;
  float s = dp[i];
  for (int k = 0; k < splits; k++) s += part[(size_t)k * size + i];
  dp[i] = s;
}
REGISTER(p_sum);

// key_of names a key's row, as attend does; its value lies kvw behind.
static __device__ __forceinline__ const bf16* key_of(int ref, const bf16* qkv, int ldq, int qw, int kvw, const bf16* pool, int layers, int layer) {
  if (ref >= 0) return pool + ((size_t)(ref / 16 * layers + layer) * 16 + ref % 16) * 2 * kvw;
  return qkv + (size_t)(-1 - ref) * ldq + qw;
}

// attend_back_q makes the gradients of queries: dqkv [row][width], q's columns, from datt [out row][qw]; and keeps of each (out row, head)
// the maximum, one over the sum and the mean that the keys' gradients need. Block (task {run, query}, head), one warp; shared
// memory 4*(2*keys + 2*head) bytes.
KERNEL void attend_back_q(const bf16* qkv, int ldq, int qw, int kvw, const bf16* pool, int layers, int layer, const int* tasks, const int* runs,
                          const int* refs, const float* datt, float* dqkv, float* stats, int head, int group, float scale) {
  SHARED_BYTES(bytes);
  const int* run = runs + 8 * tasks[2 * blockIdx.x];
  int i = tasks[2 * blockIdx.x + 1], h = blockIdx.y, heads = gridDim.y, lane = threadIdx.x, row = run[0] + i, to = run[2] + i, n = run[4] + i + 1;
  const int* ref = refs + run[3];
  int at = h / group * head;
  float* p = (float*)bytes;
  float* ds = p + n;
  float* q = ds + n;
  float* d = q + head;
  for (int c = lane; c < head; c += 32) {
    q[c] = widen(qkv[(size_t)row * ldq + h * head + c]);
    d[c] = datt[(size_t)to * qw + h * head + c];
  }
  __syncwarp();
  float top = -INFINITY;
  for (int j = lane; j < n; j += 32) {
    const bf16* k = key_of(ref[j], qkv, ldq, qw, kvw, pool, layers, layer) + at;
    float s = 0.f, g = 0.f;
    for (int c = 0; c < head; c++) {
      s += q[c] * widen(k[c]);
      g += d[c] * widen(k[kvw + c]);
    }
    p[j] = s * scale;
    ds[j] = g;
    top = fmaxf(top, p[j]);
  }
  for (int m = 16; m > 0; m /= 2) top = fmaxf(top, shuffle_xor(top, m));
  float sum = 0.f;
  for (int j = lane; j < n; j += 32) sum += p[j] = expf(p[j] - top);
  float inv = 1.f / sum_warp(sum), mean = 0.f;
  for (int j = lane; j < n; j += 32) mean += p[j] * inv * ds[j];
  mean = sum_warp(mean);
  for (int j = lane; j < n; j += 32) ds[j] = p[j] * inv * (ds[j] - mean) * scale;
  __syncwarp();
  for (int c = lane; c < head; c += 32) {
    float s = 0.f;
    for (int j = 0; j < n; j++) s += ds[j] * widen(key_of(ref[j], qkv, ldq, qw, kvw, pool, layers, layer)[at + c]);
    dqkv[(size_t)row * (qw + 2 * kvw) + h * head + c] = s;
  }
  if (lane == 0) {
    float* o = stats + ((size_t)to * heads + h) * 3;
    o[0] = top;
    o[1] = inv;
    o[2] = mean;
  }
}
REGISTER(attend_back_q);

// attend_back_kv makes the gradients of one key and value of a run (task {run, key}; its ref is a row) over the queries that see it.
// Block (task, key head), one warp; heads of at most 128.
KERNEL void attend_back_kv(const bf16* qkv, int ldq, int qw, int kvw, const int* tasks, const int* runs, const int* refs, const float* datt,
                           float* dqkv, const float* stats, int head, int group, float scale) {
  const int* run = runs + 8 * tasks[2 * blockIdx.x];
  int j = tasks[2 * blockIdx.x + 1], g = blockIdx.y, heads = gridDim.y * group, lane = threadIdx.x, row = -1 - refs[run[3] + j];
  const bf16* key = qkv + (size_t)row * ldq + qw + g * head;
  float k[4], v[4], dk[4], dv[4];
  UNROLL for (int c = 0; c < 4; c++) {
    int x = lane + 32 * c;
    k[c] = x < head ? widen(key[x]) : 0.f;
    v[c] = x < head ? widen(key[kvw + x]) : 0.f;
    dk[c] = dv[c] = 0.f;
  }
  for (int i = max(0, j - run[4]); i < run[1]; i++)
    for (int h = g * group; h < (g + 1) * group; h++) {
      const bf16* query = qkv + (size_t)(run[0] + i) * ldq + h * head;
      const float* out = datt + (size_t)(run[2] + i) * qw + h * head;
      const float* st = stats + ((size_t)(run[2] + i) * heads + h) * 3;
      float q[4], d[4], s = 0.f, dp = 0.f;
      UNROLL for (int c = 0; c < 4; c++) {
        int x = lane + 32 * c;
        q[c] = x < head ? widen(query[x]) : 0.f;
        d[c] = x < head ? out[x] : 0.f;
        s += q[c] * k[c];
        dp += d[c] * v[c];
      }
      float p = expf(sum_warp(s) * scale - st[0]) * st[1];
      float ds = p * (sum_warp(dp) - st[2]) * scale;
      UNROLL for (int c = 0; c < 4; c++) {
        dk[c] += ds * q[c];
        dv[c] += p * d[c];
      }
    }
  float* to = dqkv + (size_t)row * (qw + 2 * kvw) + qw + g * head;
  UNROLL for (int c = 0; c < 4; c++) {
    int x = lane + 32 * c;
    if (x < head) {
      to[x] = dk[c];
      to[kvw + x] = dv[c];
    }
  }
}
REGISTER(attend_back_kv);
