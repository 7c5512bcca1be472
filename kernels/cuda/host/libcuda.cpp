// A CUDA driver without a device: the functions of libcuda that corastream calls, with kernels run by shim.cpp. Built by CI as
// .cache/cuda/libcuda-emulated.so, it lets the whole launch path run where no GPU is: modules, argument layout, order of streams,
// errors. It is as late as the rules allow: work on a stream happens when somebody waits for it, and copies from pinned memory
// read that memory only then, so that a missing event or a buffer reused too early shows as wrong numbers. Allocations begin
// as NaN, lie between pages that may not be touched, and what is left of their own pages must not change. They are aligned to 16
// bytes, no more: kernels may rely on that alone. Calls need a context that is current in their thread, blocks are at most as large as
// a kernel's launch bounds.
//
// CORASTREAM_EMULATE, read at every call, injects faults: "alloc:N:CODE" fails the Nth allocation from now on (counted from
// when the text last changed), "launch:N:CODE" the Nth launch, "nan:N" fills what the Nth launch's first pointer argument
// names with NaN before it runs, "memory:BYTES" limits the device's memory. "eager:1" has copies to the device happen at once,
// before what other streams still owe, as early as the rules allow. Several are separated by commas.
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

extern "C" const char* shim_launch(const char*, const unsigned[3], const unsigned[3], unsigned, void**);
extern "C" int shim_args(const char*, int[32]);

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, INVALID_PTX = 218, INVALID_HANDLE = 400, NOT_FOUND = 500,
       ILLEGAL_ADDRESS = 700, LAUNCH_FAILED = 719 };

struct Event;
struct Op { std::function<int()> run; Event* wait; Event* done; long record; };  // the record waited for, or made
struct Stream { std::deque<Op> ops; };
struct Event { Stream* on = nullptr; long recorded = 0, reached = 0; double at = 0; };
struct Function { std::string name; std::vector<int> sizes; int shared = 48 << 10; long most = 1024; };  // most: threads of a block
struct Module { std::map<std::string, Function> functions; };
struct Block { size_t bytes, mapped; char* base; };

static std::map<uint64_t, Block> device, pinned;
static uint64_t used;
static int sticky;  // an error that the context never recovers from
static thread_local void* context;  // the current one of a thread, as the driver has it
static int live_contexts;
// what stands in for a call: its context's error, or that there is none
static int barred() { return !context ? INVALID_CONTEXT : sticky; }

static std::string spec;
static long allocs, launches;
// rule finds "what:N[:CODE]"; -1 where there is none.
static long rule(const char* what, long* code) {
  const char* e = getenv("CORASTREAM_EMULATE");
  std::string now = e ? e : "";
  if (now != spec) { spec = now; allocs = launches = 0; }
  size_t p = 0;
  while (p < now.size()) {
    size_t q = now.find(',', p);
    std::string one = now.substr(p, q == std::string::npos ? q : q - p);
    if (!one.compare(0, strlen(what) + 1, std::string(what) + ":")) {
      char* end;
      long n = strtol(one.c_str() + strlen(what) + 1, &end, 10);
      if (code) *code = *end == ':' ? atol(end + 1) : 0;
      return n;
    }
    if (q == std::string::npos) break;
    p = q + 1;
  }
  return -1;
}

static double now_ms() { timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1e3 + t.tv_nsec * 1e-6; }

// drain runs what is on a stream; of an event's, only up to a record.
static void drain(Stream* s, Event* until, long record) {
  while (!s->ops.empty()) {
    if (until && until->reached >= record) return;
    Op op = s->ops.front();
    s->ops.pop_front();
    if (op.wait && op.wait->reached < op.record) drain(op.wait->on, op.wait, op.record);
    if (op.run && !sticky) {
      int r = op.run();
      if (r) sticky = r;
    }
    if (op.done) { op.done->reached = op.record; op.done->at = now_ms(); }
  }
}

static bool inside(uint64_t p, size_t n) {
  auto it = device.upper_bound(p);
  if (it == device.begin()) return false;
  --it;
  return p + n <= it->first + it->second.bytes;
}

static const size_t page = 4096;

static int map_block(std::map<uint64_t, Block>& into, size_t n, uint64_t* out) {
  size_t body = (n + page - 1) / page * page;
  char* base = (char*)mmap(nullptr, body + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return OUT_OF_MEMORY;
  mprotect(base + page, body, PROT_READ | PROT_WRITE);
  memset(base + page, 0xff, body);
  char* p = base + page + (body - n) / 16 * 16;  // as near to the page behind as kernels' alignment allows
  into[(uint64_t)p] = {n, body + 2 * page, base};
  *out = (uint64_t)p;
  return SUCCESS;
}

// unmap_block gives a block back and says whether anything was written beside it.
static int unmap_block(std::map<uint64_t, Block>& from, std::map<uint64_t, Block>::iterator it) {
  char *p = (char*)it->first, *lo = it->second.base + page, *hi = it->second.base + it->second.mapped - page;
  int r = SUCCESS;
  for (char* c = lo; c < hi; c++) {
    if (c == p) c += it->second.bytes;
    if (c < hi && *c != (char)0xff) r = ILLEGAL_ADDRESS;
  }
  if (r) fprintf(stderr, "emulated device: something was written beside a block of %zu bytes\n", it->second.bytes);
  munmap(it->second.base, it->second.mapped);
  from.erase(it);
  return r;
}

// corastream_block finds the block that an address lies in or beside, for shim.cpp: 1 within it, 0 beside, -1 none.
extern "C" int corastream_block(uint64_t p, size_t n) {
  auto it = device.upper_bound(p + page);
  for (int i = 0; i < 2 && it != device.begin(); i++) {
    --it;
    if (p >= it->first && p + n <= it->first + it->second.bytes) return 1;
    if (p >= (uint64_t)it->second.base && p < (uint64_t)it->second.base + it->second.mapped) return 0;
  }
  return -1;
}

extern "C" {
int cuInit(unsigned) { return SUCCESS; }
int cuDriverGetVersion(int* v) { *v = 11080; return SUCCESS; }
int cuDeviceGetCount(int* n) { long c = rule("devices", nullptr); *n = c < 0 ? 1 : (int)c; return SUCCESS; }
int cuDeviceGet(int* d, int i) { *d = i; return i ? INVALID_VALUE : SUCCESS; }
int cuDeviceGetName(char* name, int n, int) { snprintf(name, n, "emulated device"); return SUCCESS; }
int cuDeviceTotalMem_v2(size_t* n, int) { *n = (size_t)1 << 30; return SUCCESS; }
int cuDeviceGetAttribute(int* v, int what, int) {
  switch (what) {
    case 16: *v = 4; break;            // multiprocessors
    case 75: *v = 8; break;            // compute capability 8.0
    case 76: *v = 0; break;
    case 97: *v = 163 << 10; break;    // shared memory of a block, opted in
    default: *v = 0;
  }
  return SUCCESS;
}
int cuCtxCreate_v2(void** c, unsigned, int) { live_contexts++; sticky = 0; *c = context = malloc(1); return SUCCESS; }
int cuCtxDestroy_v2(void* c) {
  live_contexts--;
  free(c);
  context = nullptr;
  int r = SUCCESS;
  while (!device.empty())
    if (int e = unmap_block(device, device.begin())) r = e;
  used = 0;
  return r;
}
int cuCtxSetCurrent(void* c) { context = c; return SUCCESS; }
int cuCtxSynchronize() { return barred(); }

// cuModuleLoadData reads names and parameter sizes from the PTX text and holds them to the kernels compiled for the host.
int cuModuleLoadData(void** out, const void* image) {
  if (int e = barred()) return e;
  std::string ptx((const char*)image);
  if (ptx.find(".version 7.0\n") == std::string::npos || ptx.find(".target sm_80\n") == std::string::npos) return INVALID_PTX;
  Module* m = new Module;
  const char* mark = ".visible .entry ";
  for (size_t p = ptx.find(mark); p != std::string::npos; p = ptx.find(mark, p + 1)) {
    size_t open = ptx.find('(', p), close = ptx.find(')', p);
    Function f;
    f.name = ptx.substr(p + strlen(mark), open - p - strlen(mark));
    std::string params = ptx.substr(open, close - open);
    size_t bounds = ptx.find(".maxntid ", close), text = ptx.find('{', close);
    if (bounds < text) {  // up to three numbers
      f.most = 1;
      for (const char* c = ptx.c_str() + bounds + 9;; c++) {
        char* end;
        f.most *= strtol(c, &end, 10);
        c = end;
        if (*c != ',') break;
      }
    }
    for (size_t q = params.find(".param ."); q != std::string::npos; q = params.find(".param .", q + 1))
      f.sizes.push_back(atoi(params.c_str() + q + 9) / 8);
    int sizes[32], n = shim_args(f.name.c_str(), sizes);
    bool same = n == (int)f.sizes.size();
    for (int i = 0; same && i < n; i++) same = sizes[i] == f.sizes[i];
    if (!same) {
      fprintf(stderr, "emulated driver: kernel %s: PTX and host build differ in their parameters\n", f.name.c_str());
      delete m;
      return INVALID_PTX;
    }
    m->functions[f.name] = f;
  }
  *out = m;
  return SUCCESS;
}
int cuModuleLoadDataEx(void** out, const void* image, unsigned n, const int* options, void** values) {
  int r = cuModuleLoadData(out, image);
  char* log = nullptr;
  size_t room = 0;
  for (unsigned i = 0; i < n; i++) {
    if (options[i] == 5) log = (char*)values[i];
    if (options[i] == 6) room = (size_t)values[i];
  }
  if (r && log) snprintf(log, room, "emulated compiler: not PTX 7.0 for sm_80, or not the kernels of this build\n");
  return r;
}
int cuModuleUnload(void* m) { delete (Module*)m; return SUCCESS; }
int cuModuleGetFunction(void** out, void* mod, const char* name) {
  Module* m = (Module*)mod;
  auto it = m->functions.find(name);
  if (it == m->functions.end()) return NOT_FOUND;
  *out = &it->second;
  return SUCCESS;
}
int cuFuncSetAttribute(void* f, int what, int v) {
  if (what == 8) ((Function*)f)->shared = v;
  return SUCCESS;
}

int cuMemGetInfo_v2(size_t* free_bytes, size_t* total) {
  long limit = rule("memory", nullptr);
  *total = limit > 0 ? limit : (size_t)1 << 30;
  *free_bytes = *total - used;
  return SUCCESS;
}
int cuMemAlloc_v2(uint64_t* out, size_t n) {
  long code = 0, nth = rule("alloc", &code), limit = rule("memory", nullptr);
  if (int e = barred()) return e;
  if (!n) return INVALID_VALUE;
  allocs++;
  if (nth > 0 && allocs >= nth) return (int)code;
  if (limit > 0 && used + n > (uint64_t)limit) return OUT_OF_MEMORY;
  int r = map_block(device, n, out);
  if (!r) used += n;
  return r;
}
int cuMemFree_v2(uint64_t p) {
  if (int e = barred()) return e;
  auto it = device.find(p);
  if (it == device.end()) return INVALID_VALUE;
  used -= it->second.bytes;
  int r = unmap_block(device, it);
  if (r) sticky = r;
  return r;
}
int cuMemAllocHost_v2(void** out, size_t n) {
  if (int e = barred()) return e;
  return map_block(pinned, n, (uint64_t*)out);
}
int cuMemFreeHost(void* p) {
  if (!context) return INVALID_CONTEXT;
  auto it = pinned.find((uint64_t)p);
  if (it == pinned.end()) return INVALID_VALUE;
  return unmap_block(pinned, it);
}

int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t n, void* s) {
  if (int e = barred()) return e;
  if (!inside(to, n)) return INVALID_VALUE;
  auto it = pinned.upper_bound((uint64_t)from);
  bool late = it != pinned.begin() && (--it, (uint64_t)from + n <= it->first + it->second.bytes);
  if (late) {
    ((Stream*)s)->ops.push_back({[=] { memcpy((void*)to, from, n); return SUCCESS; }, nullptr, nullptr, 0});
  } else {  // pageable memory is read before the call returns
    std::vector<char> copy((const char*)from, (const char*)from + n);
    ((Stream*)s)->ops.push_back({[=] { memcpy((void*)to, copy.data(), n); return SUCCESS; }, nullptr, nullptr, 0});
  }
  if (rule("eager", nullptr) > 0) drain((Stream*)s, nullptr, 0);
  return SUCCESS;
}
int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t n, void* s) {
  if (int e = barred()) return e;
  if (!inside(from, n)) return INVALID_VALUE;
  ((Stream*)s)->ops.push_back({[=] { memcpy(to, (void*)from, n); return SUCCESS; }, nullptr, nullptr, 0});
  return SUCCESS;
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t n, void* s) {
  if (int e = barred()) return e;
  if (!inside(from, n) || !inside(to, n)) return INVALID_VALUE;
  ((Stream*)s)->ops.push_back({[=] { memmove((void*)to, (void*)from, n); return SUCCESS; }, nullptr, nullptr, 0});
  return SUCCESS;
}
int cuMemsetD8Async(uint64_t p, unsigned char v, size_t n, void* s) {
  if (int e = barred()) return e;
  if (!inside(p, n)) return INVALID_VALUE;
  ((Stream*)s)->ops.push_back({[=] { memset((void*)p, v, n); return SUCCESS; }, nullptr, nullptr, 0});
  return SUCCESS;
}

int cuStreamCreate(void** s, unsigned) { *s = new Stream; return barred(); }
int cuStreamDestroy_v2(void* s) { drain((Stream*)s, nullptr, 0); delete (Stream*)s; return SUCCESS; }
int cuStreamSynchronize(void* s) { drain((Stream*)s, nullptr, 0); return sticky; }
int cuStreamWaitEvent(void* s, void* e, unsigned) {
  if (int r = barred()) return r;
  ((Stream*)s)->ops.push_back({nullptr, (Event*)e, nullptr, ((Event*)e)->recorded});
  return SUCCESS;
}
int cuEventCreate(void** e, unsigned) { *e = new Event; return barred(); }
int cuEventDestroy_v2(void* e) { delete (Event*)e; return SUCCESS; }
int cuEventRecord(void* ev, void* s) {
  if (int e = barred()) return e;
  Event* e = (Event*)ev;
  e->on = (Stream*)s;
  e->on->ops.push_back({nullptr, nullptr, e, ++e->recorded});
  return SUCCESS;
}
int cuEventSynchronize(void* ev) {
  Event* e = (Event*)ev;
  if (e->on) drain(e->on, e, e->recorded);
  return sticky;
}
int cuEventElapsedTime(float* ms, void* a, void* b) { *ms = (float)(((Event*)b)->at - ((Event*)a)->at); return SUCCESS; }
int cuEventElapsedTime_v2(float* ms, void* a, void* b) { return cuEventElapsedTime(ms, a, b); }

int cuLaunchKernel(void* fn, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void* s, void** params, void**) {
  long code = 0, nth = rule("launch", &code), nan = rule("nan", nullptr);
  Function* f = (Function*)fn;
  if (int e = barred()) return e;
  launches++;
  if (nth > 0 && launches == nth) {
    if (code >= 700) sticky = (int)code;
    return (int)code;
  }
  if (!gx || !gy || !gz || gy > 65535 || gz > 65535 || (int)shared > f->shared || (long)bx * by * bz > f->most) return INVALID_VALUE;
  std::vector<uint64_t> values(f->sizes.size());
  for (size_t i = 0; i < values.size(); i++) memcpy(&values[i], params[i], f->sizes[i]);
  bool poison = nan > 0 && launches == nan;
  std::string name = f->name;
  std::vector<int> sizes = f->sizes;
  ((Stream*)s)->ops.push_back({[=]() mutable {
    std::vector<void*> p;
    for (auto& v : values) p.push_back(&v);
    if (poison)
      for (size_t i = 0; i < values.size(); i++)
        if (sizes[i] == 8 && device.count(values[i])) { memset((void*)values[i], 0xff, device[values[i]].bytes); break; }
    unsigned grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
    const char* why = shim_launch(name.c_str(), grid, block, shared, p.data());
    if (why) { fprintf(stderr, "emulated device: %s\n", why); return (int)LAUNCH_FAILED; }
    return (int)SUCCESS;
  }, nullptr, nullptr, 0});
  return SUCCESS;
}
}
