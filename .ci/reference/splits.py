#!/usr/bin/env python3
"""How Hugging Face's tokenizers splits texts by the expression of Mistral's published Tekken vocabularies: the golden file of
serve/llm/token. llama.cpp writes the expression in ASCII letters, so it can not hold ours to it.

  splits.py --golden serve/llm/token/testdata/tekken.json
"""
import argparse
import json
import random
import unicodedata

from tokenizers import Regex, pre_tokenizers

import texts

TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
          r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
          r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
ALPHABET = "aA中ǅ\u0301ʰbB1/\n .'é"


def cases(rng):
    """Mixtures of every kind, and short strings over the characters that decide."""
    yield from texts.own(400, 31)
    for _ in range(150):
        yield "".join(rng.choice(ALPHABET) for _ in range(rng.randint(1, 14)))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--golden", required=True)
    a = p.parse_args()
    split = pre_tokenizers.Split(Regex(TEKKEN), "isolated")
    rows = []
    for text in cases(random.Random(4)):
        # Versions of Unicode differ in what is a letter; texts with characters newer than this Python are left out.
        if len(text) <= 60 and all(unicodedata.category(c) != "Cn" for c in text):
            rows.append([part for part, _ in split.pre_tokenize_str(text)])
    with open(a.golden, "w", encoding="utf-8") as f:
        json.dump({"made_by": ".ci/reference/splits.py (PyPI tokenizers 0.23.3)", "parts": rows}, f, ensure_ascii=True)
        f.write("\n")
    print(len(rows), "texts")


if __name__ == "__main__":
    main()
