#!/usr/bin/env python3
"""Random blocks of each tensor type with the values that the PyPI package gguf decodes from them: golden file of
serve/llm/gguf, and the quantised bytes it makes of known values, for the Writer.

  quants.py --golden serve/llm/gguf/testdata/quants.json
"""
import argparse
import base64
import json

import gguf
import numpy as np
from gguf.quants import dequantize, quantize

DECODE = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "Q2_K", "Q3_K", "IQ4_NL", "IQ4_XS", "MXFP4"]
ENCODE = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]
# Where the f16 scales lie in a block: random bytes there would make NaN and Inf, which are compared apart.
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
          "Q2_K": [80, 82], "Q3_K": [108], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": []}


def b64(a):
    return base64.b64encode(np.ascontiguousarray(a).tobytes()).decode()


def blocks(name, rng, count):
    kind = gguf.GGMLQuantizationType[name]
    _, size = gguf.GGML_QUANT_SIZES[kind]
    if name == "F32":
        return (rng.standard_normal(64) * 10.0 ** rng.integers(-30, 30, 64)).astype("<f4").view(np.uint8)
    if name in ("F16", "BF16"):
        raw = rng.integers(0, 65536, 512, dtype=np.uint16)
        top = 0x7c00 if name == "F16" else 0x7f80
        raw[(raw & top) == top] &= 0x83ff if name == "F16" else 0x807f
        return raw.astype("<u2").view(np.uint8)
    raw = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for at in SCALES[name]:
        scale = (rng.standard_normal(count) * 2.0 ** rng.integers(-20, 4, count)).astype("<f2")  # subnormals too
        raw[:, at:at + 2] = scale.view(np.uint8).reshape(count, 2)
    if name == "MXFP4":
        raw[:, 0] = rng.integers(0, 256, count)
        raw[:3, 0] = 0, 1, 2  # subnormal scales
        raw[:, 0] = np.minimum(raw[:, 0], 250)  # 252 is the last whose values all fit in float32
    return raw.reshape(-1)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--golden", required=True)
    a = p.parse_args()
    rng = np.random.default_rng(3)
    out = {"made_by": ".ci/reference/quants.py (PyPI gguf 0.18.0)", "decode": [], "encode": []}
    for name in DECODE:
        kind = gguf.GGMLQuantizationType[name]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        raw = blocks(name, rng, 6 if block == 256 else 12)
        rows = raw if name != "F32" else raw
        values = dequantize(rows.view("<f4") if name == "F32" else rows.view("<f2") if name == "F16" else rows, kind)
        out["decode"].append({"type": name, "raw": b64(raw), "values": b64(np.asarray(values, "<f4").reshape(-1))})
    for name in ENCODE:
        kind = gguf.GGMLQuantizationType[name]
        x = (rng.standard_normal((8, 32)) * 10.0 ** rng.integers(-4, 3, (8, 1))).astype(np.float32)
        x[6] = 0
        x[7] = np.float32(0.25)
        x[0, :4] = [1, -1, 1, -1]
        q = quantize(x, kind)
        out["encode"].append({"type": name, "values": b64(x.astype("<f4")), "raw": b64(np.asarray(q))})
    with open(a.golden, "w") as f:
        json.dump(out, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
