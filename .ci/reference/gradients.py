#!/usr/bin/env python3
"""Gradients of the frozen LLM's backward pass, held to PyTorch's autograd on a real model.

  CORASTREAM_LLM=M.gguf CORASTREAM_GRADIENTS_OUT=G.json go test ./serve/llm -run TestWriteGradients -count=1
  gradients.py --model M.gguf G.json           ends with 1 beyond 1e-3 of the largest gradient

Three pairs for each of adapt: all, suffix, last, in the top 8 layers: W_A and P enter transformers' model as
y += (alpha/rank) P^T (W_A^T x) by forward hooks, from the first adapted token on; the loss is the mean cross-entropy of the
logit of " Yes" less that of " No".
"""
import argparse
import json
import os
import tempfile

import gguf
import torch
import transformers

import gemma

LIMIT = 1e-3
MODULES = {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj", "gate": "mlp.gate_proj", "up": "mlp.up_proj"}


def load(path):
    if gguf.GGUFReader(path).fields["general.architecture"].contents() == "gemma3":
        return gemma.load(path)
    with tempfile.TemporaryDirectory() as tmp:
        os.symlink(os.path.abspath(path), os.path.join(tmp, "model.gguf"))
        return transformers.AutoModelForCausalLM.from_pretrained(tmp, gguf_file="model.gguf", dtype=torch.float32, attn_implementation="eager").eval()


def check(model, batch):
    hidden, rank, scale = model.config.hidden_size, batch["Rank"], batch["Alpha"] / batch["Rank"]
    now = {}
    ps, hooks = [], []
    for s in batch["Slots"]:
        p = torch.tensor(s["P"]).view(rank, -1).requires_grad_()
        ps.append(p)

        def hook(_, x, y, p=p):
            d = scale * (x[0] @ now["w"]) @ p
            return y + torch.cat([torch.zeros_like(d[:, :now["from"]]), d[:, now["from"]:]], 1)
        hooks.append(model.get_submodule(f"model.layers.{s['Layer']}.{MODULES[s['Target']]}").register_forward_hook(hook))
    loss, off = 0.0, {"dW_A": 0.0, "dP": 0.0}
    for r in batch["Rows"]:
        w = torch.tensor(r["W"]).view(hidden, rank).requires_grad_()
        now.update(w=w, **{"from": r["From"]})
        z = model(input_ids=torch.tensor([r["Tokens"]])).logits[0, -1]
        part = torch.nn.functional.binary_cross_entropy_with_logits(z[r["Yes"]] - z[r["No"]], torch.tensor(float(r["Label"]))) / len(batch["Rows"])
        part.backward()
        loss += part.item()
        got = torch.tensor(r["DW"]).view(hidden, rank)
        off["dW_A"] = max(off["dW_A"], float((got - w.grad).abs().max() / w.grad.abs().max()))
    for h in hooks:
        h.remove()
    for s, p in zip(batch["Slots"], ps):
        got = torch.tensor(s["DP"]).view(rank, -1)
        off["dP"] = max(off["dP"], float((got - p.grad).abs().max() / p.grad.abs().max()))
    off["loss"] = abs(loss - batch["Loss"]) / loss
    return off


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("file")
    a = p.parse_args()
    model, bad = load(a.model), False
    model.requires_grad_(False)
    with open(a.file, encoding="utf-8") as f:
        for batch in json.load(f):
            off = check(model, batch)
            bad |= not max(off.values()) <= LIMIT
            print(f"adapt {batch['Adapt']}, {len(batch['Slots'])} slots: " + ", ".join(f"{k} off by {v:.1e}" for k, v in off.items()), "of the largest")
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
