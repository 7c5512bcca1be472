"""llama.cpp from wheels that need no compiler: the library inside xllamacpp (build 11549), called through the declarations that
llama-cpp-py-sync carries for build 11548.

  VENV/bin/pip install xllamacpp==2026.10.11549 cffi && VENV/bin/pip install --no-deps llama-cpp-py-sync==0.11548
"""
import ctypes
import glob
import importlib.util
import os
import re

import cffi
import numpy as np


def folder(package):
    return importlib.util.find_spec(package).submodule_search_locations[0]


SO = glob.glob(os.path.join(folder("xllamacpp"), "xllamacpp*.so"))[0]
ffi = cffi.FFI()
with open(os.path.join(folder("llama_cpp_py_sync"), "_cffi_bindings.py"), encoding="utf-8") as _f:
    ffi.cdef(re.search(r'_LLAMA_H_CDEF\s*=\s*r?"""(.*?)"""', _f.read(), re.S).group(1))
lib = ffi.dlopen(SO)
lib.llama_backend_init()
_quiet = ffi.callback("ggml_log_callback", lambda *_: None)
lib.llama_log_set(_quiet, ffi.NULL)

ggml = ctypes.CDLL(SO)
ggml.ggml_quantize_chunk.restype = ggml.ggml_row_size.restype = ctypes.c_size_t
ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
ggml.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]


def quantize(x, kind):
    """The bytes that llama.cpp's quantiser makes of a matrix; Q2_K asks for importances, here all equal."""
    x = np.ascontiguousarray(x, dtype=np.float32)
    rows, n = x.shape
    out, even = np.zeros((rows, ggml.ggml_row_size(int(kind), n)), np.uint8), np.ones(n, np.float32)
    ggml.ggml_quantize_chunk(int(kind), x.ctypes.data, out.ctypes.data, 0, rows, n, even.ctypes.data if kind.name == "Q2_K" else None)
    return out


class Model:
    """A model with its KV cache in F32, without flash attention."""

    def __init__(self, path, vocab_only=False, threads=1, context=1024):
        p = lib.llama_model_default_params()
        p.vocab_only, p.n_gpu_layers = vocab_only, 0
        self.model = lib.llama_model_load_from_file(path.encode(), p)
        if self.model == ffi.NULL:
            raise ValueError(f"llama.cpp does not load {path}")
        self.vocab = lib.llama_model_get_vocab(self.model)
        self.size = lib.llama_vocab_n_tokens(self.vocab)
        if not vocab_only:
            c = lib.llama_context_default_params()
            c.n_ctx = c.n_batch = c.n_ubatch = context
            c.n_threads = c.n_threads_batch = threads
            c.type_k = c.type_v = c.flash_attn_type = 0
            self.context = lib.llama_init_from_model(self.model, c)

    def tokens(self, text):
        b = text.encode()
        ids = ffi.new("llama_token[]", len(b) + 16)
        return list(ids[0:lib.llama_tokenize(self.vocab, b, len(b), ids, len(b) + 16, False, False)]) if b else []

    def logits(self, ids):
        lib.llama_memory_clear(lib.llama_get_memory(self.context), True)
        tokens = ffi.new("llama_token[]", ids)  # the batch only points at them
        if lib.llama_decode(self.context, lib.llama_batch_get_one(tokens, len(ids))):
            raise ValueError(f"llama_decode failed on {len(ids)} tokens; the context holds 1024 by default")
        return np.frombuffer(ffi.buffer(lib.llama_get_logits_ith(self.context, -1), 4 * self.size), dtype="<f4").copy()
