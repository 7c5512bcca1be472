#!/usr/bin/env python3
"""NVIDIA's compiler and headers from PyPI, by package name and SHA-256, unpacked into .cache/cuda.

    .ci/cuda/toolchain.py headers     # what gorgonia.org/cu compiles against: CUDA 11.8's cuda.h (1 MB)
    .ci/cuda/toolchain.py compiler    # nvcc and ptxas 13.5 (130 MB)
    .ci/cuda/toolchain.py ptx         # compiles kernels/cuda/src/*.cu to kernels/cuda/ptx/*.ptx (fetches the compiler)
    .ci/cuda/toolchain.py ptxas       # assembles every .ptx for sm_80, sm_90 and sm_100 (fetches the compiler)

No C++ standard library of NVIDIA's is needed: the kernels include their own header alone. gorgonia.org/cu v0.9.4 compiles against
headers of CUDA 11.8 and not against later ones. Drivers refuse a PTX version newer than themselves, so nvcc's `.version 9.5` is
lowered to 7.0, the first with everything that the kernels use on sm_80; ptxas then checks the text as such.
"""

import glob
import hashlib
import os
import re
import stat
import subprocess
import sys
import tempfile
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CACHE = os.path.join(os.environ.get("CACHE") or os.path.join(ROOT, ".cache"), "cuda")
KERNELS = os.path.join(ROOT, "kernels", "cuda")
PACKAGES = {  # package: SHA-256 of the wheel for Linux on amd64
    "headers": {
        "nvidia-cuda-runtime-cu11==11.8.89": "92d04069a987e1fbc9213f8376d265df0f7bb42617d44f5eda1f496acea7f2d1",
    },
    "compiler": {
        "nvidia-cuda-nvcc==13.5.37": "f5c4f7ead5d964fb4af42bbf1e6d3ec3c1e6e9d83b53749f691d387e7fcaa3a7",
        "nvidia-cuda-crt==13.5.37": "e898b7f73d3035fa89915a3f7bf3b54a73e90249746111aed295822c4729bb29",
        "nvidia-nvvm==13.5.37": "c41bfa362e407405163f103c2229f0765f8cc2ed7d148b754dc77f228bf7e070",
        "nvidia-cuda-runtime==13.5.37": "df2b79a8852f10d1fef8c848489c49eebb5754051bf870202a862831412b179d",
    },
}
TARGETS = ["sm_80", "sm_90", "sm_100"]


def sha256(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        for block in iter(lambda: f.read(1 << 20), b""):
            h.update(block)
    return h.hexdigest()


def fetch(kind):
    """Unpacks the packages of a kind and returns the folder. A folder is whole once its mark is there."""
    to = os.path.join(CACHE, kind)
    mark = os.path.join(to, ".complete")
    want = "\n".join(sorted(PACKAGES[kind].values()))
    if os.path.exists(mark) and open(mark).read() == want:
        return to
    os.makedirs(to, exist_ok=True)
    for package, digest in PACKAGES[kind].items():
        print(f"cuda: {package}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as tmp:
            subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:",
                            "--platform", "manylinux2014_x86_64", "--platform", "manylinux2010_x86_64", "-d", tmp, package], check=True)
            wheel = os.path.join(tmp, os.listdir(tmp)[0])
            got = sha256(wheel)
            if got != digest:
                sys.exit(f"cuda: {package}: SHA-256 is {got}, want {digest}")
            with zipfile.ZipFile(wheel) as z:
                for info in z.infolist():
                    if info.is_dir() or re.search(r"\.(a|so[.\d]*)$", info.filename):
                        continue  # libraries are not needed
                    path = z.extract(info, to)
                    if "/bin/" in path:
                        os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)
    with open(mark, "w") as f:
        f.write(want)
    return to


def compiler():
    home = os.path.join(fetch("compiler"), "nvidia", "cu13")
    os.environ["PATH"] = os.pathsep.join([os.path.join(home, "bin"), os.path.join(home, "nvvm", "bin"), os.environ["PATH"]])
    return home


def source_digest(path):
    """SHA-256 of a kernel file and what it includes: ptx_test.go computes the same."""
    h = hashlib.sha256()
    for p in (os.path.join(KERNELS, "src", "common.cuh"), path):
        with open(p, "rb") as f:
            h.update(f.read())
    return h.hexdigest()


def ptx():
    home = compiler()
    for source in sorted(glob.glob(os.path.join(KERNELS, "src", "*.cu"))):
        name = os.path.splitext(os.path.basename(source))[0]
        with tempfile.TemporaryDirectory(dir=CACHE) as tmp:
            out = os.path.join(tmp, "out.ptx")
            subprocess.run(["nvcc", "-std=c++17", "-O3", "-ptx", "-arch=compute_80", "-I" + os.path.join(home, "include"), source, "-o", out],
                           check=True)
            text = open(out).read()
        text, n = re.subn(r"^\.version \d+\.\d+$", ".version 7.0", text, flags=re.M)
        if n != 1 or "\n.target sm_80\n" not in text:
            sys.exit(f"cuda: {name}: the PTX has no version or another target")
        text = re.sub(r"\A(//.*\n)*\n*", "", text)  # the compiler's banner
        head = f"// source-sha256: {source_digest(source)}\n// Made from src/{name}.cu by `make cuda-ptx` (nvcc 13.5.37, version lowered to 7.0). Do not edit.\n"
        with open(os.path.join(KERNELS, "ptx", name + ".ptx"), "w") as f:
            f.write(head + text)
        print(f"cuda: {name}.ptx: {len(text) >> 10} KiB", file=sys.stderr)


def ptxas():
    compiler()
    for target in TARGETS:
        for path in sorted(glob.glob(os.path.join(KERNELS, "ptx", "*.ptx"))):
            done = subprocess.run(["ptxas", "-v", f"-arch={target}", path, "-o", os.devnull], capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"cuda: ptxas {target} {os.path.basename(path)}:\n{done.stderr}")
            registers = [int(r) for r in re.findall(r"Used (\d+) registers", done.stderr)]
            spills = sum(int(b) for b in re.findall(r"(\d+) bytes spill stores", done.stderr))
            print(f"cuda: {target} {os.path.basename(path)}: {len(registers)} kernels, at most {max(registers)} registers, {spills} bytes spilled")


def main():
    jobs = {"headers": lambda: fetch("headers"), "compiler": lambda: fetch("compiler"), "ptx": ptx, "ptxas": ptxas}
    if len(sys.argv) != 2 or sys.argv[1] not in jobs:
        sys.exit(__doc__)
    jobs[sys.argv[1]]()


if __name__ == "__main__":
    main()
