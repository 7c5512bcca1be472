#!/usr/bin/env python3
"""Writes a GGUF of Vicuna-7B's shape (32 layers, 4096 wide, 11008 in the feed-forward part) with random Q4_1 weights: what a model of
the paper's size costs, not what it knows. 4.2 GB, in about two minutes.

    vicuna_shape.py --vocabulary .cache/smollm2-135m-instruct-q4_1.gguf --out /some/folder/vicuna-shape.gguf [--layers 32]
    corastream bench llm --llm /some/folder/vicuna-shape.gguf --numerics int8 --cases click_20_n4,encode_64,train_32_n4

The vocabulary is that of another model file: it decides how many tokens a title has (much the same for any), not what a token costs.
Needs gguf (requirements.txt).
"""
import argparse

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter

HIDDEN, FFN, HEADS = 4096, 11008, 32


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--vocabulary", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--layers", type=int, default=32)
    a = ap.parse_args()
    source = GGUFReader(a.vocabulary)
    w = GGUFWriter(a.out, "llama")
    for name, f in source.fields.items():
        if name.startswith("tokenizer."):
            kind = f.types[0]
            if kind == GGUFValueType.ARRAY:
                w.add_array(name, f.contents())
            elif kind == GGUFValueType.STRING:
                w.add_string(name, f.contents())
            elif kind == GGUFValueType.BOOL:
                w.add_bool(name, f.contents())
            else:
                w.add_uint32(name, int(f.contents()))
    w.add_block_count(a.layers)
    w.add_context_length(2048)
    w.add_embedding_length(HIDDEN)
    w.add_feed_forward_length(FFN)
    w.add_head_count(HEADS)
    w.add_head_count_kv(HEADS)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(10000.0)
    w.add_rope_dimension_count(HIDDEN // HEADS)
    vocab = len(source.fields["tokenizer.ggml.tokens"].data)
    w.add_vocab_size(vocab)

    shapes = {"token_embd.weight": (vocab, HIDDEN), "output.weight": (vocab, HIDDEN), "output_norm.weight": (HIDDEN,)}
    for i in range(a.layers):
        shapes |= {f"blk.{i}.attn_norm.weight": (HIDDEN,), f"blk.{i}.ffn_norm.weight": (HIDDEN,), f"blk.{i}.ffn_down.weight": (HIDDEN, FFN)}
        shapes |= {f"blk.{i}.attn_{t}.weight": (HIDDEN, HIDDEN) for t in ("q", "k", "v", "output")}
        shapes |= {f"blk.{i}.ffn_{t}.weight": (FFN, HIDDEN) for t in ("gate", "up")}
    rng = np.random.default_rng(1)

    def matrix(rows, cols):
        """Q4_1 blocks of 32: scale, minimum (so that the mean is 0), 32 four-bit numbers."""
        blocks = np.empty((rows, cols // 32, 20), np.uint8)
        scale = np.full((rows, cols // 32), 1 / (4.6 * np.sqrt(cols)), np.float16)
        blocks[..., 0:2] = scale.view(np.uint8).reshape(rows, -1, 2)
        blocks[..., 2:4] = (scale * np.float16(-7.5)).astype(np.float16).view(np.uint8).reshape(rows, -1, 2)
        blocks[..., 4:] = rng.integers(0, 256, (rows, cols // 32, 16), np.uint8)
        return blocks.reshape(rows, -1)

    for name, shape in shapes.items():
        if len(shape) == 1:
            w.add_tensor_info(name, shape, np.dtype(np.float32), shape[0] * 4)
        else:
            w.add_tensor_info(name, (shape[0], shape[1] // 32 * 20), np.dtype(np.uint8), shape[0] * shape[1] // 32 * 20, raw_dtype=GGMLQuantizationType.Q4_1)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    for shape in shapes.values():
        w.write_tensor_data(np.ones(shape, np.float32) if len(shape) == 1 else matrix(*shape))
    w.close()


if __name__ == "__main__":
    main()
