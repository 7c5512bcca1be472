#!/usr/bin/env python3
"""Token ids of llama.cpp for the texts of texts.py, as JSON lines for .ci/reference/compare (Go).

  tokenise.py --model M.gguf --ml100k DIR --out FILE.jsonl             5,000 texts; never commit (holds MovieLens titles)
  tokenise.py --model M.gguf --pre llama-bpe --ml100k DIR --out FILE   the same vocabulary under another pre-tokenizer;
                                                                       --write-model keeps the model file made for it
  tokenise.py --model M.gguf --golden FILE.jsonl                       200 texts of our own: the golden file of CI, with the
                                                                       CRC-32 of the ids (int32, little-endian) under other pre-tokenizers
  tokenise.py --model M.gguf --sweep --out FILE.jsonl                  every code point, one by one, between letters, digits and spaces
"""
import argparse
import json
import os
import struct
import sys
import tempfile
import zlib

import gguf
import llama_cpp

import texts

OTHER_PRE = ["default", "gpt-2", "llama-bpe", "dbrx", "qwen2"]


def vocabulary_only(src, dst, pre):
    """A model file with src's metadata, another pre-tokenizer and no tensors."""
    reader = gguf.GGUFReader(src)
    writer = gguf.GGUFWriter(dst, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        sub = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        value = pre if name == "tokenizer.ggml.pre" else field.contents()
        writer.add_key_value(name, value, field.types[0], sub_type=sub)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def sweep():
    """Blocks of text that hold each assigned-looking code point in the places where pre-tokenizers decide."""
    for start in range(0, 0x32000, 16):
        points = [chr(c) for c in range(start, start + 16) if c and not 0xd800 <= c <= 0xdfff and c not in (0xfffe, 0xffff)]
        if points:
            yield "".join(f"a{c}b 1{c}2 {c}{c} \t{c}x{c}\n{c}" for c in points)


def load(path):
    return llama_cpp.Llama(model_path=path, vocab_only=True, verbose=False)


def encode(llm, text):
    return llm.tokenize(text.encode(), add_bos=False, special=False) if text else []


def golden(model, path, folder):
    llm = load(model)
    rows = [{"text": t, "ids": encode(llm, t), "crc": {}} for t in texts.own(200, 11)]
    for pre in OTHER_PRE:
        vocabulary_only(model, os.path.join(folder, pre), pre)
        llm = load(os.path.join(folder, pre))
        for row in rows:
            ids = encode(llm, row["text"])
            row["crc"][pre] = zlib.crc32(struct.pack(f"<{len(ids)}i", *ids))
    with open(path, "w", encoding="utf-8") as f:
        for row in rows:
            f.write(json.dumps(row) + "\n")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--pre")
    p.add_argument("--ml100k")
    p.add_argument("--out")
    p.add_argument("--golden")
    p.add_argument("--sweep", action="store_true")
    p.add_argument("--write-model")
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        if a.golden:
            golden(a.model, a.golden, tmp)
            return
        path = a.model
        if a.pre:
            path = a.write_model or os.path.join(tmp, "vocabulary.gguf")
            vocabulary_only(a.model, path, a.pre)
        llm, n = load(path), 0
        with open(a.out, "w", encoding="utf-8") as f:
            for text in sweep() if a.sweep else texts.all_texts(a.ml100k):
                f.write(json.dumps({"text": text, "ids": encode(llm, text)}) + "\n")
                n += 1
        print(f"{n} texts", file=sys.stderr)


if __name__ == "__main__":
    main()
