# Sourced by the CUDA targets: builds what `-tags gpu` links against and sets the environment for it.
#   libcuda.a               jumps into the driver that is found at run time (kernels/cuda/host/loader.c)
#   libcuda-emulated.so     a driver that runs kernels on the CPU, with `emulated` as an argument
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cuda="${CACHE:-$root/.cache}"; [[ $cuda = /* ]] || cuda="$root/$cuda"; cuda="$cuda/cuda"
host="$root/kernels/cuda/host"
mkdir -p "$cuda/lib"
CACHE="$(dirname "$cuda")" python3 "$root/.ci/cuda/toolchain.py" headers
cc -O2 -fPIC -Wall -Werror -c "$host/loader.c" -o "$cuda/lib/loader.o"
rm -f "$cuda/lib/libcuda.a"
ar rcs "$cuda/lib/libcuda.a" "$cuda/lib/loader.o"
export CGO_ENABLED=1
export GOFLAGS="${GOFLAGS:-} -trimpath" # as `make cuda` builds, so that tests find what it has compiled
# -w: the warnings are gorgonia.org/cu's, about functions that CUDA 11 marked as old.
export CGO_CFLAGS="-O2 -w -I$cuda/headers/nvidia/cuda_runtime/include"
export CGO_LDFLAGS="-L$cuda/lib -ldl"
if [ "${1:-}" = emulated ]; then
  objects=()
  for f in "$root"/kernels/cuda/src/*.cu "$host/shim.cpp" "$host/libcuda.cpp"; do
    o="$cuda/lib/$(basename "$f").o"
    objects+=("$o")
    if [ ! "$o" -nt "$f" ] || [ ! "$o" -nt "$root/kernels/cuda/src/common.cuh" ] || [ ! "$o" -nt "$host/shim.h" ]; then
      echo "g++ $(basename "$f")" >&2
      g++ -std=c++17 -O2 -fPIC -Wall -Werror -DCORASTREAM_HOST -x c++ -c "$f" -o "$o"
    fi
  done
  g++ -shared -Wl,--no-undefined -o "$cuda/libcuda-emulated.so" "${objects[@]}"
  export CORASTREAM_LIBCUDA="$cuda/libcuda-emulated.so"
fi
