// Times llama.cpp on the prompts that `corastream bench llm --prompts-out` wrote, as well as its API allows: many sequences in one
// batch, logits wanted of last tokens alone, a shared beginning decoded once and copied to the other sequences' caches. Each
// case is run in every way that applies, for `seconds`; the best way's median is printed as a JSON line. The whole row of the
// vocabulary is computed for each last token: llama.cpp has no way to ask for two of its values.
//
//	llamacpp MODEL PROMPTS THREADS SECONDS KV_MIB CASE[=WAY]...
//
// WAY, as an earlier run printed it, leaves the other ways out.
// KV_MIB > 0 makes a cache of that size for the peak of memory; 0 one as large as the cases need.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "llama.h"

using Prompts = std::vector<std::vector<llama_token>>;

static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static double cpu() {
    rusage r;
    getrusage(RUSAGE_SELF, &r);
    return r.ru_utime.tv_sec + r.ru_stime.tv_sec + (r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

static void check(bool ok, const char * what) {
    if (!ok) {
        fprintf(stderr, "llamacpp: %s failed\n", what);
        exit(1);
    }
}

static void add(llama_batch & b, llama_token token, int pos, int seq, bool last) {
    int i = b.n_tokens++;
    b.token[i] = token;
    b.pos[i] = pos;
    b.n_seq_id[i] = 1;
    b.seq_id[i][0] = seq;
    b.logits[i] = last;
}

// once scores all prompts; what they share up to `shared` tokens is read once.
static void once(llama_context * ctx, llama_batch & b, const Prompts & ps, size_t shared) {
    llama_memory_t mem = llama_get_memory(ctx);
    llama_memory_clear(mem, false);
    if (shared > 0) {
        b.n_tokens = 0;
        for (size_t i = 0; i < shared; i++) add(b, ps[0][i], i, 0, false);
        check(llama_decode(ctx, b) == 0, "decoding the shared beginning");
        for (size_t s = 1; s < ps.size(); s++) llama_memory_seq_cp(mem, 0, s, -1, -1);
    }
    b.n_tokens = 0;
    std::vector<int> last;
    for (size_t s = 0; s < ps.size(); s++) {
        for (size_t i = shared; i < ps[s].size(); i++) add(b, ps[s][i], i, s, i + 1 == ps[s].size());
        last.push_back(b.n_tokens - 1);
    }
    check(llama_decode(ctx, b) == 0, "decoding the prompts");
    for (int i : last) {
        const float * logits = llama_get_logits_ith(ctx, i);
        check(logits && logits[1] == logits[1], "reading logits");
    }
}

struct Result {
    double median = 1e9, cpu = 0;
    int runs = 0;
    bool shared = false, unified = false;
    int way = 0, ubatch = 0;
};

static llama_context * context(llama_model * model, const Prompts & ps, int threads, bool unified, int ubatch, int kv_mib) {
    size_t total = 0, longest = 0;
    for (auto & p : ps) {
        total += p.size();
        longest = std::max(longest, p.size());
    }
    llama_context_params c = llama_context_default_params();
    c.n_seq_max = ps.size();
    c.n_ctx = unified ? total + 64 : (longest + 8) * ps.size();
    if (kv_mib > 0) {
        // keys and values in 16 bits, of every layer
        double each = 2.0 * 2 * llama_model_n_layer(model) * llama_model_n_head_kv(model) * llama_model_n_embd(model) / llama_model_n_head(model);
        c.n_ctx = kv_mib * 1048576.0 / each;
    }
    c.n_batch = total + 64;
    c.n_ubatch = std::min<int>(ubatch, c.n_batch);
    c.n_threads = c.n_threads_batch = threads;
    c.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
    c.kv_unified = unified;
    c.no_perf = true;
    return llama_init_from_model(model, c);
}

int main(int argc, char ** argv) {
    if (argc < 7) {
        fprintf(stderr, "usage: llamacpp MODEL PROMPTS THREADS SECONDS KV_MIB CASE...\n");
        return 2;
    }
    int threads = atoi(argv[3]), kv_mib = atoi(argv[5]);
    double seconds = atof(argv[4]);
    std::map<std::string, Prompts> cases;
    std::ifstream in(argv[2]);
    for (std::string line; std::getline(in, line);) {
        std::istringstream s(line);
        std::string name;
        s >> name;
        std::vector<llama_token> ids;
        for (llama_token t; s >> t;) ids.push_back(t);
        cases[name].push_back(ids);
    }
    llama_log_set([](ggml_log_level level, const char * text, void *) { if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr); }, nullptr);
    llama_backend_init();
    llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    check(model != nullptr, "loading the model");
    for (int a = 6; a < argc; a++) {
        std::string name = argv[a];
        int only = -1;
        if (size_t at = name.find('='); at != std::string::npos) {
            only = atoi(name.c_str() + at + 1);
            name.resize(at);
        }
        const Prompts & ps = cases[name];
        check(!ps.empty(), "finding the case's prompts");
        size_t common = ps.size() > 1 ? ps[0].size() - 1 : 0, total = 0;
        for (auto & p : ps) {
            size_t n = 0;
            while (n < std::min(common, p.size() - 1) && p[n] == ps[0][n]) n++;
            common = n;
            total += p.size();
        }
        Result best;
        for (int way = 0; way < (ps.size() == 1 || kv_mib > 0 ? 1 : 6); way++) {
            bool shared = way % 2, unified = way / 2 != 1;
            int ubatch = way / 2 == 2 ? 2048 : 512;
            if (only >= 0 ? way != only : shared ? common == 0 : common >= 16) continue;
            llama_context * ctx = context(model, ps, threads, unified, ubatch, kv_mib);
            if (!ctx) continue; // a way that this version does not have
            llama_batch b = llama_batch_init(total + 64, 0, 1);
            once(ctx, b, ps, shared ? common : 0);
            std::vector<double> times;
            double began = now(), c0 = cpu();
            while (now() - began < seconds || times.size() < 3) {
                double t = now();
                once(ctx, b, ps, shared ? common : 0);
                times.push_back(now() - t);
                // A way that is clearly not the best is left early.
                if (times.size() >= 1 && times.back() > 1.6 * best.median) break;
            }
            double used = (cpu() - c0) / times.size();
            std::sort(times.begin(), times.end());
            double median = times[times.size() / 2];
            if (median < best.median) best = {median, used, (int) times.size(), shared, unified, way, ubatch};
            llama_batch_free(b);
            llama_free(ctx);
        }
        check(best.runs > 0, "every way of a case");
        rusage r;
        getrusage(RUSAGE_SELF, &r);
        printf("{\"case\":\"%s\",\"prompts_per_s\":%.4f,\"ms\":%.3f,\"cpu_ms\":%.3f,\"runs\":%d,\"shared\":%s,\"unified\":%s,\"ubatch\":%d,\"way\":%d,\"threads\":%d,\"peak_mib\":%ld}\n",
            name.c_str(), ps.size() / best.median, best.median * 1e3, best.cpu * 1e3, best.runs, best.shared ? "true" : "false",
            best.unified ? "true" : "false", best.ubatch, best.way, threads, r.ru_maxrss >> 10);
        fflush(stdout);
    }
    llama_model_free(model);
    llama_backend_free();
}
