#!/usr/bin/env python3
"""Times PyTorch on a click from the same item cache: one token of each of 20 candidates through the top N layers of a
SmolLM2-135M-shaped Llama, with low-rank deltas (r=16, one user's W_A) on q, k, v and o, in bfloat16.

    torch_click.py THREADS SECONDS          # JSON lines: case, ms (median), cpu_ms (mean), way

Weights, keys and values are random: the time does not depend on them. What the layers need is stacked as a careful user of
PyTorch would: one product for q, k, v, one for gate and up, the candidates' keys and values padded to the longest in one
tensor, attention by scaled_dot_product_attention. Both eager mode and torch.compile are tried; the faster one is printed.
"""
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F

HIDDEN, HEADS, KV_HEADS, DIM, FFN, RANK, CANDIDATES, LENGTH = 576, 9, 3, 64, 1536, 16, 20, 18  # LENGTH: tokens of an item prompt before the last
KV = KV_HEADS * DIM


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        def weight(*shape):
            return torch.nn.Parameter(torch.randn(*shape) * .05, requires_grad=False)
        self.qkv, self.out = weight(HIDDEN + 2 * KV, HIDDEN), weight(HIDDEN, HIDDEN)
        self.gate_up, self.down = weight(2 * FFN, HIDDEN), weight(HIDDEN, FFN)
        self.p_qkv, self.p_out = weight(HIDDEN + 2 * KV, RANK), weight(HIDDEN, RANK)
        self.norm1, self.norm2 = weight(HIDDEN), weight(HIDDEN)
        self.keys, self.values = weight(CANDIDATES, KV_HEADS, LENGTH, DIM), weight(CANDIDATES, KV_HEADS, LENGTH, DIM)

    def forward(self, x, a, cos, sin, mask):
        h = F.rms_norm(x, (HIDDEN,), self.norm1, 1e-5)
        qkv = F.linear(h, self.qkv) + F.linear(h @ a, self.p_qkv)
        q, k, v = qkv.split((HIDDEN, KV, KV), dim=1)
        q, k, v = q.view(-1, HEADS, 1, DIM), k.view(-1, KV_HEADS, 1, DIM), v.view(-1, KV_HEADS, 1, DIM)
        q, k = turn(q, cos, sin), turn(k, cos, sin)
        keys, values = torch.cat((self.keys, k), 2), torch.cat((self.values, v), 2)
        o = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, enable_gqa=True).reshape(-1, HIDDEN)
        x = x + F.linear(o, self.out) + F.linear(o @ a, self.p_out)
        gate, up = F.linear(F.rms_norm(x, (HIDDEN,), self.norm2, 1e-5), self.gate_up).chunk(2, dim=1)
        return x + F.linear(F.silu(gate) * up, self.down)


def turn(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Top(torch.nn.Module):
    def __init__(self, n):
        super().__init__()
        self.layers = torch.nn.ModuleList(Layer() for _ in range(n))
        self.head, self.norm = torch.nn.Parameter(torch.randn(2, HIDDEN), requires_grad=False), torch.nn.Parameter(torch.ones(HIDDEN), requires_grad=False)

    def forward(self, x, a, cos, sin, mask):
        for layer in self.layers:
            x = layer(x, a, cos, sin, mask)
        return F.linear(F.rms_norm(x, (HIDDEN,), self.norm, 1e-5), self.head)


def measure(f, seconds):
    for _ in range(5):
        f()
    times, cpu, until = [], time.process_time(), time.perf_counter() + seconds
    while time.perf_counter() < until or len(times) < 5:
        t = time.perf_counter()
        f()
        times.append(time.perf_counter() - t)
    return {"ms": 1e3 * statistics.median(times), "cpu_ms": 1e3 * (time.process_time() - cpu) / len(times)}


def main():
    threads, seconds = int(sys.argv[1]), float(sys.argv[2])
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    with torch.inference_mode():
        for n in 8, 4:
            top = Top(n).to(torch.bfloat16).eval()
            x, a = (torch.randn(*s).to(torch.bfloat16) for s in ((CANDIDATES, HIDDEN), (HIDDEN, RANK)))
            cos, sin = (torch.randn(CANDIDATES, 1, 1, DIM // 2).to(torch.bfloat16) for _ in range(2))
            mask = torch.ones(CANDIDATES, 1, 1, LENGTH + 1, dtype=torch.bool)
            best, ways = None, {"eager": top}
            try:
                fast = torch.compile(top)
                fast(x, a, cos, sin, mask)
                ways["compiled"] = fast
            except Exception as e:  # no C++ compiler, or a release without support for this Python
                print(f"torch.compile: {e}", file=sys.stderr)
            for way, f in ways.items():
                m = measure(lambda: f(x, a, cos, sin, mask), seconds)
                if best is None or m["ms"] < best["ms"]:
                    best = m | {"way": way}
            print(json.dumps({"case": f"click_20_n{n}", **best}), flush=True)


if __name__ == "__main__":
    main()
