#!/usr/bin/env python3
"""Times corastream and llama.cpp by turns on the same model file, prompts and cores, and writes a table of ratios.

    make bench-peers                    # or: python3 .ci/peers/run.py --rounds 5
    TORCH=VENV/bin/python make bench-peers      # PyTorch too

The first run builds llama.cpp (from the source distribution of llama-cpp-python, for this machine's CPU) and requantises the
model into .cache/peers; that takes some ten minutes, once. Each measurement is a line of .cache/peers/results.jsonl, so a run
that was cut short goes on where it stopped (--fresh: begins anew). A ratio is taken within each round, and the median of the
rounds is printed: of the wall clock, and of processor time, which a busy machine disturbs less.
"""
import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tarfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HERE = os.path.join(ROOT, ".ci", "peers")
SDIST = "llama-cpp-python==0.3.36"
FORMATS = ["Q4_1", "Q4_0", "Q8_0", "F16", "BF16"]


def sh(*cmd, **kw):
    print("+", " ".join(cmd), file=sys.stderr)
    subprocess.run(cmd, check=True, stdout=sys.stderr, **kw)


def source(cache):
    """The folder of llama.cpp's source."""
    if os.environ.get("LLAMA_SRC"):
        return os.environ["LLAMA_SRC"]
    name = "llama_cpp_python-" + SDIST.split("==")[1]
    src = os.path.join(cache, name, "vendor", "llama.cpp")
    if os.path.isdir(src):
        return src
    venv = os.path.join(cache, "venv")
    if not os.path.isdir(venv):
        sh(sys.executable, "-m", "venv", venv)
    pip = os.path.join(venv, "bin", "pip")
    sh(pip, "install", "-q", "scikit-build-core[pyproject]")
    sh(pip, "download", "-q", "--no-binary", ":all:", "--no-deps", "--no-build-isolation", "-d", cache, SDIST)
    with tarfile.open(os.path.join(cache, name + ".tar.gz")) as t:
        t.extractall(cache, filter="data")
    return src


def build(cache):
    """llama.cpp as static libraries, llama-quantize, and our program that drives it."""
    src = source(cache)
    out = os.environ.get("LLAMA_BUILD") or os.path.join(cache, "build")
    if not os.path.exists(os.path.join(out, "bin", "llama-quantize")):
        for tool in "cmake", "g++":
            if not shutil.which(tool):
                sys.exit(f"{tool} is missing: install cmake and a C++ compiler")
        sh("cmake", "-S", src, "-B", out, "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_BUILD_TESTS=OFF",
           "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_SERVER=OFF", "-DLLAMA_BUILD_TOOLS=ON", "-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF")
        sh("cmake", "--build", out, "-j", str(os.cpu_count()), "--target", "llama", "llama-quantize")
    program, text = os.path.join(cache, "llamacpp"), os.path.join(HERE, "llamacpp.cpp")
    if not os.path.exists(program) or os.path.getmtime(program) < os.path.getmtime(text):
        sh("g++", "-O2", "-std=c++17", f"-I{src}/include", f"-I{src}/ggml/include", text, "-o", program + ".new", f"{out}/src/libllama.a",
           f"{out}/ggml/src/libggml.a", f"{out}/ggml/src/libggml-cpu.a", f"{out}/ggml/src/libggml-base.a", "-fopenmp", "-lpthread", "-ldl")
        os.replace(program + ".new", program)
    return program, os.path.join(out, "bin", "llama-quantize")


def models(cache, quantize, llm):
    """The model in every format that might be llama.cpp's best. Requantised: for speed alone, not for quality."""
    files = {}
    for f in FORMATS:
        files[f] = os.path.join(cache, f"model-{f}.gguf") if f != "Q4_1" else llm
        if not os.path.exists(files[f]):
            sh(quantize, "--allow-requantize", llm, files[f] + ".part", f, "2", stderr=subprocess.DEVNULL)
            os.replace(files[f] + ".part", files[f])
    return files


class Results:
    """Measurements by a key, in a file of JSON lines."""

    def __init__(self, path, fresh):
        self.path, self.rows = path, {}
        if fresh and os.path.exists(path):
            os.remove(path)
        if os.path.exists(path):
            for line in open(path):
                try:
                    r = json.loads(line)
                    self.rows[r["key"]] = r
                except (ValueError, KeyError):
                    pass  # cut short while it was written: measured again

    def measure(self, prefix, cases, cmd):
        """Runs cmd unless every case's row is known; returns rows by case."""
        if any(f"{prefix}/{c}" not in self.rows for c in cases):
            p = subprocess.run(cmd, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
            with open(self.path, "a") as f:
                for line in p.stdout.splitlines():
                    r = json.loads(line)
                    r["key"], r["load"] = f"{prefix}/{r['case']}", os.getloadavg()[0]
                    self.rows[r["key"]] = r
                    f.write(json.dumps(r) + "\n")
            print(f"{prefix}: " + ", ".join(f"{c} {self.rows[f'{prefix}/{c}']['ms']:.1f} ms" for c in cases), file=sys.stderr)
        return {c: self.rows[f"{prefix}/{c}"] for c in cases}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--seconds", type=float, default=.7, help="least time of a case in a round")
    ap.add_argument("--core", type=int, default=0, help="the core of single-core runs; two-core runs take the next one too")
    ap.add_argument("--fresh", action="store_true", help="forget earlier measurements")
    ap.add_argument("--write", action="store_true", help="put the table into docs/measured/performance.md")
    ap.add_argument("--torch", metavar="PYTHON", default=os.environ.get("TORCH"),
                    help="a Python that has PyTorch (pip install torch==2.15.0 in a virtual environment: gigabytes): adds its rows")
    ap.add_argument("--binary", default=os.path.join(ROOT, "bin", "corastream"))
    ap.add_argument("--llm", default=os.environ.get("CORASTREAM_LLM") or os.path.join(ROOT, ".cache", "smollm2-135m-instruct-q4_1.gguf"))
    a = ap.parse_args()
    cache = os.path.join(ROOT, ".cache", "peers")
    os.makedirs(cache, exist_ok=True)
    program, quantize = build(cache)
    files = models(cache, quantize, a.llm)
    prompts, kept = os.path.join(cache, "prompts.txt"), os.path.join(cache, "llm")
    results = Results(os.path.join(cache, "results.jsonl"), a.fresh)
    two = (os.cpu_count() or 1) > 1

    def pin(threads):
        return ["taskset", "-c", ",".join(str(a.core + i) for i in range(threads))] if shutil.which("taskset") else []

    def ours(label, numerics, threads, cases, seconds=a.seconds):
        return results.measure(f"{label}/ours-{numerics}-{threads}", cases, pin(threads) + [
            a.binary, "bench", "llm", "--llm", a.llm, "--log-level", "error", "--numerics", numerics, "--threads", str(threads), "--seconds", str(seconds),
            "--cases", ",".join(cases), "--cache-dir", kept, "--prompts-out", prompts])

    def theirs(label, fmt, threads, cases, seconds=a.seconds, kv=0):
        """cases: names, with the way to run them where it is known."""
        names = [c.split("=")[0] for c in cases]
        return results.measure(f"{label}/llama.cpp-{fmt}-{threads}", names, pin(threads) + [
            program, files[fmt], prompts, str(threads), str(seconds), str(kv), *cases])

    # Packs the weights, reads the items, writes the prompts; the first start of a cache folder is not measured.
    if not os.path.exists(prompts):
        ours("warm-up", "bf16", 1, ["click_20_n4"], .1)
    # llama.cpp's best format, and its best way for each case.
    speed = {f: theirs("probe", f, 1, ["prompt_110"], .4)["prompt_110"] for f in FORMATS}
    best = min(speed, key=lambda f: speed[f]["cpu_ms"])
    ways = theirs("probe-ways", best, 1, ["prefix_80_32x30", "click_20"], .1)
    cases = ["prompt_110"] + [f"{c}={r['way']}" for c, r in ways.items()]

    rounds = []
    for n in range(a.rounds):
        r = {"them": theirs(f"round-{n}", best, 1, cases)}
        r["bf16"] = ours(f"round-{n}", "bf16", 1, ["prompt_110", "prefix_80_32x30", "click_20_n4", "click_20_n8", "deltas_off_8x110", "deltas_on_8x110"])
        r["int8"] = ours(f"round-{n}", "int8", 1, ["prompt_110", "prefix_80_32x30", "click_20_n4", "click_20_n8"])
        if a.torch:
            names = ["click_20_n8", "click_20_n4"]
            r["torch"] = results.measure(f"round-{n}/torch-1", names, pin(1) + [a.torch, os.path.join(HERE, "torch_click.py"), "1", str(a.seconds)])
        if two:
            r["two"] = ours(f"round-{n}", "bf16", 2, ["prompt_110", "prefix_80_32x30", "click_20_n4"])
        rounds.append(r)
    memory_kept = ours("memory-first", "bf16", min(2, os.cpu_count() or 1), ["memory"], .1)  # fills the folder
    memory = ours("memory", "bf16", 1, ["memory"], .1)["memory"]
    their_memory = theirs("memory", "BF16", 1, ["prompt_110"], .1, 256)["prompt_110"]
    del memory_kept

    lines = []

    def ratio(row, goal, slow, fast, limit=None):
        """slow and fast pick rows of a round: how many times as fast is `fast`?"""
        def median(field):
            return statistics.median(slow(r)[field] / fast(r)[field] for r in rounds)
        a_ms, b_ms = (statistics.median(f(r)["ms"] for r in rounds) for f in (fast, slow))
        wall, cpu = median("ms"), median("cpu_ms")
        if limit == "time":  # more time than without
            lines.append(f"| {row} | {b_ms:.4g} ms | {a_ms:.4g} ms | {100 * (wall - 1):+.1f} % | {100 * (cpu - 1):+.1f} % | {goal} |")
        elif limit == "cores":
            lines.append(f"| {row} | {a_ms:.4g} ms | {b_ms:.4g} ms | {wall:.2f}x | - | {goal} |")
        else:
            lines.append(f"| {row} | {a_ms:.4g} ms | {b_ms:.4g} ms | {wall:.3g}x | {cpu:.3g}x | {goal} |")

    ratio("110-token prompt, bf16", "1.35x", lambda r: r["them"]["prompt_110"], lambda r: r["bf16"]["prompt_110"])
    ratio("110-token prompt, int8", "2.2x", lambda r: r["them"]["prompt_110"], lambda r: r["int8"]["prompt_110"])
    ratio("80-token prefix, 32 x 30, bf16", "2.2x", lambda r: r["them"]["prefix_80_32x30"], lambda r: r["bf16"]["prefix_80_32x30"])
    ratio("80-token prefix, 32 x 30, int8", "2.2x", lambda r: r["them"]["prefix_80_32x30"], lambda r: r["int8"]["prefix_80_32x30"])
    for n, goal in (8, "50x"), (4, "90x"):
        for num in "bf16", "int8":
            ratio(f"click, 20 candidates, N={n}, {num}", goal if num == "bf16" else "-", lambda r: r["them"]["click_20"],
                  lambda r: r[num][f"click_20_n{n}"])
    if a.torch:
        for n, num in (8, "bf16"), (8, "int8"), (4, "bf16"), (4, "int8"):
            ratio(f"click, 20 candidates, N={n}, {num}; PyTorch bf16, {rounds[0]['torch'][f'click_20_n{n}']['way']}", "3x" if num == "bf16" else "-",
                  lambda r: r["torch"][f"click_20_n{n}"], lambda r: r[num][f"click_20_n{n}"])
    ratio("deltas on q,k,v,o, r=16: with; without", "< 8 %", lambda r: r["bf16"]["deltas_on_8x110"], lambda r: r["bf16"]["deltas_off_8x110"], "time")
    if two:
        for c, name in ("prompt_110", "110-token prompt"), ("prefix_80_32x30", "80-token prefix, 32 x 30"), ("click_20_n4", "click, N=4"):
            ratio(f"two cores; one: {name}, bf16", "1.8x", lambda r: r["bf16"][c], lambda r: r["two"][c], "cores")
    lines.append(f"| peak memory, bf16, 256 MiB of KV | {memory['peak_mib']} MiB | {their_memory['peak_mib']} MiB | "
                 f"{memory['peak_mib'] / their_memory['peak_mib']:.2f} | - | 1 |")

    loads = [r["load"] for r in results.rows.values() if r["key"].startswith("round-")]
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.processor()) if os.path.exists("/proc/cpuinfo") else ""
    table = [
        f"{cpu}, {os.cpu_count()} cores; {a.rounds} rounds, medians; load average {min(loads):.1f} to {max(loads):.1f} (a quiet machine has about 1).",
        f"llama.cpp of {SDIST}, native build, best of {', '.join(FORMATS)}: {best} ("
        + ", ".join(f"{f} {1e3 / r['cpu_ms']:.2f}" for f, r in speed.items()) + " prompts of 110 tokens a second of processor time).", "",
        "| | corastream | against | ratio, wall | ratio, processor time | goal |", "|---|---|---|---|---|---|", *lines, ""]
    out = os.path.join(cache, "table.md")
    with open(out, "w") as f:
        f.write("\n".join(table))
    print("\n".join(table))
    if a.write:
        path = os.path.join(ROOT, "docs", "measured", "performance.md")
        head, rest = open(path).read().split("<!-- table -->", 1)
        tail = rest.split("<!-- end of table -->", 1)[1]
        with open(path, "w") as f:
            f.write(head + "<!-- table -->\n" + "\n".join(table) + "<!-- end of table -->" + tail)
    os.replace(results.path, os.path.join(cache, "results-last.jsonl"))  # the next run measures anew


if __name__ == "__main__":
    main()
