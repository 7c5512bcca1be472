#!/usr/bin/env python3
"""Draw a recorded terminal session as an SVG whose lines appear one after another.

    script -qec "bin/corastream demo --events 3000" session
    .ci/pictures/cast.py session "make run" > docs/guide/run.svg

The lines are the session's own; progress bars are left out, and of a long stretch of alike lines the first KEEP.
"""
import html
import re
import sys

KEEP, WIDTH = 11, 158
session, command = sys.argv[1], sys.argv[2]
text = open(session, encoding="utf-8", errors="replace").read()
text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
lines = []
for line in re.split(r"[\r\n]+", text):
    line = line.rstrip()
    if not line or line.startswith("Script ") or re.search(r"\|.*\| \(|\d+% \|", line):
        continue
    lines.append(line)
out, kinds = [], {}
for line in lines:
    kind = re.sub(r"[\d.:]+", "#", line)[:9] if line.startswith("user ") else None
    if " INF live auc" in line:
        kind = "live"
    if kind:
        kind = "user" if line.startswith("user ") else kind
        kinds[kind] = kinds.get(kind, 0) + 1
        if kinds[kind] > KEEP or kind == "live" and kinds[kind] > 3:
            continue
    out.append(line)
row, top = 19, 54
height = top + row * (len(out) + 1) + 12
print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1270 {height}" role="img" aria-label="a recorded run of {html.escape(command)}">')
print('<style>text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:#d7dbe2;white-space:pre}.u{fill:#9ecbff}.c{fill:#7ee0a6}.d{fill:#8b95a3}'
      '.n{fill:#f2c078}g{opacity:0;animation:a .01s forwards}@keyframes a{to{opacity:1}}@media(prefers-reduced-motion:reduce){g{opacity:1;animation:none}}</style>')
print(f'<rect width="1270" height="{height}" rx="10" fill="#15181d"/><circle cx="22" cy="20" r="6" fill="#ff5f57"/><circle cx="42" cy="20" r="6" fill="#febc2e"/><circle cx="62" cy="20" r="6" fill="#28c840"/>')
delay = 0.2
print(f'<g style="animation-delay:{delay:.2f}s"><text x="18" y="{top}"><tspan class="c">$</tspan> {html.escape(command)}</text></g>')
for i, line in enumerate(out):
    delay += 0.7 if line.startswith("user ") else 0.35
    line = line if len(line) <= WIDTH else line[:WIDTH - 1] + "…"
    safe = html.escape(line)
    if line.startswith("user "):
        safe = re.sub(r"^(user \S+)", r'<tspan class="u">\1</tspan>', safe)
        safe = re.sub(r"(\[[^\]]*\]?)$", r'<tspan class="c">\1</tspan>', safe)
    else:
        safe = re.sub(r"^(\d\d:\d\d:\d\d INF)", r'<tspan class="d">\1</tspan>', safe)
        safe = re.sub(r"(auc_\w+=|fresh_\w+=)([\d.]+)", r'\1<tspan class="n">\2</tspan>', safe)
    print(f'<g style="animation-delay:{delay:.2f}s"><text x="18" y="{top + row * (i + 1)}">{safe}</text></g>')
print("</svg>")
