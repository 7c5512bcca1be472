#!/usr/bin/env python3
"""A model in each type of tensor, made by llama.cpp's quantisers, with llama.cpp's logits for the same weights in F32.

  formats.py --model M.gguf --out DIR Q3_K IQ4_XS ...     DIR/Q3_K.gguf and DIR/Q3_K.bin, for compare -model and -logits

Rows that a type's blocks do not fit become IQ4_NL, as llama.cpp's own tool does. Some minutes for each type on one core.
"""
import argparse
import os
import struct

import gguf
import numpy as np

import logits
import wheels

TYPES = gguf.GGMLQuantizationType


def write(src, path, kind):
    """Writes src again with all matrices in the type, and beside it the same values in F32."""
    reader = gguf.GGUFReader(src)
    files = [gguf.GGUFWriter(p, reader.fields["general.architecture"].contents()) for p in (path, path + ".f32")]
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in ("general.architecture", "general.file_type"):
            sub = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            for w in files:
                w.add_key_value(name, field.contents(), field.types[0], sub_type=sub)
    for t in reader.tensors:
        x = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
        if x.ndim == 2:
            q = kind if x.shape[1] % gguf.GGML_QUANT_SIZES[kind][0] == 0 else TYPES.IQ4_NL
            raw = wheels.quantize(x, q)
            files[0].add_tensor(t.name, raw, raw_dtype=q)
            x = gguf.quants.dequantize(raw, q).astype(np.float32)
        else:
            files[0].add_tensor(t.name, x)
        files[1].add_tensor(t.name, x)
    for w in files:
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--count", type=int, default=6)
    p.add_argument("types", nargs="+")
    a = p.parse_args()
    for name in a.types:
        path = os.path.join(a.out, name + ".gguf")
        write(a.model, path, TYPES[name])
        model = wheels.Model(path + ".f32")
        with open(os.path.join(a.out, name + ".bin"), "wb") as f:
            f.write(b"CORALOG1" + struct.pack("<II", a.count, model.size))
            for text in logits.prompts_of(logits.OWN_TITLES, a.count, 1):
                ids = model.tokens(text)
                f.write(struct.pack(f"<I{len(ids)}i", len(ids), *ids) + model.logits(ids).astype("<f4").tobytes())
        del model
        os.remove(path + ".f32")
        print(name, flush=True)


if __name__ == "__main__":
    main()
