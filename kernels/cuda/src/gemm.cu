// Matrix products on tensor cores, with what follows each in a transformer done while the result is still in registers.
//
//   C[i][n] = sum over k<K of A[i][k] W[n][k]  +  sum over k<K2 of A2[i][k] W2[n][k]
//
// A, W, A2, W2 are bf16, sums float. The second pair is the low-rank delta (A2 = T, W2 = (alpha/r) P^T): one launch serves rows
// with and without one, each with its own W_A. K and K2 are multiples of 32 (rows padded with zeros), rows 16-byte aligned,
// N is even. Blocks of 128 threads; dynamic shared memory 3*(BM+BN)*64 bytes.
#include "common.cuh"

struct Epilogue {
  void* out;            // float or bf16, see the kinds
  int ldo;              // its row stride, in values
  const float* bias;    // [N] or null
  const float* angles;  // ROPE: [position][headDim], cosines then sines
  const int* pos;       // ROPE: positions [M]; FLOATS, BF16S, ADD: the row of out that each row goes to, or null for its own
  int turned, head;     // ROPE: columns that turn, headDim
};

// The kinds of end. Pairs of columns (2j, 2j+1) lie in one lane, so what turns or multiplies together is laid side by side:
// rows of q and k as pairs (i, i+headDim/2), rows of gate and up alternating.
enum { FLOATS, BF16S, GELU_BF16, ADD, ROPE, SWIGLU };

struct alignas(8) Pair { float x, y; };  // written at once: ldo is even

template <int KIND>
static __device__ __forceinline__ void finish(const Epilogue& e, int row, int col, float x, float y) {
  if (e.bias) { x += e.bias[col]; y += e.bias[col + 1]; }
  if ((KIND == FLOATS || KIND == BF16S || KIND == ADD) && e.pos) row = e.pos[row];
  size_t at = (size_t)row * e.ldo + col;
  if (KIND == FLOATS) {
    *(Pair*)((float*)e.out + at) = Pair{x, y};
  } else if (KIND == ADD) {
    Pair* to = (Pair*)((float*)e.out + at);
    Pair old = *to;
    *to = Pair{old.x + x, old.y + y};
  } else if (KIND == SWIGLU) {
    ((bf16*)e.out)[(size_t)row * e.ldo + col / 2] = narrow(x / (1.f + expf(-x)) * y);
  } else {
    if (KIND == GELU_BF16) { x = gelu(x); y = gelu(y); }
    if (KIND == ROPE && col < e.turned) {
      const float* a = e.angles + (size_t)e.pos[row] * e.head + col % e.head / 2;
      float c = a[0], s = a[e.head / 2], p = x;
      x = p * c - y * s;
      y = p * s + y * c;
    }
    *(uint32_t*)((bf16*)e.out + at) = pack2(x, y);
  }
}

// at is where 16-byte chunk c (of 4) of a row lies: two rows share 128 bytes, and chunks are turned so that eight rows read
// at the same chunk touch all banks.
static __device__ __forceinline__ int at(int row, int c) { return row * 32 + ((c ^ (row >> 1 & 3)) * 8); }

// gemm gives each warp WM x WN of a block's BM x BN; 4 warps. Three tiles of 32 k are under way at a time.
template <int BM, int BN, int WM, int WN, int KIND>
static __device__ __forceinline__ void gemm(const bf16* A, int lda, const bf16* W, int ldw, const bf16* A2, int lda2, const bf16* W2, int ldw2,
                                            int M, int N, int K, int K2, const Epilogue& e) {
  const int stages = 3, threads = 128;
  SHARED_BYTES(bytes);
  bf16* tiles = (bf16*)bytes;
  int tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
  int m0 = blockIdx.y * BM, n0 = blockIdx.x * BN;
  int wm = warp % (BM / WM) * WM, wn = warp / (BM / WM) * WN;
  int steps = (K + K2) / 32;

  auto fetch = [&](int step) {
    bf16* a = tiles + step % stages * (BM + BN) * 32;
    bf16* w = a + BM * 32;
    int k = step * 32;
    const bf16 *from_a = A, *from_w = W;
    int sa = lda, sw = ldw;
    if (k >= K) { k -= K; from_a = A2; from_w = W2; sa = lda2; sw = ldw2; }
    UNROLL for (int i = 0; i < BM * 4 / threads; i++) {
      int r = (tid + i * threads) / 4, c = tid % 4;
      bool there = m0 + r < M;
      copy16(a + at(r, c), from_a + (size_t)(there ? m0 + r : 0) * sa + k + c * 8, there);
    }
    UNROLL for (int i = 0; i < BN * 4 / threads; i++) {
      int r = (tid + i * threads) / 4, c = tid % 4;
      bool there = n0 + r < N;
      copy16(w + at(r, c), from_w + (size_t)(there ? n0 + r : 0) * sw + k + c * 8, there);
    }
  };

  float acc[WM / 16][WN / 8][4];
  UNROLL for (int i = 0; i < WM / 16; i++)
    UNROLL for (int j = 0; j < WN / 8; j++)
      UNROLL for (int x = 0; x < 4; x++) acc[i][j][x] = 0.f;

  UNROLL for (int s = 0; s < stages - 1; s++) {
    if (s < steps) fetch(s);
    copy_commit();
  }
  ROLLED for (int step = 0; step < steps; step++) {
    copy_wait<stages - 2>();
    __syncthreads();  // this step's tile is there, and all have read the tile that the next fetch overwrites
    if (step + stages - 1 < steps) fetch(step + stages - 1);
    copy_commit();
    const bf16* a = tiles + step % stages * (BM + BN) * 32;
    const bf16* w = a + BM * 32;
    UNROLL for (int kk = 0; kk < 2; kk++) {
      uint32_t fa[WM / 16][4], fw[WN / 16][4];
      UNROLL for (int i = 0; i < WM / 16; i++) ldmatrix4(fa[i], a + at(wm + i * 16 + lane % 16, kk * 2 + lane / 16));
      UNROLL for (int j = 0; j < WN / 16; j++) ldmatrix4(fw[j], w + at(wn + j * 16 + lane % 8 + lane / 16 * 8, kk * 2 + lane / 8 % 2));
      UNROLL for (int i = 0; i < WM / 16; i++)
        UNROLL for (int j = 0; j < WN / 8; j++) mma(acc[i][j], fa[i], fw[j / 2][j % 2 * 2], fw[j / 2][j % 2 * 2 + 1]);
    }
  }
  copy_wait<0>();
  UNROLL for (int i = 0; i < WM / 16; i++) {
    int row = m0 + wm + i * 16 + lane / 4;
    UNROLL for (int j = 0; j < WN / 8; j++) {
      int col = n0 + wn + j * 8 + lane % 4 * 2;
      if (col >= N) continue;
      if (row < M) finish<KIND>(e, row, col, acc[i][j][0], acc[i][j][1]);
      if (row + 8 < M) finish<KIND>(e, row + 8, col, acc[i][j][2], acc[i][j][3]);
    }
  }
}

// Two sizes of block: large ones for many rows, small ones so that few rows still fill the device.
#define GEMM(name, KIND)                                                                                                          \
  KERNEL void __launch_bounds__(128) name##_large(const bf16* A, int lda, const bf16* W, int ldw, const bf16* A2, int lda2,      \
      const bf16* W2, int ldw2, int M, int N, int K, int K2, void* out, int ldo, const float* bias, const float* angles,          \
      const int* pos, int turned, int head) {                                                                                     \
    Epilogue e = {out, ldo, bias, angles, pos, turned, head};                                                                     \
    gemm<128, 128, 64, 64, KIND>(A, lda, W, ldw, A2, lda2, W2, ldw2, M, N, K, K2, e);                                             \
  }                                                                                                                               \
  REGISTER(name##_large);                                                                                                         \
  KERNEL void __launch_bounds__(128) name##_small(const bf16* A, int lda, const bf16* W, int ldw, const bf16* A2, int lda2,      \
      const bf16* W2, int ldw2, int M, int N, int K, int K2, void* out, int ldo, const float* bias, const float* angles,          \
      const int* pos, int turned, int head) {                                                                                     \
    Epilogue e = {out, ldo, bias, angles, pos, turned, head};                                                                     \
    gemm<32, 64, 32, 16, KIND>(A, lda, W, ldw, A2, lda2, W2, ldw2, M, N, K, K2, e);                                               \
  }                                                                                                                               \
  REGISTER(name##_small)

GEMM(gemm_floats, FLOATS);
GEMM(gemm_bf16, BF16S);
GEMM(gemm_gelu, GELU_BF16);
GEMM(gemm_add, ADD);
GEMM(gemm_rope, ROPE);
GEMM(gemm_swiglu, SWIGLU);
