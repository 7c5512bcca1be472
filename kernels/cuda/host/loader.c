// The CUDA driver, found when the program starts and not when it is linked: bin/corastream-gpu is built on machines without a
// driver and starts on them. Each driver function is a jump through a slot. cuInit fills the slots from libcuda.so.1 (or the file
// that CORASTREAM_LIBCUDA names); without one every function answers "no device", and cuInit itself says that all is well, since
// gorgonia.org/cu ends the process when it does not. cuDeviceGetCount tells the truth a moment later.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>

enum { SUCCESS = 0, NO_DEVICE = 100, NOT_FOUND = 500 };

static int no_device(void) { return NO_DEVICE; }
static int not_found(void) { return NOT_FOUND; }  // a driver that lacks the function
static int started = NO_DEVICE;
static int refuse(void) { return started; }

#define X(name) __attribute__((visibility("hidden"))) void* corastream_slot_##name = (void*)no_device;
#include "symbols.h"
#undef X

#if defined(__x86_64__)
#define JUMP(name) "jmp *corastream_slot_" #name "(%rip)\n"
#elif defined(__aarch64__)
#define JUMP(name) "adrp x16, corastream_slot_" #name "\nldr x16, [x16, :lo12:corastream_slot_" #name "]\nbr x16\n"
#else
#error "the GPU path is for amd64 and arm64"
#endif
#define X(name) __asm__(".text\n.globl " #name "\n.type " #name ",%function\n" #name ":\n" JUMP(name) ".size " #name ",.-" #name "\n");
#include "symbols.h"
#undef X

int cuInit(unsigned flags) {
  const char* named = getenv("CORASTREAM_LIBCUDA");
  void* lib = dlopen(named && *named ? named : "libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!lib) return SUCCESS;
  int (*init)(unsigned) = (int (*)(unsigned))dlsym(lib, "cuInit");
  started = init ? init(flags) : NOT_FOUND;
  void* p;
#define X(name) corastream_slot_##name = started ? (void*)refuse : (p = dlsym(lib, #name)) ? p : (void*)not_found;
#include "symbols.h"
#undef X
  return SUCCESS;
}
