// The coroutines of shim.h. A launch runs on the thread that asks for it.
#include "../src/common.cuh"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
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
static bool backwards = getenv("CORASTREAM_SHIM_ORDER") && !strcmp(getenv("CORASTREAM_SHIM_ORDER"), "reverse");
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

static void resume(thread* t) {
  self = t;
  mates = threads + t->warp * 32;
  shim_turn(&scheduler, t->sp);
}

// run_block runs the threads in turn until all have ended.
static void run_block(int count) {
  memset(shared, 0xff, shared_bytes);
  for (int i = 0; i < count; i++) {
    thread* t = threads + i;
    t->id = {i % block_dim.x, i / block_dim.x % block_dim.y, i / block_dim.x / block_dim.y};
    t->lane = i % 32; t->warp = i / 32; t->waits = 0; t->copied = t->group_count = 0;
    start(t, stacks + (size_t)i * stack_bytes);
  }
  int warps = (count + 31) / 32;
  for (;;) {
    bool moved = false;
    for (int j = 0; j < warps; j++) {
      int w = backwards ? warps - 1 - j : j, lo = 32 * w, hi = lo + 32 < count ? lo + 32 : count;
      for (;;) {  // a warp goes on as long as its own barriers open
        for (int i = 0; i < hi - lo; i++) {
          thread* t = threads + (backwards ? hi - 1 - i : lo + i);
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
        if (!at_warp) break;
        if (at_warp < hi - lo || hi - lo < 32 || !same) {
          if (!failure[0]) snprintf(failure, sizeof failure, "%s: %d of %d lanes of warp %d at %s", running->name, at_warp, hi - lo, w, at);
          return;
        }
        for (int i = lo; i < hi; i++) threads[i].waits = 0;
      }
    }
    if (failure[0]) return;
    int waiting = 0, ended = 0;
    for (int i = 0; i < count; i++) { waiting += threads[i].waits == 1; ended += threads[i].waits == 3; }
    if (ended == count) return;
    if (waiting == count) {
      for (int i = 0; i < count; i++) threads[i].waits = 0;
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
  for (unsigned z = 0; z < grid[2]; z++)
    for (unsigned y = 0; y < grid[1]; y++)
      for (unsigned x = 0; x < grid[0] && !failure[0]; x++) {
        block_id = {x, y, z};
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
