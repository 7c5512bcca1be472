// The coroutines of shim.h. A launch runs on the thread that asks for it.
#include "../src/common.cuh"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <map>
#include <numeric>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace shim {
thread* self;
thread* mates;
shim_dim3 block_id, block_dim, grid_dim;
kernel* kernels;

static const int max_threads = 1024, stack_bytes = 256 << 10;
static thread* threads;
static unsigned char* stacks;
static unsigned char* shared;
static int shared_bytes;
static const kernel* running;
static void** arguments;
static char failure[256];
static bool backwards, drawn;  // the order of this launch
static uint64_t dice;
static void* scheduler;  // its stack pointer, while a coroutine runs

#if defined(__x86_64__)
// turn saves what a call has to keep, swaps stacks, and goes on there.
extern "C" void shim_turn(void** save, void* to);
asm(R"(
.text
.globl shim_turn
.type shim_turn,@function
shim_turn:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size shim_turn,.-shim_turn
)");
#else
static void shim_turn(void** save, void* to) {
  ucontext_t* mine = (ucontext_t*)malloc(sizeof(ucontext_t));
  *save = mine;
  swapcontext(mine, (ucontext_t*)to);
  free(mine);
}
#endif

static void yield() { shim_turn(&self->sp, scheduler); }

static void body() {
  running->call(running->f, arguments);
  if (self->copied && !failure[0]) snprintf(failure, sizeof failure, "%s: a thread ended with copies under way", running->name);
  self->waits = 3;
  yield();
  abort();
}

static void start(thread* t, unsigned char* stack) {
#if defined(__x86_64__)
  void** top = (void**)(stack + stack_bytes) - 3;  // as after a call: 8 past a multiple of 16
  *top = nullptr;
  *--top = (void*)body;
  for (int i = 0; i < 6; i++) *--top = nullptr;
  t->sp = top;
#else
  ucontext_t* c = (ucontext_t*)(stack);
  getcontext(c);
  c->uc_stack.ss_sp = stack + sizeof(ucontext_t) + 64;
  c->uc_stack.ss_size = stack_bytes - sizeof(ucontext_t) - 64;
  c->uc_link = nullptr;
  makecontext(c, body, 0);
  t->sp = c;
#endif
}

unsigned char* dynamic() { return shared; }
void barrier() { self->waits = 1; yield(); }
void warp_barrier(const char* at) { self->at = at; self->waits = 2; yield(); }
void fail(const char* why) {
  if (!failure[0]) snprintf(failure, sizeof failure, "%s: %s", running->name, why);
  self->waits = 3;
  yield();
}

// roll draws below n (splitmix64).
static unsigned roll(unsigned n) {
  uint64_t z = dice += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return (unsigned)((z ^ (z >> 31)) % n);
}

static void choose_order() {
  static char chosen[64];
  static uint64_t launches;
  const char* e = getenv("CORASTREAM_SHIM_ORDER");
  if (!e) e = "";
  if (strncmp(chosen, e, sizeof chosen - 1)) {
    snprintf(chosen, sizeof chosen, "%s", e);
    launches = 0;
  }
  backwards = !strcmp(e, "reverse");
  drawn = !strncmp(e, "random:", 7);
  if (drawn) dice = (uint64_t)strtoull(e + 7, nullptr, 10) << 32 ^ launches++;
}

static void resume(thread* t) {
  self = t;
  mates = threads + t->warp * 32;
  shim_turn(&scheduler, t->sp);
}

// What a kernel's accesses are held to. A build with -fsanitize=thread,alignment calls the functions behind this at each of them; no other
// build does, and then nothing here costs anything.

bool checked;

namespace {
// Who touched two bytes last. A thread of a block comes behind another when a barrier of the block lies between them, or one of their warp
// (__syncwarp; instructions that exchange registers order no memory). Blocks of a launch come in no order.
struct touch { uint32_t launch, epoch, lull; uint64_t block; int thread; bool many; };
struct cell { touch written, read; bool coming; };
const int cells = 2048;  // of a page
std::map<uint64_t, cell*> shadow;
uint64_t near_page = ~0ull;
cell* near_cells;
uint32_t launch_now, epoch_now, lulls[32];

cell* at_byte(uint64_t a) {
  uint64_t p = a >> 12;
  if (p != near_page) {
    cell*& c = shadow[p];
    if (!c) c = (cell*)calloc(cells, sizeof(cell));
    near_page = p;
    near_cells = c;
  }
  return near_cells + (a & 4095) / 2;
}

uint64_t block_now() { return block_id.x + (uint64_t)grid_dim.x * (block_id.y + (uint64_t)grid_dim.y * block_id.z); }

// beside says whether a thread may do what it does without regard to an earlier touch.
bool beside(const touch& t, bool global) {
  if (t.launch != launch_now) return true;
  if (t.block != block_now()) return !global;  // shared memory is another for each block
  if (t.epoch != epoch_now) return true;
  int me = (int)(self - threads);
  if (!t.many && t.thread == me) return true;
  return t.thread / 32 == me / 32 && t.thread >= 0 && t.lull != lulls[me / 32];
}

void complain(const char* what, const touch& t) {
  if (failure[0]) return;
  snprintf(failure, sizeof failure, "%s: %s: block %llu thread %d, beside block %llu thread %d%s", running->name, what, (unsigned long long)block_now(),
           (int)(self - threads), (unsigned long long)t.block, t.thread, t.many ? " and others" : "");
}

bool in_shared(uint64_t a) { return a >= (uint64_t)shared && a < (uint64_t)shared + (228 << 10); }
bool in_stack(uint64_t a) { return a >= (uint64_t)stacks && a < (uint64_t)stacks + (uint64_t)max_threads * stack_bytes; }
}  // namespace

extern "C" int corastream_block(uint64_t p, size_t n);

static void access(uint64_t a, size_t n, bool write, bool copy) {
  checked = true;
  if (!self || in_stack(a)) return;
  bool global = !in_shared(a);
  if (!global && a + n > (uint64_t)shared + shared_bytes) fail("shared memory past what the launch asked for");
  if (global) {
    int within = corastream_block(a, n);
    if (within < 0) return;  // the shim's own
    if (!within) fail("an access beside a buffer");  // it does not happen: the page may not be there
  }
  int me = (int)(self - threads);
  touch now = {launch_now, epoch_now, lulls[me / 32], block_now(), me, false};
  for (uint64_t b = a & ~1ull; b < a + n; b += 2) {
    cell* c = at_byte(b);
    if (c->coming && !copy && c->written.launch == launch_now && c->written.block == block_now()) complain("bytes that a copy is on its way to", c->written);
    if (!beside(c->written, global)) complain(write ? "two write the same bytes" : "read beside a write", c->written);
    if (write) {
      if (!beside(c->read, global)) complain("written beside a read", c->read);
      c->written = now;
    } else {
      touch& r = c->read;
      bool together = r.launch == launch_now && r.block == now.block && r.epoch == epoch_now && (r.thread != me || r.many);
      if (together) {
        bool same = r.thread >= 0 && r.thread / 32 == me / 32;
        r = now;
        r.many = true;
        if (!same) r.thread = -1;  // of several warps: none of their barriers is enough
      } else if (!(r.launch == launch_now && r.block != now.block && global)) {
        r = now;
      } else {
        r = now;  // of several blocks: any of them is enough to complain about a third
        r.many = true;
      }
    }
  }
}

void copy_begins(void* to, const void* from, bool there) {
  if (there) access((uint64_t)from, 16, false, false);
  access((uint64_t)to, 16, true, false);
  for (int i = 0; i < 16; i += 2) at_byte((uint64_t)to + i)->coming = true;
}
void copy_lands(void* to) {
  access((uint64_t)to, 16, true, true);
  for (int i = 0; i < 16; i += 2) at_byte((uint64_t)to + i)->coming = false;
}

// What moves the order on: a launch, a block, a barrier of a warp or (warp < 0) of the block.
static void launched() { launch_now++; }
static void begun() {
  epoch_now++;
  memset(lulls, 0, sizeof lulls);
}
static void crossed(int warp, const char* at) {
  if (warp < 0) epoch_now++;
  else if (!strcmp(at, "syncwarp")) lulls[warp]++;
}
}  // namespace shim

extern "C" {
#define ACCESS(n) \
  void __tsan_read##n(void* p) { shim::access((uint64_t)p, n, false, false); } \
  void __tsan_write##n(void* p) { shim::access((uint64_t)p, n, true, false); } \
  void __tsan_unaligned_read##n(void* p) { shim::access((uint64_t)p, n, false, false); } \
  void __tsan_unaligned_write##n(void* p) { shim::access((uint64_t)p, n, true, false); }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
void __tsan_read_range(void* p, size_t n) { shim::access((uint64_t)p, n, false, false); }
void __tsan_write_range(void* p, size_t n) { shim::access((uint64_t)p, n, true, false); }
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_init() {}
void __ubsan_handle_type_mismatch_v1(void*, void*) { shim::fail("an address that is not aligned to its type"); }
}

namespace shim {

// run_block runs the threads in turn until all have ended.
static void run_block(int count) {
  begun();
  memset(shared, 0xff, shared_bytes);
  for (int i = 0; i < count; i++) {
    thread* t = threads + i;
    t->id = {i % block_dim.x, i / block_dim.x % block_dim.y, i / block_dim.x / block_dim.y};
    t->lane = i % 32; t->warp = i / 32; t->waits = 0; t->copied = t->group_count = 0;
    start(t, stacks + (size_t)i * stack_bytes);
  }
  int warps = (count + 31) / 32, ready[max_threads / 32];
  for (;;) {
    bool moved = false;
    for (int j = 0; j < warps; j++) ready[j] = backwards ? warps - 1 - j : j;
    for (int left = warps; left > 0;) {
      int pick = drawn ? roll(left) : 0, w = ready[pick], lo = 32 * w, hi = lo + 32 < count ? lo + 32 : count;
      int lanes = hi - lo, from = drawn ? roll(lanes) : 0, step = drawn && lanes == 32 ? 1 + 2 * roll(16) : 1;
      for (int i = 0; i < lanes; i++) {
        thread* t = threads + (backwards ? hi - 1 - i : lo + (from + i * step) % lanes);
        if (t->waits == 0) { resume(t); moved = true; }
      }
      int at_warp = 0;
      const char* at = nullptr;
      bool same = true;
      for (int i = lo; i < hi; i++)
        if (threads[i].waits == 2) {
          at_warp++;
          if (at && strcmp(at, threads[i].at)) same = false;
          at = threads[i].at;
        }
      if (failure[0]) return;
      if (!at_warp) {  // at the block's barrier, or done: the next warp
        left--;
        for (int j = pick; j < left; j++) ready[j] = ready[j + 1];
        continue;
      }
      if (at_warp < lanes || lanes < 32 || !same) {
        snprintf(failure, sizeof failure, "%s: %d of %d lanes of warp %d at %s", running->name, at_warp, lanes, w, at);
        return;
      }
      for (int i = lo; i < hi; i++) threads[i].waits = 0;
      crossed(w, at);  // and on with it, or in a drawn order with any
    }
    int waiting = 0, ended = 0;
    for (int i = 0; i < count; i++) { waiting += threads[i].waits == 1; ended += threads[i].waits == 3; }
    if (ended == count) return;
    if (waiting == count) {
      for (int i = 0; i < count; i++) threads[i].waits = 0;
      crossed(-1, nullptr);
    } else if (!moved || waiting) {
      snprintf(failure, sizeof failure, "%s: %d threads at a barrier that %d have left behind", running->name, waiting, ended);
      return;
    }
  }
}
}  // namespace shim

// shim_launch runs a kernel; nullptr, or why it failed.
extern "C" const char* shim_launch(const char* name, const unsigned grid[3], const unsigned block[3], unsigned bytes, void** args) {
  using namespace shim;
  failure[0] = 0;
  running = nullptr;
  for (const kernel* k = kernels; k; k = k->next)
    if (!strcmp(k->name, name)) running = k;
  if (!running) { snprintf(failure, sizeof failure, "%s: no such kernel", name); return failure; }
  unsigned count = block[0] * block[1] * block[2];
  if (!count || count > max_threads || bytes > 227 << 10) { snprintf(failure, sizeof failure, "%s: bad shape", name); return failure; }
  if (!threads) {
    threads = (thread*)calloc(max_threads, sizeof(thread));
    stacks = (unsigned char*)mmap(nullptr, (size_t)max_threads * stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    shared = (unsigned char*)aligned_alloc(128, 228 << 10);
  }
  arguments = args;
  shared_bytes = (int)bytes;
  grid_dim = {grid[0], grid[1], grid[2]};
  block_dim = {block[0], block[1], block[2]};
  choose_order();
  launched();
  uint64_t all = (uint64_t)grid[0] * grid[1] * grid[2], first = drawn ? roll((unsigned)all) : 0, step = 1;
  if (drawn && all > 2)
    do step = 1 + roll((unsigned)(all - 1));
    while (std::gcd(step, all) != 1);
  for (uint64_t i = 0; i < all && !failure[0]; i++) {
    uint64_t b = backwards ? all - 1 - i : (first + i * step) % all;
    block_id = {(unsigned)(b % grid[0]), (unsigned)(b / grid[0] % grid[1]), (unsigned)(b / grid[0] / grid[1])};
    run_block((int)count);
  }
  return failure[0] ? failure : nullptr;
}

// shim_args gives the sizes of a kernel's arguments; -1 for an unknown one.
extern "C" int shim_args(const char* name, int sizes[32]) {
  for (const shim::kernel* k = shim::kernels; k; k = k->next)
    if (!strcmp(k->name, name)) {
      memcpy(sizes, k->sizes, sizeof k->sizes);
      return k->args;
    }
  return -1;
}
