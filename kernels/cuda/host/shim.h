// Runs CUDA kernels on a CPU: the words of CUDA C that our kernels use, in plain C++. A block's threads are coroutines that
// run one after the other, in order, until each waits at a barrier; blocks run one after the other. Made to find mistakes, not
// to be fast:
//   - shared memory begins as NaN, and copies to it land only when their group is waited for;
//   - a thread that waits where others have left, or lanes of a warp at different instructions, end the launch with an error;
//   - the order of blocks, warps and lanes can be turned round or drawn (CORASTREAM_SHIM_ORDER, read at every launch: "reverse" or
//     "random:SEED", where warps also take turns at each of their own barriers): a result that depends on it is a missing barrier;
//   - compiled with -fsanitize=thread,alignment (races_gpu_test.go does), every access of a kernel is held to what threads may do beside
//     each other: two that touch the same bytes, one writing, without a barrier between them end the launch with an error. So do accesses
//     beside a buffer, to bytes that a copy is on its way to, and at addresses that the device could not read at once.
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <utility>

#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define SHIM_OWN __attribute__((no_sanitize("thread", "alignment")))  // what is no access of the kernel's
#define __shared__ static
#define __launch_bounds__(...)
#define __restrict__
#define UNROLL
#define ROLLED
#define KERNEL extern "C"
#define SHARED_BYTES(name) unsigned char* name = shim::dynamic()

struct shim_dim3 { unsigned x, y, z; };

namespace shim {
struct thread {  // one coroutine
  void* sp;
  shim_dim3 id;
  int lane, warp, waits;   // waits: 0 runs, 1 at the block's barrier, 2 at a warp's, 3 done
  const char* at;          // which warp instruction it waits at
  unsigned char box[64];   // what a lane gives to its warp
  struct copy { void* to; const void* from; bool there; };
  copy copies[256];
  int copied, groups[16], group_count;
};
extern thread* self;       // the one that runs
extern thread* mates;      // lane 0 of its warp
extern shim_dim3 block_id, block_dim, grid_dim;
unsigned char* dynamic();
void barrier();
void warp_barrier(const char* at);
void fail(const char* why);
// What copies to shared memory do, for the checks above; nothing in a build without them.
extern bool checked;
void copy_begins(void* to, const void* from, bool there);
void copy_lands(void* to);

typedef void (*invoker)(void (*)(), void**);
struct kernel {
  const char* name;
  void (*f)();
  invoker call;
  int args;
  int sizes[32];
  kernel* next;
};
extern kernel* kernels;

template <class... A, size_t... I>
inline void spread(void (*f)(A...), void** p, std::index_sequence<I...>) { f(*(A*)p[I]...); }
template <class F> struct caller;
template <class... A> struct caller<void (*)(A...)> {
  static void call(void (*f)(), void** p) { spread((void (*)(A...))f, p, std::index_sequence_for<A...>{}); }
  static void sizes(int* s) { int v[] = {(int)sizeof(A)...}; for (size_t i = 0; i < sizeof...(A); i++) s[i] = v[i]; }
  static constexpr int count = sizeof...(A);
};
struct enrol {
  kernel k;
  template <class F> enrol(const char* name, F f) {
    k.name = name; k.f = (void (*)())f; k.call = caller<F>::call; k.args = caller<F>::count;
    caller<F>::sizes(k.sizes);
    k.next = kernels; kernels = &k;
  }
};
}  // namespace shim

#define REGISTER(name) static shim::enrol enrol_##name(#name, &name)
#define threadIdx (shim::self->id)
#define blockIdx shim::block_id
#define blockDim shim::block_dim
#define gridDim shim::grid_dim
static inline void __syncthreads() { shim::barrier(); }
static inline void __syncwarp() { shim::warp_barrier("syncwarp"); }
using ::fmaxf;
static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }

static inline float bits_float(uint32_t v) { float f; memcpy(&f, &v, 4); return f; }
static inline uint32_t float_bits(float v) { uint32_t u; memcpy(&u, &v, 4); return u; }

static inline uint32_t shim_round(float v) {
  uint32_t u = float_bits(v);
  if (v != v) return 0x7fff;  // as cvt.rn.bf16x2 does
  return (u + 0x7fff + (u >> 16 & 1)) >> 16;
}
static inline uint32_t pack2(float lo, float hi) { return shim_round(lo) | shim_round(hi) << 16; }

// Warp instructions: a lane leaves what it gives, waits for the others, reads theirs, and waits until all have read.
template <class T> static inline void shim_give(const T& v, const char* at) {
  static_assert(sizeof(T) <= sizeof(shim::self->box), "box");
  memcpy(shim::self->box, &v, sizeof(T));
  shim::warp_barrier(at);
}
template <class T> static inline const T& shim_of(int lane) { return *(const T*)shim::mates[lane].box; }

static inline float shuffle_xor(float v, int lanes) {
  shim_give(v, "shuffle_xor");
  float r = shim_of<float>(shim::self->lane ^ lanes);
  shim::warp_barrier("shuffle_xor: read");
  return r;
}

static inline void ldmatrix4(uint32_t r[4], const bf16* row) {
  shim_give(row, "ldmatrix4");
  int i = shim::self->lane;
  for (int m = 0; m < 4; m++) {
    const bf16* p = shim_of<const bf16*>(8 * m + i / 4);
    if ((uintptr_t)p % 16) shim::fail("ldmatrix: a row that is not aligned to 16 bytes");
    r[m] = p[2 * (i % 4)] | (uint32_t)p[2 * (i % 4) + 1] << 16;
  }
  shim::warp_barrier("ldmatrix4: read");
}
static inline void ldmatrix4t(uint32_t r[4], const bf16* row) {
  shim_give(row, "ldmatrix4t");
  int i = shim::self->lane;
  for (int m = 0; m < 4; m++) {
    const bf16* p = shim_of<const bf16*>(8 * m + 2 * (i % 4));
    const bf16* q = shim_of<const bf16*>(8 * m + 2 * (i % 4) + 1);
    if ((uintptr_t)p % 16 || (uintptr_t)q % 16) shim::fail("ldmatrix: a row that is not aligned to 16 bytes");
    r[m] = p[i / 4] | (uint32_t)q[i / 4] << 16;
  }
  shim::warp_barrier("ldmatrix4t: read");
}

struct shim_operands { uint32_t a[4], b[2]; };
static inline float shim_half(uint32_t v, int hi) { return bits_float(hi ? v & 0xffff0000u : v << 16); }
static inline void mma(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
  shim_operands o = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
  shim_give(o, "mma");
  int g = shim::self->lane / 4, t = 2 * (shim::self->lane % 4);
  for (int k = 0; k < 16; k++) {  // A(row, k) lies with lane 4*(row%8) + k%8/2; B(k, column) with lane 4*column + k%8/2
    int from = k % 8 / 2, half = k % 2, part = k / 8;
    const shim_operands& x = shim_of<shim_operands>(4 * g + from);
    float top = shim_half(x.a[2 * part], half), low = shim_half(x.a[2 * part + 1], half);
    for (int j = 0; j < 2; j++) {
      float w = shim_half(shim_of<shim_operands>(4 * (t + j) + from).b[part], half);
      c[j] += top * w;
      c[2 + j] += low * w;
    }
  }
  shim::warp_barrier("mma: read");
}

static inline void copy16(void* to, const void* from, bool there) {
  shim::thread* s = shim::self;
  if ((uintptr_t)to % 16 || (there && (uintptr_t)from % 16)) shim::fail("cp.async: an address that is not aligned to 16 bytes");
  if (s->copied == 256) shim::fail("cp.async: over 256 copies of one thread under way");
  if (shim::checked) shim::copy_begins(to, from, there);
  s->copies[s->copied++] = {to, from, there};
}
static inline void copy_commit() {
  shim::thread* s = shim::self;
  if (s->group_count == 16) shim::fail("cp.async: over 16 groups under way");
  s->groups[s->group_count++] = s->copied;  // copies up to here
}
template <int N> SHIM_OWN static inline void copy_wait() {
  shim::thread* s = shim::self;
  int done = s->group_count - N;
  if (done <= 0) return;
  int n = s->groups[done - 1];
  for (int i = 0; i < n; i++) {
    if (shim::checked) shim::copy_lands(s->copies[i].to);
    if (s->copies[i].there) memcpy(s->copies[i].to, s->copies[i].from, 16);
    else memset(s->copies[i].to, 0, 16);
  }
  memmove(s->copies, s->copies + n, sizeof(s->copies[0]) * (s->copied - n));
  s->copied -= n;
  for (int i = done; i < s->group_count; i++) s->groups[i - done] = s->groups[i] - n;
  s->group_count -= done;
}

static inline void atomic_add(float* p, float v) { *p += v; }
