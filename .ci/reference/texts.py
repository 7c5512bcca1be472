"""Texts for comparing tokenizers: seeded, so that everybody gets the same ones."""
import os
import random

WORDS = ("the of night river stone captain letter winter garden silver house brother machine paper king ocean signal "
         "lantern mirror harbour orchard station thunder violin desert queen number seven bridge shadow island").split()
OTHER = {
    "cjk": "東京物語千と千尋の神隠し霸王别姬살인의추억卧虎藏龙ひらがなカタカナー々〆、。「」０１２",
    "arabic": "ليلةفيالمدينةالقديمةكتابالبحر٠١٢٣٤٥٦٧٨٩،؟ـَُِّ",
    "devanagari": "रातकीनदीपत्थरकप्तानचिट्ठी०१२३४५६७८९।ंःँ्ािी",
    "cyrillic": "НочьнарекеСтанцияЗимаВокзалЁёЙйЩщЪъ",
    "greek": "ΗνύχταστοποτάμιΆέήίόύώςΩΣ",
    "hebrew": "לילהעלהנהרשׁבּאבגדהוזחט",
    "thai": "คืนริมแม่น้ำจดหมายถึงใครก็ตาม๐๑๒๓",
    "latin": "ÀÉÎÕÜßçñøåæœłžşğıİŒĲǅſﬁﬃªºẞ",
    "math": "∑∫√∞≈≠≤≥×÷±µ°²³¹½¾Ⅷⅸ①⑳㊿𝔸𝓫𝟘𝟡",
    "symbols": "€£¥©®™§¶†‡•…–—‘’“”„«»←↑→↓■□▲●★☆♠♥♪♫✓✗",
}
EMOJI = ["🎬", "🍿", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇫🇮", "❤️", "☕", "🤖", "1️⃣", "🫠", "👨🏿‍🚀"]
MARKS = "\u0300\u0301\u0302\u0303\u0308\u030a\u0327\u0331\u0489\u20dd\ufe0f\u200d\u200b\u200e\u202e\u2066\ufeff"
CONTROL = "".join(map(chr, range(1, 32))) + "\x7f\x85\u2028\u2029\ufffd"
SPACES = [" ", "  ", "   ", "        ", "\t", "\n", "\r\n", "\n\n", " \n ", "\u00a0", "\u2003", "\u3000", "\u1680", "\v", "\f"]
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'RE", "'Ve", "'LL", "'x", "''s", "' s", "'ſ", "’s"]
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<s>", "</s>", "<0x0A>", "<unk>", "[INST]", "<repo_name>", "▁", "<|im_start|>system\n"]
CODE = ["def f(x):\n    return x**2 + 1\n", "for (int i=0;i<n;++i){ a[i]+=b[i]; }", "SELECT * FROM t WHERE id=42;", "x := map[string]int{\"a\": 1}",
        "<div class=\"a\">&amp;</div>", "#!/bin/sh\necho \"$HOME\" | tr a-z A-Z\n", "\\frac{1}{2}\\alpha_{i}^{2}", "http://example.org/a?b=c&d=%20#e",
        "\t\tif err != nil {\n\t\t\treturn err\n\t\t}\n", "a.b->c::d == !e && ~f ^ g | h", "```json\n{\"k\": [1, 2.5e-3, null]}\n```"]
NUMBERS = ["1", "12", "123", "1234", "12345", "1234567890", "3.14159", "-1e-9", "1,000,000", "0x1F", "1999", "(2001)", "50%", "$9.99", "1st", "22nd", "٣٤٥", "१२३", "Ⅷ", "½", "²³", "1a2b3c"]


def title(rng):
    n = rng.randint(1, 6)
    words = [rng.choice(WORDS) for _ in range(n)]
    words = [w if rng.random() < 0.2 else w.capitalize() for w in words]
    t = " ".join(words)
    r = rng.random()
    if r < 0.15:
        t += ", The"
    elif r < 0.3:
        t = t.replace(" ", rng.choice([": ", " & ", "-", "'s ", " / ", "... "]), 1)
    if rng.random() < 0.8:
        t += f" ({rng.randint(1919, 2026)})"
    if rng.random() < 0.1:
        t += f" (a.k.a. {rng.choice(WORDS).capitalize()})"
    return t


def mixture(rng):
    """A few pieces of any kind, joined with any white space or none."""
    out = []
    for _ in range(rng.randint(1, 8)):
        k = rng.randrange(11)
        if k == 0:
            out.append(title(rng))
        elif k == 1:
            s = OTHER[rng.choice(sorted(OTHER))]
            a = rng.randrange(len(s))
            out.append(s[a:a + rng.randint(1, 12)])
        elif k == 2:
            out.append(rng.choice(EMOJI) * rng.randint(1, 3))
        elif k == 3:
            out.append("".join(rng.choice("aeiouEnN") + "".join(rng.choice(MARKS) for _ in range(rng.randint(1, 3))) for _ in range(3)))
        elif k == 4:
            out.append("".join(rng.choice(CONTROL) for _ in range(rng.randint(1, 4))))
        elif k == 5:
            out.append(rng.choice(SPACES) * rng.randint(1, 9))
        elif k == 6:
            out.append(rng.choice(WORDS) + rng.choice(CONTRACTIONS) + rng.choice(["", " ", rng.choice(WORDS)]))
        elif k == 7:
            out.append(rng.choice(CODE))
        elif k == 8:
            out.append(rng.choice(NUMBERS))
        elif k == 9:
            out.append(rng.choice(SPECIAL))
        else:
            out.append("".join(chr(rng.choice([rng.randrange(0x20, 0x7f), rng.randrange(0xa0, 0x2000), rng.randrange(0x3000, 0xd800),
                                               rng.randrange(0xe000, 0xfffe), rng.randrange(0x10000, 0x2ffff)])) for _ in range(rng.randint(1, 6))))
        if rng.random() < 0.7:
            out.append(rng.choice(SPACES[:8]) if rng.random() < 0.3 else " ")
    return "".join(out)


def own(count, seed):
    """Texts of our own: titles, prompts, single code points, long runs, mixtures."""
    rng = random.Random(seed)
    fixed = [c for group in (EMOJI, CONTRACTIONS, SPECIAL, CODE, NUMBERS, SPACES, sorted(OTHER.values())) for c in group]
    fixed += [" " * n + "x" for n in (1, 2, 3, 31)] + ["a" * 400, "ab" * 200, " " * 300, "\n" * 50, "é" * 99, "1" * 77, "-" * 64, "=" * 65, "!?" * 40]
    rng.shuffle(fixed)
    for i in range(count):
        if i < count // 3 and i < len(fixed):
            yield fixed[i]
        elif i % 4 == 0:
            yield title(rng)
        elif i % 4 == 1:
            yield f"Movie: {title(rng)}\n#Answer:"
        else:
            yield mixture(rng)


def movielens(folder):
    """Titles of MovieLens-100K with their years, as the release writes them."""
    with open(os.path.join(folder, "ml-100k.item"), encoding="utf-8") as f:
        next(f)
        for line in f:
            _, t, year, *_ = line.rstrip("\n").split("\t")
            yield f"{t} ({year})" if year else t


def all_texts(folder, count=5000, seed=7):
    rows = list(movielens(folder))
    return rows + list(own(count - len(rows), seed))
