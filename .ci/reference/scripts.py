#!/usr/bin/env python3
"""Token ids by Hugging Face's tokenizers of 3,000 titles in 12 scripts, composed and decomposed, with joiners and emoji, as JSON lines for
.ci/reference/compare (Go). The tokenizer is built from the GGUF file's vocabulary as the published tokenizer.json of its family says.

  scripts.py --model M.gguf --out FILE.jsonl
  scripts.py --model M.gguf --golden FILE.jsonl     156 of them, with the CRC-32 of the ids (int32, little-endian) under each family
"""
import argparse
import json
import random
import struct
import unicodedata
import zlib

import gguf
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

import splits

SCRIPTS = {
    "latin": "aàâäăąbcçćčdđeéèêëěęfgğhiíîïıjklłmnñńoóòôöőøpqrřsšşßtťþuúùûüůűvwxyýzžź", "cyrillic": "абвгґдђеёєжзиіїйкллљмнњопрстуўфхцчџшщъыьэюя",
    "greek": "αάβγδεέζηήθιίϊΐκλμνξοόπρσςτυύϋΰφχψωώ", "hebrew": "אבגדהוזחטיכךלמםנןסעפףצץקרשת\u05b0\u05b4\u05b7\u05bc", "persian": "آابپتثجچحخدذرزژسشصضطظعغفقکگلمنوهی\u064b\u0651",
    "devanagari": "अआइईउऊएऐओऔकखगघचछजझटठडढणतथदधनपफबभमयरलवशषसहािीुूेैोौंःँ़्", "bengali": "অআইঈউঊএঐওঔকখগঘচছজঝটঠডঢণতথদধনপফবভমযরলশষসহািীুূেৈোৌং্য়",
    "tamil": "அஆஇஈஉஊஎஏஐஒஓகஙசஞடணதநபமயரலவழளறனாிீுூெேைொோ்", "thai": "กขคงจฉชซญฎฏฐฑณดตถทธนบปผพฟภมยรลวศษสหอะาำิีึืุูเแโใไ่้๊๋",
    "hangul": "가각간갈감강개거건걸검게겨고골공과관구국군귀그금기길까나날남내너네노누눈다달대도동두라람래로리마만말머모무문물미바밤보부비사산살새서선소수시아안어여오와우원의이인일자작장전정제주지집차천초추카타터파평포하한해행호화", "kana": "あいうえおかがきぎくぐけげこごさざしじすずせぜそぞたちつってとなにぬねのはばぱひびぴふぶぷへべぺほぼぽまみむめもやゆよらりるれろわをんアイウエオカガキギクグケコサシスセソタチツテトナニヌネノハバパヒビピフブプヘホボポマミムメモヤユヨラリルレロワヲンー",
    "han": "東京物語千與尋神隱少女霸王別姬臥虎藏龍花樣年華無間道英雄活著重慶森林春光乍洩大紅燈籠高掛黃土地秋菊打官司", "georgian": "აბგდევზთიკლმნოპჟრსტუფქღყშჩცძწჭხჯჰ",
}
EMOJI = ["🎬", "🍿", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇫🇮", "❤️‍🔥", "1️⃣", "👨🏿‍🚀", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"]


def titles(count=3000, seed=12):
    rng = random.Random(seed)
    names = sorted(SCRIPTS)
    for i in range(count):
        letters = SCRIPTS[names[i % len(names)]]
        words = []
        for _ in range(rng.randint(1, 5)):
            word = "".join(rng.choice(letters) for _ in range(rng.randint(1, 9)))
            if rng.random() < .2:
                at = rng.randrange(len(word) + 1)
                word = word[:at] + rng.choice("\u200c\u200d") + word[at:]
            words.append(word.capitalize() if rng.random() < .5 else word)
        text = rng.choice([" ", " ", " ", ": ", "-", ", "]).join(words)
        if rng.random() < .4:
            text += f" ({rng.randint(1919, 2026)})"
        if rng.random() < .2:
            text += " " + rng.choice(EMOJI)
        yield unicodedata.normalize(rng.choice(["NFC", "NFD", "NFC"]), text)


QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA = QWEN.replace(r"\p{N}| ", r"\p{N}{1,3}| ")


def family(pre):
    """Normaliser, steps before the byte level, and whether whole tokens count before merges."""
    def split(expression):
        return [pre_tokenizers.Split(Regex(expression), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    return {"smollm": (None, [pre_tokenizers.Digits(individual_digits=True), gpt2], False), "gpt-2": (None, [gpt2], False),
            "qwen2": (normalizers.NFC(), split(QWEN), False), "llama-bpe": (None, split(LLAMA), True), "tekken": (None, split(splits.TEKKEN), True)}[pre]


def tokenizer(path, pre=None):
    fields = gguf.GGUFReader(path).fields
    tokens, merges = (fields["tokenizer.ggml." + k].contents() for k in ("tokens", "merges"))
    normalizer, steps, whole = family(pre or fields["tokenizer.ggml.pre"].contents())
    kinds = fields["tokenizer.ggml.token_type"].contents()
    tok = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens) if kinds[i] == 1}, merges=[tuple(m.split(" ", 1)) for m in merges], ignore_merges=whole))
    if normalizer:
        tok.normalizer = normalizer
    tok.pre_tokenizer = pre_tokenizers.Sequence(steps)
    return tok


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--pre", help="as if the vocabulary were of this family")
    p.add_argument("--out")
    p.add_argument("--golden")
    a = p.parse_args()
    if a.golden:
        families = {pre: tokenizer(a.model, pre) for pre in ("smollm", "gpt-2", "llama-bpe", "tekken", "qwen2")}
        with open(a.golden, "w", encoding="utf-8") as f:
            for text in titles(156, 13):
                ids = {pre: tok.encode(text).ids for pre, tok in families.items()}
                f.write(json.dumps({"text": text, "crc": {pre: zlib.crc32(struct.pack(f"<{len(i)}i", *i)) for pre, i in ids.items()}}) + "\n")
        return
    tok = tokenizer(a.model, a.pre)
    with open(a.out, "w", encoding="utf-8") as f:
        for text in titles():
            f.write(json.dumps({"text": text, "ids": tok.encode(text).ids}) + "\n")


if __name__ == "__main__":
    main()
