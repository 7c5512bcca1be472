#!/usr/bin/env python3
"""Last-position logits of llama.cpp in float32, for comparing the forward pass with.

The model is first written again with every tensor dequantised to F32 (by the gguf package), so that both sides start from
the same weights; llama.cpp then runs it with an F32 KV cache and without flash attention.

  logits.py --model M.gguf --ml100k DIR --out DIR      50 prompts from MovieLens-100K, full vocabulary:
                                                       DIR/logits-f32.bin and DIR/prompts.jsonl (never commit these)
  logits.py --model M.gguf --golden FILE.json          5 prompts of our own, 50 chosen logits each: the golden file

logits-f32.bin, little-endian: "CORALOG1"; uint32 number of prompts; uint32 vocabulary size V; then for each prompt uint32
number of tokens n, int32[n] token ids, float32[V] logits at the last position.
"""
import argparse
import hashlib
import json
import os
import random
import struct
import tempfile

import gguf
import numpy as np

OWN_TITLES = [
    "The Lighthouse Keeper's Daughter (1987)",
    "Rain over Kestrel Street (2004)",
    "Nine Letters to Nobody (1961)",
    "Die Brücke im Nebel (1973)",
    "Captain Marrow and the Clockwork Whale (1999)",
    "A Winter in Ostrava (2011)",
    "The Accountant Who Could Not Dance (1994)",
    "Sand, Salt & Silver (1956)",
]


def item_prompt(title):
    return f"Movie: {title}\n#Answer:"


def history_prompt(history, title):
    liked = ", ".join(f'"{t}"' for t in history)
    return (
        "#Question: A user has given high ratings to the following movies: " + liked + ". Leverage the information to "
        f'predict whether the user would enjoy the movie titled "{title}"? Answer with "Yes" or "No". \n#Answer:'
    )


def prompts_of(titles, count, seed):
    """Half of the item form, half of the long history form with 10 titles."""
    rng = random.Random(seed)
    for i in range(count):
        if i % 2 == 0:
            yield item_prompt(rng.choice(titles))
        else:
            *history, title = rng.sample(titles, min(11, len(titles)))
            yield history_prompt(history, title)


def movielens_titles(folder):
    with open(os.path.join(folder, "ml-100k.item"), encoding="utf-8") as f:
        next(f)
        rows = [line.rstrip("\n").split("\t") for line in f]
    return [f"{title} ({year})" for _, title, year, *_ in rows if year]


def write_f32(src, dst):
    """Writes src again with all tensors as F32, metadata unchanged."""
    reader = gguf.GGUFReader(src)
    arch = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(dst, arch)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        sub = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=sub)
    writer.add_file_type(0)
    for t in reader.tensors:
        writer.add_tensor(t.name, gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Model:
    def __init__(self, path, threads):
        import llama_cpp  # formats.py needs the prompts alone, and has llama.cpp from elsewhere
        self.api = llama_cpp
        self.llm = llama_cpp.Llama(model_path=path, n_ctx=1024, n_batch=1024, n_ubatch=1024, n_threads=threads, n_threads_batch=threads,
                                   type_k=0, type_v=0, flash_attn=False, logits_all=False, verbose=False)

    def tokens(self, text, whole=False):
        """Ids of a text; of a whole prompt, with the BOS that the model's file asks for."""
        bos = whole and self.llm.metadata.get("tokenizer.ggml.add_bos_token") == "true"
        return self.llm.tokenize(text.encode(), add_bos=bos, special=False)

    def logits(self, ids):
        self.llm.reset()
        self.llm.eval(ids)
        last = self.api.llama_get_logits_ith(self.llm.ctx, -1)
        return np.ctypeslib.as_array(last, shape=(self.llm.n_vocab(),)).astype(np.float32).copy()


def chosen(model, logits, rng):
    """50 ids: Yes, No, the ten highest and the ten lowest, and random ones."""
    ids = [model.tokens(" Yes")[0], model.tokens(" No")[0]]
    order = np.argsort(logits)
    ids += [int(i) for i in order[-10:]] + [int(i) for i in order[:10]]
    while len(set(ids)) < 50:
        ids.append(rng.randrange(len(logits)))
    return sorted(set(ids))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--ml100k")
    p.add_argument("--out")
    p.add_argument("--golden")
    p.add_argument("--count", type=int, default=50)
    p.add_argument("--threads", type=int, default=2)
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        f32 = os.path.join(tmp, "f32.gguf")
        write_f32(a.model, f32)
        model = Model(f32, a.threads)
        if a.golden:
            rng, rows = random.Random(5), []
            for text in prompts_of(OWN_TITLES, 5, 5):
                ids = model.tokens(text, whole=True)
                z = model.logits(ids)
                pick = chosen(model, z, rng)
                rows.append({"prompt": text, "tokens": ids, "spread": float(z.std()), "argmax": int(z.argmax()),
                             "ids": pick, "logits": [float(z[i]) for i in pick]})
            sha = hashlib.sha256(open(a.model, "rb").read()).hexdigest()
            with open(a.golden, "w", encoding="utf-8") as f:
                json.dump({"made_by": ".ci/reference/logits.py --golden (llama.cpp of llama-cpp-python 0.3.36, weights and KV in F32)",
                           "model_sha256": sha, "prompts": rows}, f, ensure_ascii=False, indent=1)
                f.write("\n")
            return
        titles = movielens_titles(a.ml100k)
        os.makedirs(a.out, exist_ok=True)
        with open(os.path.join(a.out, "logits-f32.bin"), "wb") as f, \
                open(os.path.join(a.out, "prompts.jsonl"), "w", encoding="utf-8") as g:
            f.write(b"CORALOG1" + struct.pack("<II", a.count, model.llm.n_vocab()))
            for text in prompts_of(titles, a.count, 1):
                ids = model.tokens(text, whole=True)
                z = model.logits(ids)
                f.write(struct.pack("<I", len(ids)) + np.array(ids, "<i4").tobytes() + z.astype("<f4").tobytes())
                g.write(json.dumps({"prompt": text, "tokens": ids}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
