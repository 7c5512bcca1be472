#!/usr/bin/env python3
"""Last-position logits of Gemma 3 in float32 by transformers, in the format of logits.py: llama.cpp takes GELU from a table of
16-bit floats, which moves this model's logits by 1e-3 of their spread, so it can not hold a forward pass to less.

  logits.py --model M.gguf --ml100k DIR --out DIR      first: the prompts
  gemma.py  --model M.gguf --prompts DIR/logits-f32.bin --out DIR/logits-torch.bin
  gemma.py  --model M.gguf --golden serve/llm/testdata/reference-gemma.json        5 prompts of our own, 50 chosen logits each

The model is built from the file's tensors, dequantised by the gguf package; the 1 that converters add to the norms is taken off.
"""
import argparse
import hashlib
import json
import random
import struct

import gguf
import llama_cpp
import numpy as np
import torch
import transformers

import logits

NAMES = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
         "post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm",
         "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


def load(path):
    reader = gguf.GGUFReader(path)

    def key(name, default=None):
        field = reader.fields.get("gemma3." + name)
        return default if field is None else field.contents()

    layers, period = key("block_count"), key("attention.sliding_window_pattern", 6)
    config = transformers.Gemma3TextConfig(
        vocab_size=next(int(t.shape[1]) for t in reader.tensors if t.name == "token_embd.weight"),
        hidden_size=key("embedding_length"), intermediate_size=key("feed_forward_length"), num_hidden_layers=layers,
        num_attention_heads=key("attention.head_count"), num_key_value_heads=key("attention.head_count_kv"), head_dim=key("attention.key_length"),
        query_pre_attn_scalar=key("attention.key_length"), max_position_embeddings=key("context_length"), sliding_window=key("attention.sliding_window"),
        rms_norm_eps=key("attention.layer_norm_rms_epsilon"),
        layer_types=["sliding_attention" if (i + 1) % period else "full_attention" for i in range(layers)],
        rope_parameters={"sliding_attention": {"rope_type": "default", "rope_theta": key("rope.freq_base_swa", 10000.0)},
                         "full_attention": {"rope_type": "default", "rope_theta": key("rope.freq_base")}})
    config._attn_implementation = "eager"
    state = {}
    for t in reader.tensors:
        v = torch.from_numpy(gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32))
        part = t.name.split(".")
        if part[0] == "blk":
            name = f"model.layers.{part[1]}.{NAMES[part[2]]}.weight"
        else:
            name = {"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight", "output": "lm_head.weight"}[part[0]]
        state[name] = v - 1 if "norm" in name else v
    model = transformers.Gemma3ForCausalLM(config).float().eval()
    missing, foreign = model.load_state_dict(state, strict=False)
    assert not foreign and set(missing) <= {"lm_head.weight"}, (missing, foreign)
    model.tie_weights()
    return model


class Model:
    def __init__(self, path):
        self.model = load(path)

    def logits(self, ids):
        with torch.inference_mode():
            return self.model(input_ids=torch.tensor([ids])).logits[0, -1].float().numpy()


def prompts(path):
    with open(path, "rb") as f:
        magic, count, size = struct.unpack("<8sII", f.read(16))
        assert magic == b"CORALOG1"
        for _ in range(count):
            n, = struct.unpack("<I", f.read(4))
            yield list(struct.unpack(f"<{n}i", f.read(4 * n)))
            f.seek(4 * size, 1)


def golden(path, out):
    """Texts and ids by llama.cpp, logits by transformers."""
    model, llm, rng, rows = Model(path), llama_cpp.Llama(model_path=path, vocab_only=True, verbose=False), random.Random(5), []
    for text in logits.prompts_of(logits.OWN_TITLES, 5, 5):
        ids = llm.tokenize(text.encode(), add_bos=False, special=False)
        z = model.logits([llm.token_bos()] + ids)
        order = np.argsort(z)
        pick = {int(i) for i in order[-10:]} | {int(i) for i in order[:10]}
        pick |= {llm.tokenize(w.encode(), add_bos=False, special=False)[0] for w in (" Yes", " No")}
        while len(pick) < 50:
            pick.add(rng.randrange(len(z)))
        rows.append({"prompt": text, "tokens": ids, "bos": llm.token_bos(), "spread": float(z.std()), "argmax": int(z.argmax()),
                     "ids": sorted(pick), "logits": [float(z[i]) for i in sorted(pick)]})
    with open(path, "rb") as f:
        sha = hashlib.file_digest(f, "sha256").hexdigest()
    with open(out, "w", encoding="utf-8") as f:
        json.dump({"made_by": ".ci/reference/gemma.py (transformers 5.23.0; ids: llama.cpp of llama-cpp-python 0.3.36)", "model_sha256": sha, "prompts": rows}, f, indent=1)
        f.write("\n")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--prompts")
    p.add_argument("--out")
    p.add_argument("--golden")
    a = p.parse_args()
    if a.golden:
        golden(a.model, a.golden)
        return
    model, rows = Model(a.model), list(prompts(a.prompts))
    with open(a.out, "wb") as f:
        f.write(struct.pack("<8sII", b"CORALOG1", len(rows), model.model.config.vocab_size))
        for ids in rows:
            z = model.logits(ids)
            f.write(struct.pack(f"<I{len(ids)}i", len(ids), *ids) + z.astype("<f4").tobytes())


if __name__ == "__main__":
    main()
