#!/usr/bin/env python3
"""Tiny models of each supported architecture, with weights that a formula gives, and llama.cpp's logits for them (Gemma 3:
transformers', see gemma.py): they hold the forward pass to an independent one where no model file of that architecture is at
hand (biases, separate heads, rotary variants, heads wider than the hidden size, normed heads, windows).

  tiny.py --golden serve/llm/testdata/reference-tiny.json

A tensor's values are scale * u(k) + mean for k = 0, 1, ...: u(k) = (s(k) >> 8) / 2^23 - 1, where s(0) is 1664525 * seed +
1013904223 and s(k+1) is 1664525 * s(k) + 1013904223, all modulo 2^32; the seed is the tensor's number in the file, from 1. Scales
are powers of two, so every value is exact in float32.
"""
import argparse
import base64
import json
import os
import tempfile

import gguf
import numpy as np

import gemma
from logits import Model

CASES = [
    dict(name="llama, tied head, grouped heads, Llama 3's frequency factors", arch="llama", layers=3, hidden=48, heads=6, kv=2, dim=8, ff=40, tied=True, freqs=True, linear=1.0),
    dict(name="llama, separate head, positions scaled by 2", arch="llama", layers=2, hidden=32, heads=4, kv=4, dim=8, ff=64, tied=False, freqs=False, linear=2.0),
    dict(name="llama, heads wider than the hidden size", arch="llama", layers=3, hidden=32, heads=4, kv=2, dim=16, ff=40, tied=True, freqs=False, linear=1.0),
    dict(name="qwen2, biases, separate head", arch="qwen2", layers=3, hidden=32, heads=4, kv=2, dim=8, ff=72, tied=False, freqs=False, linear=1.0),
    dict(name="qwen2, biases, tied head", arch="qwen2", layers=2, hidden=64, heads=4, kv=1, dim=16, ff=40, tied=True, freqs=False, linear=1.0),
    dict(name="qwen3, normed heads", arch="qwen3", layers=3, hidden=32, heads=4, kv=2, dim=16, ff=40, tied=True, freqs=False, linear=1.0),
    dict(name="llama, biases of any linear in some layers", arch="llama", layers=4, hidden=48, heads=6, kv=2, dim=8, ff=40, tied=False, freqs=False, linear=1.0,
         biases=[[], ["attn_k", "attn_output"], ["attn_q", "ffn_gate", "ffn_down"], ["attn_v", "ffn_up"]]),
    dict(name="qwen2, no bias in the first layer", arch="qwen2", layers=3, hidden=32, heads=4, kv=2, dim=8, ff=40, tied=True, freqs=False, linear=1.0,
         biases=[[], ["attn_q", "attn_k", "attn_v"], ["attn_v"]]),
    dict(name="gemma3, windows of 7 in two of three layers", arch="gemma3", layers=7, hidden=48, heads=4, kv=1, dim=16, ff=40, tied=True, freqs=False, linear=1.0),
]
PROMPTS = [[72], [70, 32, 65, 108, 105, 101, 110], [(i * i * 7 + 3 * i) % 256 for i in range(60)]]


def vocabulary():
    """All bytes in GPT-2's alphabet, then what the answers need."""
    tokens, n = [], 0x100
    for b in range(256):
        if 33 <= b <= 126 or 0xa1 <= b <= 0xac or b >= 0xae:
            tokens.append(chr(b))
        else:
            tokens.append(chr(n))
            n += 1
    merges = ["Y e", "Ye s", "\u0120 Yes", "N o", "\u0120 No"]
    return tokens + [m.replace(" ", "") for m in merges] + ["<|bos|>"], merges


def uniform(seed, n):
    out, s = np.empty(n, np.float32), seed
    for k in range(n):
        s = (1664525 * s + 1013904223) % 2**32
        out[k] = (s >> 8) / 2**23 - 1
    return out


def tensors(c, vocab):
    """Name, dimensions (rows, columns), mean, scale: in file order."""
    q, k, h, f = c["heads"] * c["dim"], c["kv"] * c["dim"], c["hidden"], c["ff"]
    yield "token_embd.weight", (vocab, h), 0, 1
    yield "output_norm.weight", (h,), 1, 0.25
    if not c["tied"]:
        yield "output.weight", (vocab, h), 0, 1
    if c["freqs"]:
        yield "rope_freqs.weight", (c["dim"] // 2,), 2, 1
    for i in range(c["layers"]):
        b = f"blk.{i}."
        yield b + "attn_norm.weight", (h,), 1, 0.25
        yield b + "attn_q.weight", (q, h), 0, 0.5
        yield b + "attn_k.weight", (k, h), 0, 0.5
        yield b + "attn_v.weight", (k, h), 0, 0.5
        yield b + "attn_output.weight", (h, q), 0, 0.25
        widths = dict(attn_q=q, attn_k=k, attn_v=k, attn_output=h, ffn_gate=f, ffn_up=f, ffn_down=h)
        for linear in c["biases"][i] if "biases" in c else []:
            yield b + linear + ".bias", (widths[linear],), 0, 0.5
        if c["arch"] == "qwen2" and "biases" not in c:
            yield b + "attn_q.bias", (q,), 0, 0.5
            yield b + "attn_k.bias", (k,), 0, 0.5
            yield b + "attn_v.bias", (k,), 0, 0.5
        if c["arch"] in ("qwen3", "gemma3"):
            yield b + "attn_q_norm.weight", (c["dim"],), 1, 0.25
            yield b + "attn_k_norm.weight", (c["dim"],), 1, 0.25
        if c["arch"] == "gemma3":
            yield b + "post_attention_norm.weight", (h,), 1, 0.25
            yield b + "post_ffw_norm.weight", (h,), 1, 0.25
        yield b + "ffn_norm.weight", (h,), 1, 0.25
        yield b + "ffn_gate.weight", (f, h), 0, 0.5
        yield b + "ffn_up.weight", (f, h), 0, 0.5
        yield b + "ffn_down.weight", (h, f), 0, 0.25


def write(c, path):
    tokens, merges = vocabulary()
    w = gguf.GGUFWriter(path, c["arch"])
    w.add_block_count(c["layers"])
    w.add_context_length(256)
    w.add_embedding_length(c["hidden"])
    w.add_feed_forward_length(c["ff"])
    w.add_head_count(c["heads"])
    w.add_head_count_kv(c["kv"])
    w.add_key_length(c["dim"])
    w.add_value_length(c["dim"])
    w.add_rope_dimension_count(c["dim"])
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(500.0)
    if c["linear"] != 1:
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(c["linear"])
    if c["arch"] == "gemma3":
        w.add_sliding_window(7)
        w.add_uint32("gemma3.attention.sliding_window_pattern", 3)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(tokens)
    w.add_token_types([1] * (len(tokens) - 1) + [3])
    w.add_token_merges(merges)
    w.add_bos_token_id(len(tokens) - 1)
    w.add_eos_token_id(len(tokens) - 1)
    for seed, (name, dims, mean, scale) in enumerate(tensors(c, len(tokens)), 1):
        w.add_tensor(name, (np.float32(scale) * uniform(seed, int(np.prod(dims))) + np.float32(mean)).reshape(dims))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--golden", required=True)
    a = p.parse_args()
    out = []
    with tempfile.TemporaryDirectory() as tmp:
        for i, c in enumerate(CASES):
            path = os.path.join(tmp, f"{i}.gguf")
            write(c, path)
            model = gemma.Model(path) if c["arch"] == "gemma3" else Model(path, 1)
            rows = [{"tokens": ids, "logits": base64.b64encode(model.logits(ids).astype("<f4").tobytes()).decode()} for ids in PROMPTS]
            out.append({**c, "prompts": rows})
    with open(a.golden, "w", encoding="utf-8") as f:
        json.dump({"made_by": ".ci/reference/tiny.py (llama.cpp of llama-cpp-python 0.3.36 and transformers 5.23.0, F32)", "cases": out}, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
