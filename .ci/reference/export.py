#!/usr/bin/env python3
"""Exported adapters in two independent implementations: transformers with PEFT, and llama.cpp. Each DIR is what
`corastream export --item I --gguf` wrote; both load it on the base model in float32 and read the prompt's tokens. What they
find is compared with the score that corastream.json records.

  CORASTREAM_EXPORT_OUT=OUT go test -tags app ./cmd/apptest ./cmd/internal/adapter -run TestExport -count=1
  export.py OUT/*                               compares
  export.py OUT/llama-* OUT/qwen2-* --golden cmd/internal/adapter/testdata/export.json
  export.py DIR --model M.gguf                  an export of your own (DIR/model.gguf otherwise)

Differences are given as a part of the spread: the standard deviation of the row of logits. An activated adapter (adapt:
suffix, last) is left to PEFT's own alora_invocation_tokens; llama.cpp's library reads the tokens before them without the
adapter and the rest with it. Beside that stands what llama.cpp's server would find, which starts one token earlier.
"""
import argparse
import ctypes
import hashlib
import json
import os
import sys
import tempfile

import llama_cpp
import numpy as np
import peft
import torch
import transformers

from logits import write_f32

LIMIT = 1e-3
ADAPTER = ["adapter_config.json", "adapter_model.safetensors", "adapter.gguf"]


class Torch:
    """transformers reads the GGUF and dequantises it by itself."""

    def __init__(self, model):
        self.tmp = tempfile.TemporaryDirectory()  # a folder without an adapter, which transformers would follow to its base
        os.symlink(os.path.abspath(model), os.path.join(self.tmp.name, "model.gguf"))

    def row(self, ids, adapter=None):
        base = transformers.AutoModelForCausalLM.from_pretrained(self.tmp.name, gguf_file="model.gguf", dtype=torch.float32, attn_implementation="eager")
        model = peft.PeftModel.from_pretrained(base, adapter).eval() if adapter else base.eval()
        with torch.inference_mode():
            return model(input_ids=torch.tensor([ids])).logits[0, -1].float().numpy().astype(np.float64)


class LlamaCpp:
    def __init__(self, model):
        self.tmp = tempfile.TemporaryDirectory()
        f32 = os.path.join(self.tmp.name, "f32.gguf")
        write_f32(model, f32)
        self.llm = llama_cpp.Llama(model_path=f32, n_ctx=512, n_batch=512, n_ubatch=512, n_threads=1, n_threads_batch=1, type_k=0, type_v=0,
                                   flash_attn=False, logits_all=False, use_mmap=False, verbose=False)

    def row(self, ids, adapter=None, begin=0):
        """The adapter acts from the token at begin on."""
        ctx, self.lora = self.llm._ctx.ctx, None
        if adapter:
            self.lora = llama_cpp.llama_adapter_lora_init(self.llm._model.model, os.path.join(adapter, "adapter.gguf").encode())
            if not self.lora:
                raise SystemExit(f"llama.cpp does not load {adapter}")
        self.llm.reset()
        self.use(0)
        if begin > 0:
            self.llm.eval(ids[:begin])
        self.use(1 if adapter else 0)
        self.llm.eval(ids[begin:])
        last = llama_cpp.llama_get_logits_ith(ctx, -1)
        row = np.ctypeslib.as_array(last, shape=(self.llm.n_vocab(),)).astype(np.float64).copy()
        self.use(0)
        return row

    def use(self, n):
        adapters = (llama_cpp.llama_adapter_lora_p_ctypes * max(n, 1))(*([self.lora] * n))
        if llama_cpp.llama_set_adapters_lora(self.llm._ctx.ctx, adapters, n, (ctypes.c_float * max(n, 1))(1.0)):
            raise SystemExit("llama.cpp does not take the adapter")


def begins(note):
    """Where the invocation tokens occur last."""
    ids, call = note["check"]["tokens"], note.get("invocation_tokens")
    if not call:
        return 0
    return max(i for i in range(len(ids) - len(call) + 1) if ids[i:i + len(call)] == call)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("exports", nargs="+")
    p.add_argument("--model")
    p.add_argument("--golden")
    a = p.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    golden, failed = {}, []
    for folder in a.exports:
        note = json.load(open(os.path.join(folder, "corastream.json"), encoding="utf-8"))
        model, check = a.model or os.path.join(folder, "model.gguf"), note["check"]
        ids, yes, no = check["tokens"], check["yes_id"], check["no_id"]
        one, two, at = Torch(model), LlamaCpp(model), begins(note)
        rows = {"peft": one.row(ids, folder), "llama.cpp": two.row(ids, folder, at)}
        base = {"peft": one.row(ids), "llama.cpp": two.row(ids)}
        spread, own = float(rows["peft"].std()), check["yes"] - check["no"]
        line = {"export": os.path.basename(os.path.normpath(folder)), "adapt": note["adapt"], "tokens": len(ids), "spread": round(spread, 4), "yes_minus_no": round(own, 5)}
        for name, row in rows.items():
            off = max(abs(row[yes] - row[no] - own), abs(row[yes] - check["yes"]), abs(row[no] - check["no"])) / spread
            line[name + "_off"] = float(f"{off:.1e}")
            if not off <= LIMIT:
                failed.append(f"{folder}: {name} is off by {off:.2e} of the spread, more than {LIMIT}")
        line["rows_off"] = float(f"{np.abs(rows['peft'] - rows['llama.cpp']).max() / spread:.1e}")
        line["adapter_moves"] = round(float(abs(own - base["peft"][yes] + base["peft"][no]) / spread), 4)
        if at > 0:
            server = two.row(ids, folder, at - 1)
            line["llama_server_off"] = float(f"{abs(server[yes] - server[no] - own) / spread:.1e}")
        plain = two.row(ids, folder)
        line["on_all_tokens_off"] = float(f"{abs(plain[yes] - plain[no] - own) / spread:.1e}")
        print(json.dumps(line), flush=True)
        golden[line["export"]] = {
            "files": {name: hashlib.sha256(open(os.path.join(folder, name), "rb").read()).hexdigest() for name in ADAPTER},
            "logits": {name: [float(row[yes]), float(row[no])] for name, row in rows.items()},
            "spread": spread, "without_adapter": float(base["peft"][yes] - base["peft"][no]),
        }
    if failed:
        sys.exit("\n".join(failed))
    if a.golden:
        with open(a.golden, "w", encoding="utf-8") as f:
            json.dump(golden, f, indent=1)
            f.write("\n")


if __name__ == "__main__":
    main()
