#!/usr/bin/env python3
"""llama.cpp's greedy answers to conversations, for holding generation to.

The file's own chat template is run by Jinja, tokenised with its control tokens by llama.cpp, and continued greedily with weights
and KV in F32 (as in logits.py). Beside each token stands the gap between the best and the second-best logit, so that a reader
in another precision knows where a near tie is.

  chat.py --model M.gguf --golden FILE.json
"""
import argparse
import hashlib
import json
import os
import tempfile

import gguf
import jinja2
import llama_cpp
import numpy as np

import logits

CHATS = [  # messages, most tokens of the answer
    ([("user", "Name three colours.")], 32),
    ([("system", "You answer in one word."), ("user", "What is the capital of France?")], 12),
    ([("user", "Hi!"), ("assistant", "Hello! How can I help?"), ("user", "Say \"done\" and nothing else.")], 12),
    ([("user", "Écris une phrase sur la mer. 🌊\n\nMerci !")], 24),
    ([("system", "\n"), ("user", "  1 + 1 = ?  ")], 16),
]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--golden", required=True)
    p.add_argument("--threads", type=int, default=2)
    a = p.parse_args()
    fields = gguf.GGUFReader(a.model).fields
    template = jinja2.Environment().from_string(fields["tokenizer.chat_template"].contents())
    with tempfile.TemporaryDirectory() as tmp:
        f32 = os.path.join(tmp, "f32.gguf")
        logits.write_f32(a.model, f32)
        model = logits.Model(f32, a.threads)
        vocab = llama_cpp.llama_model_get_vocab(model.llm.model)
        chats = []
        for messages, most in CHATS:
            messages = [{"role": r, "content": c} for r, c in messages]
            text = template.render(messages=messages, add_generation_prompt=True)
            prompt = model.llm.tokenize(text.encode(), add_bos=False, special=True)
            answer, gaps, ended, ids = [], [], False, list(prompt)
            while len(answer) < most:
                z = model.logits(ids)
                second, first = np.sort(z)[-2:]
                best = int(z.argmax())
                if llama_cpp.llama_vocab_is_eog(vocab, best):
                    ended = True
                    break
                answer.append(best)
                gaps.append(round(float(first - second), 4))
                ids.append(best)
            chats.append({"messages": messages, "prompt": prompt, "answer": answer, "gaps": gaps, "ended": ended,
                          "text": model.llm.detokenize(answer).decode(errors="replace")})
        sha = hashlib.sha256(open(a.model, "rb").read()).hexdigest()
        with open(a.golden, "w", encoding="utf-8") as f:
            json.dump({"made_by": ".ci/reference/chat.py (llama.cpp of llama-cpp-python 0.3.36, weights and KV in F32; Jinja " + jinja2.__version__ + ")",
                       "model_sha256": sha, "chats": chats}, f, ensure_ascii=False, indent=None, separators=(",", ":"))
            f.write("\n")


if __name__ == "__main__":
    main()
