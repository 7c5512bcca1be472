#!/usr/bin/env python3
"""PyTorch on the same device as `corastream-gpu gpu-check`: prompts scored by a Llama of SmolLM2-135M's shape, and the paper's Q-Former.

    python3 .ci/cuda/torch_peer.py [--seconds 5] [--ours FILE]      # needs PyTorch, and transformers for the first part; JSON lines

Random weights in bfloat16, 256 prompts of 110 tokens, logits of the last position only: what gpu-check's line "scores, base" does. Eager
and compiled. Times are wall clock around synchronised calls, the median. --ours names gpu-check's lines, of the same run: the two goals that
are stated beside PyTorch are then told too, against its best form.
"""

import argparse
import json
import statistics
import time

import torch
from torch import nn


def measure(f, seconds):
    with torch.inference_mode():
        f()
        torch.cuda.synchronize()
        times, began = [], time.time()
        while time.time() - began < seconds or len(times) < 3:
            t = time.time()
            f()
            torch.cuda.synchronize()
            times.append(time.time() - t)
    return statistics.median(times)


BEST = {}  # the best rate of each case


def line(**kw):
    print(json.dumps({"peer": "torch", "torch": torch.__version__, **kw}), flush=True)
    rate = kw.get("prompts_per_s") or kw.get("weights_per_s")
    if rate:
        BEST[kw["case"]] = max(rate, BEST.get(kw["case"], 0))


def goals(path):
    """Our rates over PyTorch's, from gpu-check's lines."""
    ours = {}
    with open(path) as f:
        for text in f:
            v = json.loads(text) if text.startswith("{") else {}
            if v.get("gpu") == "scores" and v["case"] == "base":
                ours["scores, base"] = v["prompts_per_s"]
            if v.get("gpu") == "generator" and v["kind"] == "qformer":
                ours["generator, qformer"] = max(v["weights_per_s_kernels"], ours.get("generator, qformer", 0))
    for case, rate in sorted(ours.items()):
        if case in BEST:
            print(json.dumps({"gpu": "goal", "row": case + ": times PyTorch's bf16", "goal": "at least 1.5", "reached": rate / BEST[case], "ok": rate >= 1.5 * BEST[case]}))
        else:
            print(json.dumps({"gpu": "goal", "row": case + ": times PyTorch's bf16", "goal": "at least 1.5", "error": "PyTorch did not get through this case"}))


def prompts(seconds):
    from transformers import LlamaConfig, LlamaForCausalLM
    c = LlamaConfig(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3, vocab_size=49152,
                    tie_word_embeddings=True, max_position_embeddings=2048)
    c._attn_implementation = "sdpa"
    m = LlamaForCausalLM(c).to("cuda", torch.bfloat16).eval()
    ids = torch.randint(0, 49152, (256, 110), device="cuda")
    for name, f in (("eager", m), ("compiled", torch.compile(m))):
        s = measure(lambda: f(ids, use_cache=False, logits_to_keep=1).logits, seconds)
        line(case="scores, base", mode=name, prompts=256, tokens_each=110, ms=1e3 * s, prompts_per_s=256 / s)


class Layer(nn.Module):
    """BERT style, norms after the residual; the memory is one token, so cross-attention is its value and output maps."""

    def __init__(self, w):
        super().__init__()
        self.heads = 8
        self.qkv, self.o = nn.Linear(w, 3 * w), nn.Linear(w, w)
        self.cv, self.co = nn.Linear(w, w), nn.Linear(w, w)
        self.up, self.down = nn.Linear(w, 4 * w), nn.Linear(4 * w, w)
        self.n = nn.ModuleList(nn.LayerNorm(w) for _ in range(3))

    def forward(self, h, x):
        b, n, w = h.shape
        q, k, v = (t.view(b, n, self.heads, -1).transpose(1, 2) for t in self.qkv(h).chunk(3, -1))
        a = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, w)
        h = self.n[0](h + self.o(a))
        h = self.n[1](h + self.co(self.cv(x))[:, None])
        return self.n[2](h + self.down(nn.functional.gelu(self.up(h), approximate="tanh")))


class QFormer(nn.Module):
    def __init__(self, w=512, size=576 * 16):
        super().__init__()
        self.query = nn.Parameter(0.02 * torch.randn(4, w))
        self.layers = nn.ModuleList(Layer(w) for _ in range(8))
        self.out = nn.Linear(w, size)

    def forward(self, x):
        h = self.query.expand(len(x), -1, -1)
        for l in self.layers:
            h = l(h, x)
        return nn.functional.normalize(self.out(h.mean(1)), dim=-1)


def qformer(seconds):
    m = QFormer().to("cuda", torch.bfloat16).eval()
    for rows in (64, 1024, 4096):
        x = torch.randn(rows, 512, device="cuda", dtype=torch.bfloat16)
        for name, f in (("eager", m), ("compiled", torch.compile(m))):
            s = measure(lambda: f(x), seconds)
            line(case="generator, qformer", mode=name, rows=rows, ms=1e3 * s, weights_per_s=rows / s)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seconds", type=float, default=3)
    p.add_argument("--ours", help="gpu-check's JSON lines")
    a = p.parse_args()
    for part in (qformer, prompts):
        try:
            part(a.seconds)
        except Exception as e:  # the other part may still run
            line(case=part.__name__, error=repr(e)[:500])
    if a.ours:
        goals(a.ours)


if __name__ == "__main__":
    main()
