// The parts of a transformer that are no plain product: norms, attention over rows and pages, the low-rank deltas, the head,
// the read-out. Products are gemm.cu's.
#include "common.cuh"

// rms_norm makes out [rows][ld] bf16 = x * w / sqrt(mean(x^2) + eps) of x [rows][width], zeros behind. A warp for each row;
// width is a multiple of 4.
KERNEL void rms_norm(const float* x, const float* w, float eps, int rows, int width, bf16* out, int ld) {
  int row = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= rows) return;
  const float* v = x + (size_t)row * width;
  float square = 0.f;
  for (int i = lane * 4; i < width; i += 128)
    for (int j = 0; j < 4; j++) square += v[i + j] * v[i + j];
  float r = 1.f / sqrtf(sum_warp(square) / width + eps);
  for (int i = lane * 4; i < ld; i += 128)
    for (int j = 0; j < 4; j += 2)
      *(uint32_t*)(out + (size_t)row * ld + i + j) = i < width ? pack2(v[i + j] * r * w[i + j], v[i + j + 1] * r * w[i + j + 1]) : 0;
}
REGISTER(rms_norm);

// gather copies words of 4 bytes: row i of dst is row index[i] of src, from its word `from` on.
KERNEL void gather(uint32_t* dst, int ldd, const uint32_t* src, int lds, int from, const int* index, int rows, int words) {
  int row = blockIdx.x * 4 + threadIdx.x / 32;
  if (row >= rows) return;
  const uint32_t* s = src + (size_t)index[row] * lds + from;
  for (int i = threadIdx.x % 32; i < words; i += 32) dst[(size_t)row * ldd + i] = s[i];
}
REGISTER(gather);

// head makes out [rows][2]: the logits of two words. yes and no are their rows of the head, times the last norm's weight; no may
// be null and gives 0.
KERNEL void head(const float* x, const float* yes, const float* no, float eps, int rows, int width, float* out) {
  int row = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= rows) return;
  const float* v = x + (size_t)row * width;
  float square = 0.f, a = 0.f, b = 0.f;
  for (int i = lane; i < width; i += 32) {
    square += v[i] * v[i];
    a += v[i] * yes[i];
    if (no) b += v[i] * no[i];
  }
  square = sum_warp(square);
  a = sum_warp(a);
  b = sum_warp(b);
  float r = 1.f / sqrtf(square / width + eps);
  if (lane == 0) {
    out[2 * row] = a * r;
    out[2 * row + 1] = b * r;
  }
}
REGISTER(head);

// read_titles makes out [items][2*width]: the mean of the rows list[begin[i]..begin[i+1]-1) (zero of none), then the last of them.
KERNEL void read_titles(const float* x, int width, const int* list, const int* begin, float* out) {
  int item = blockIdx.x, lo = begin[item], hi = begin[item + 1] - 1;
  for (int i = threadIdx.x; i < width; i += 128) {
    float s = 0.f;
    for (int k = lo; k < hi; k++) s += x[(size_t)list[k] * width + i];
    float* o = out + (size_t)item * 2 * width;
    o[i] = hi > lo ? s * (1.f / (hi - lo)) : 0.f;
    o[width + i] = x[(size_t)list[hi] * width + i];
  }
}
REGISTER(read_titles);

// delta_down makes T = W_A^T x, one W_A for each tile of rows: t [row][n] = sum over k of x[row][k] (U[k][n] + scale[row] I[k][n]). A
// tile is {first row, rows (at most 16), slot of U, slot of I or -1}; slots lie in mats, hidden*rank bf16 each. Block (tile, 16
// columns of n), 4 warps that share k; dynamic shared memory 8192 bytes.
KERNEL void delta_down(const bf16* x, int ldx, const int* tiles, const bf16* mats, const float* scale, int hidden, int rank, bf16* t, int ldt) {
  SHARED_BYTES(bytes);
  float* part = (float*)bytes;  // [4 warps][2][16][16]
  const int* tile = tiles + 4 * blockIdx.x;
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, c = lane % 4 * 2;
  int row0 = tile[0], rows = tile[1], n0 = blockIdx.y * 16;
  size_t size = (size_t)hidden * rank;
  const bf16* mat[2] = {mats + tile[2] * size, tile[3] < 0 ? nullptr : mats + tile[3] * size};
  float acc[2][2][4];
  UNROLL for (int m = 0; m < 2; m++)
    UNROLL for (int j = 0; j < 2; j++)
      UNROLL for (int i = 0; i < 4; i++) acc[m][j][i] = 0.f;
  for (int k = warp * 16; k < hidden; k += 64) {  // x is padded with zeros to a multiple of 32
    uint32_t a[4];
    const bf16* p = x + (size_t)(row0 + g) * ldx + k + c;
    const bf16* q = p + (size_t)8 * ldx;
    a[0] = g < rows ? *(const uint32_t*)p : 0;
    a[1] = g + 8 < rows ? *(const uint32_t*)q : 0;
    a[2] = g < rows ? *(const uint32_t*)(p + 8) : 0;
    a[3] = g + 8 < rows ? *(const uint32_t*)(q + 8) : 0;
    UNROLL for (int m = 0; m < 2; m++) {
      if (!mat[m]) continue;
      UNROLL for (int j = 0; j < 2; j++) {
        int n = n0 + j * 8 + g;
        uint32_t w[4];
        UNROLL for (int i = 0; i < 4; i++) {
          int r = k + c + i % 2 + i / 2 * 8;
          w[i] = n < rank && r < hidden ? mat[m][(size_t)r * rank + n] : 0;
        }
        mma(acc[m][j], a, w[0] | w[1] << 16, w[2] | w[3] << 16);
      }
    }
  }
  UNROLL for (int m = 0; m < 2; m++)
    UNROLL for (int j = 0; j < 2; j++)
      UNROLL for (int i = 0; i < 4; i++) part[((warp * 2 + m) * 16 + g + i / 2 * 8) * 16 + j * 8 + c + i % 2] = acc[m][j][i];
  __syncthreads();
  for (int i = threadIdx.x; i < 256; i += 128) {
    int r = i / 16, n = i % 16;
    if (r >= rows || n0 + n >= rank) continue;
    float u = 0.f, v = 0.f;
    for (int w = 0; w < 4; w++) {
      u += part[w * 512 + i];
      v += part[w * 512 + 256 + i];
    }
    t[(size_t)(row0 + r) * ldt + n0 + n] = narrow(mat[1] ? u + scale[row0 + r] * v : u);
  }
}
REGISTER(delta_down);

// Attention of runs of rows: query row i of a run sees the keys before the run, then the run's own up to itself (see serve/llm:
// trie.go). Keys are named by refs: ref >= 0 is token ref%16 of page ref/16 of the cache, layer `layer` of `layers`
// (pool [page][layer][16][2*kvw], key then value); ref < 0 is row -1-ref of qkv. A run is {first row, rows, first row of out, first
// ref, keys before}; its refs cover those before and its own. Query heads that share a key head go through together.
template <int DP, int KT, int WARPS>
static __device__ __forceinline__ void attend(const bf16* qkv, int ldq, int qw, int kvw, const bf16* pool, int layers, int layer, const int* tiles,
                                              const int* runs, const int* refs, bf16* out, int ldo, int head, int group, float scale) {
  const int ld = DP + 8, threads = 32 * WARPS, chunks = DP / 8;  // an odd number of 16-byte units: eight rows touch all banks
  SHARED_BYTES(bytes);
  bf16* sq = (bf16*)bytes;
  bf16* sk = sq + 16 * WARPS * ld;
  bf16* sv = sk + KT * ld;
  int tid = threadIdx.x, lane = tid % 32, warp = tid / 32, kvh = blockIdx.y;
  const int* run = runs + 8 * tiles[2 * blockIdx.x];
  int first = tiles[2 * blockIdx.x + 1], lo = run[0], n = run[1], to = run[2], before = run[4];
  const int* ref = refs + run[3];
  int per = 16 * WARPS / group, queries = min(per, n - first), total = before + first + queries;

  for (int i = tid; i < 16 * WARPS * chunks; i += threads) {
    int p = i / chunks, c = i % chunks;
    bool there = p < queries * group && c * 8 < head;
    const bf16* from = there ? qkv + (size_t)(lo + first + p / group) * ldq + (kvh * group + p % group) * head + c * 8 : qkv;
    copy16(sq + p * ld + c * 8, from, there);
  }
  copy_commit();
  copy_wait<0>();
  __syncthreads();
  uint32_t fq[DP / 16][4];
  UNROLL for (int kk = 0; kk < DP / 16; kk++) ldmatrix4(fq[kk], sq + (warp * 16 + lane % 16) * ld + kk * 16 + lane / 16 * 8);

  int limit[2];  // how many keys the lane's two rows see
  float top[2], sum[2], o[DP / 8][4];
  UNROLL for (int i = 0; i < 2; i++) {
    int p = warp * 16 + lane / 4 + i * 8;
    limit[i] = p < queries * group ? before + first + p / group + 1 : 0;
    top[i] = -INFINITY;
    sum[i] = 0.f;
  }
  UNROLL for (int d = 0; d < DP / 8; d++)
    UNROLL for (int i = 0; i < 4; i++) o[d][i] = 0.f;
  float turn = scale * 1.44269504f;  // to powers of two

  ROLLED for (int k0 = 0; k0 < total; k0 += KT) {
    __syncthreads();  // all have read the keys that these overwrite
    for (int i = tid; i < KT * chunks; i += threads) {
      int j = i / chunks, c = i % chunks;
      bool there = k0 + j < total && c * 8 < head;
      const bf16* k = qkv;
      if (there) {
        int r = ref[k0 + j];
        k = r >= 0 ? pool + ((size_t)(r / 16 * layers + layer) * 16 + r % 16) * 2 * kvw : qkv + (size_t)(-1 - r) * ldq + qw;
        k += kvh * head + c * 8;
      }
      copy16(sk + j * ld + c * 8, k, there);
      copy16(sv + j * ld + c * 8, there ? k + kvw : k, there);
    }
    copy_commit();
    copy_wait<0>();
    __syncthreads();
    float s[KT / 8][4];
    UNROLL for (int j = 0; j < KT / 8; j++)
      UNROLL for (int i = 0; i < 4; i++) s[j][i] = 0.f;
    UNROLL for (int kk = 0; kk < DP / 16; kk++)
      UNROLL for (int j = 0; j < KT / 16; j++) {
        uint32_t f[4];
        ldmatrix4(f, sk + (j * 16 + lane % 8 + lane / 16 * 8) * ld + kk * 16 + lane / 8 % 2 * 8);
        mma(s[2 * j], fq[kk], f[0], f[1]);
        mma(s[2 * j + 1], fq[kk], f[2], f[3]);
      }
    float high[2] = {top[0], top[1]};
    UNROLL for (int j = 0; j < KT / 8; j++)
      UNROLL for (int i = 0; i < 4; i++) {
        int col = k0 + j * 8 + lane % 4 * 2 + i % 2;
        s[j][i] = col < limit[i / 2] ? s[j][i] * turn : -INFINITY;
        high[i / 2] = fmaxf(high[i / 2], s[j][i]);
      }
    float base[2], fade[2];
    UNROLL for (int i = 0; i < 2; i++) {
      high[i] = fmaxf(high[i], shuffle_xor(high[i], 1));
      high[i] = fmaxf(high[i], shuffle_xor(high[i], 2));
      base[i] = high[i] == -INFINITY ? 0.f : high[i];
      fade[i] = exp2f(top[i] - base[i]);
      top[i] = high[i];
      sum[i] *= fade[i];
    }
    UNROLL for (int j = 0; j < KT / 8; j++)
      UNROLL for (int i = 0; i < 4; i++) {
        s[j][i] = exp2f(s[j][i] - base[i / 2]);
        sum[i / 2] += s[j][i];
      }
    UNROLL for (int d = 0; d < DP / 8; d++)
      UNROLL for (int i = 0; i < 4; i++) o[d][i] *= fade[i / 2];
    UNROLL for (int j = 0; j < KT / 16; j++) {
      uint32_t a[4] = {pack2(s[2 * j][0], s[2 * j][1]), pack2(s[2 * j][2], s[2 * j][3]), pack2(s[2 * j + 1][0], s[2 * j + 1][1]),
                       pack2(s[2 * j + 1][2], s[2 * j + 1][3])};
      UNROLL for (int d = 0; d < DP / 16; d++) {
        uint32_t f[4];
        ldmatrix4t(f, sv + (j * 16 + lane % 8 + lane / 8 % 2 * 8) * ld + d * 16 + lane / 16 * 8);
        mma(o[2 * d], a, f[0], f[1]);
        mma(o[2 * d + 1], a, f[2], f[3]);
      }
    }
  }
  UNROLL for (int i = 0; i < 2; i++) {
    sum[i] += shuffle_xor(sum[i], 1);
    sum[i] += shuffle_xor(sum[i], 2);
  }
  UNROLL for (int i = 0; i < 2; i++) {
    int p = warp * 16 + lane / 4 + i * 8;
    if (p >= queries * group) continue;
    bf16* row = out + (size_t)(to + first + p / group) * ldo + (kvh * group + p % group) * head;
    float r = 1.f / sum[i];
    UNROLL for (int d = 0; d < DP / 8; d++) {
      int col = d * 8 + lane % 4 * 2;
      if (col < head) *(uint32_t*)(row + col) = pack2(o[d][2 * i] * r, o[d][2 * i + 1] * r);
    }
  }
}

// One form for each width of heads, with four warps for many queries of a run and one for few. Dynamic shared memory
// 2*(DP+8)*(16*WARPS + 2*KT) bytes.
#define ATTEND(DP, KT, WARPS)                                                                                                             \
  KERNEL void __launch_bounds__(32 * WARPS) attend_##DP##_##WARPS(const bf16* qkv, int ldq, int qw, int kvw, const bf16* pool, int layers,     \
      int layer, const int* tiles, const int* runs, const int* refs, bf16* out, int ldo, int head, int group, float scale) {              \
    attend<DP, KT, WARPS>(qkv, ldq, qw, kvw, pool, layers, layer, tiles, runs, refs, out, ldo, head, group, scale);                       \
  }                                                                                                                                       \
  REGISTER(attend_##DP##_##WARPS)

ATTEND(16, 64, 1);
ATTEND(16, 64, 4);
ATTEND(64, 64, 1);
ATTEND(64, 64, 4);
ATTEND(128, 32, 1);
ATTEND(128, 32, 4);
