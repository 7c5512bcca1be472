#!/usr/bin/env python3
"""A small SentencePiece BPE vocabulary, trained on text of our own, with ids from two independent implementations: the
sentencepiece package and llama.cpp. Golden file of serve/llm/token.

  pieces.py --golden serve/llm/token/testdata/sentencepiece.json     200 texts
  pieces.py --out DIR --count 5000                                   DIR/vocabulary.gguf and DIR/tokens-pieces.jsonl for compare

Both implementations must agree on every text, or nothing is written; they do when nothing is normalised (identity rule,
spaces kept), which is how the Llama and Vicuna vocabularies were made.
"""
import argparse
import json
import os
import random
import sys
import tempfile

import gguf
import llama_cpp
import sentencepiece as spm

import texts

VOCABULARY = 600


def train(folder):
    rng = random.Random(21)
    path = os.path.join(folder, "corpus.txt")
    with open(path, "w", encoding="utf-8") as f:
        for _ in range(4000):
            f.write(texts.title(rng) + "\n")
        for i in range(400):
            f.write(f"Movie: {texts.title(rng)} #Answer: {['Yes', 'No'][i % 2]}\n")
        for s in texts.OTHER.values():
            f.write((s[:12] + "\n") * 3)
    spm.SentencePieceTrainer.train(
        input=path, model_prefix=os.path.join(folder, "m"), model_type="bpe", vocab_size=VOCABULARY, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=True, character_coverage=0.98,
        split_digits=True, allow_whitespace_only_pieces=True, num_threads=1, minloglevel=2)
    return spm.SentencePieceProcessor(model_file=os.path.join(folder, "m.model"))


def vocabulary(sp):
    tokens, scores, types = [], [], []
    for i in range(sp.vocab_size()):
        tokens.append(sp.id_to_piece(i))
        scores.append(sp.get_score(i))
        types.append(2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 5 if sp.is_unused(i) else 6 if sp.is_byte(i) else 1)
    return tokens, scores, types


def write_gguf(path, tokens, scores, types):
    w = gguf.GGUFWriter(path, "llama")
    w.add_tokenizer_model("llama")
    w.add_token_list(tokens)
    w.add_token_scores(scores)
    w.add_token_types(types)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    # llama.cpp asks for these even when it reads the vocabulary alone.
    w.add_context_length(8)
    w.add_embedding_length(8)
    w.add_block_count(1)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--golden")
    p.add_argument("--out")
    p.add_argument("--count", type=int, default=200)
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        sp = train(tmp)
        tokens, scores, types = vocabulary(sp)
        folder = a.out or tmp
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, "vocabulary.gguf")
        write_gguf(path, tokens, scores, types)
        llm = llama_cpp.Llama(model_path=path, vocab_only=True, verbose=False)
        rows, differ = [], []
        for text in texts.own(a.count, 13):
            one = sp.encode(text)
            two = llm.tokenize(text.encode(), add_bos=False, special=False) if text else []
            (rows if one == two else differ).append({"text": text, "ids": two})
        print(f"{len(rows)} texts on which both agree, {len(differ)} on which they do not", file=sys.stderr)
        for row in differ[:5]:
            print(repr(row["text"]), [tokens[i] for i in row["ids"]], sp.encode(row["text"], out_type=str), file=sys.stderr)
        if differ:
            sys.exit(1)
        if a.golden:
            with open(a.golden, "w", encoding="utf-8") as f:
                json.dump({"made_by": ".ci/reference/pieces.py (sentencepiece 0.2.3 and llama.cpp of llama-cpp-python 0.3.36 agree)",
                           "tokens": tokens, "scores": scores, "types": types, "texts": rows}, f, ensure_ascii=True)
                f.write("\n")
        if a.out:
            with open(os.path.join(folder, "tokens-pieces.jsonl"), "w", encoding="utf-8") as f:
                for row in rows:
                    f.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
