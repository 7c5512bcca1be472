"""MovieLens-100K through Gorse's REST API, in Gorse's convention: a rating of 4 or more is positive ("star"), the others are read.

    gorse.py URL load                  the catalogue and the first 80 % of the ratings, in time order
    gorse.py URL live [ROWS] [PID]     ROWS ratings of the rest: the user's list is asked before each positive one

It runs against `corastream up --gorse` and against Gorse, which has to train between the two: start it again after load. The
configuration of Gorse needs positive_feedback_types = ["star"] and read_feedback_types = ["read"]. PID is the server's, for its
processor time. Python 3 alone is needed. The last line is the result as JSON."""
import csv
import http.client
import itertools
import json
import os
import sys
import time
import urllib.parse

url = urllib.parse.urlsplit(sys.argv[1])
data = os.environ.get("ML100K", ".cache/ml-100k")
server = http.client.HTTPConnection(url.hostname, url.port or 80, timeout=120)


def ask(method, path, body=None):
    server.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"})
    answer = server.getresponse()
    text = answer.read().decode()
    if answer.status != 200:
        sys.exit(f"{path}: {answer.status} {text}")
    return json.loads(text)


def items(user, n=10):
    return [x if isinstance(x, str) else x["Id"] for x in ask("GET", f"/api/recommend/{user}?n={n}") or []]


def feedback(user, item, kind, at):
    return {"FeedbackType": kind, "UserId": user, "ItemId": item, "Timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))}


def rating(row):
    return feedback(row["user_id"], row["item_id"], "star" if int(row["rating"]) >= 4 else "read", int(row["timestamp"]))


def rows(name):
    with open(os.path.join(data, name), newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def batches(all, n=500):
    for i in range(0, len(all), n):
        yield all[i : i + n]


def cpu(pid):
    if not pid:
        return 0.0
    with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def p50(values):
    return round(sorted(values)[len(values) // 2], 2) if values else None


if sys.argv[2] == "load":
    for part in batches([{"ItemId": r["item_id"], "Comment": r["title"], "Categories": r["genres"].split(), "Timestamp": "1997-01-01T00:00:00Z"} for r in rows("items.csv")]):
        ask("POST", "/api/items", part)
    began = time.time()
    for part in batches([rating(r) for r in rows("train.csv")]):
        ask("POST", "/api/feedback", part)
    print(json.dumps({"loaded_s": round(time.time() - began, 1)}))
    sys.exit()

wanted = int(sys.argv[3]) if len(sys.argv) > 3 else 20000
pid = sys.argv[4] if len(sys.argv) > 4 else None
questions, hits, empty, times, began = 0, 0, 0, [], cpu(pid)
live = rows("live.csv")[:wanted]
for row in live:
    event = rating(row)
    if event["FeedbackType"] == "star":
        at = time.perf_counter()
        got = items(row["user_id"])
        times.append((time.perf_counter() - at) * 1000)
        questions, hits, empty = questions + 1, hits + (row["item_id"] in got), empty + (not got)
    ask("POST", "/api/feedback", [event])
steps = cpu(pid) - began

users = sorted({r["user_id"] for r in live})[:150]
began = cpu(pid)
lists = [set(items(u)) for u in users]
answers = cpu(pid) - began
pairs = [len(a & b) / len(a | b) for a, b in itertools.combinations(lists, 2) if a | b]

changed, never = [], 0
for n in range(30):  # a user who clicks the third item of the list that was shown
    user = users[n]
    before = items(user)
    if len(before) < 3:
        continue
    at = time.perf_counter()
    ask("POST", "/api/feedback", [feedback(user, before[2], "star", int(live[-1]["timestamp"]) + n)])
    while items(user) == before:
        if time.perf_counter() - at > 20:
            never += 1
            break
        time.sleep(0.0005)
    else:
        changed.append((time.perf_counter() - at) * 1000)
print(json.dumps({
    "rows": len(live), "questions": questions, "hr10": round(hits / max(1, questions), 4), "empty": empty, "answer_ms_p50": p50(times),
    "mean_jaccard": round(sum(pairs) / max(1, len(pairs)), 4), "insert_to_changed_ms_p50": p50(changed), "unchanged_after_20_s": never,
    "cpu_ms_per_answer": round(answers * 1000 / len(users), 2), "cpu_ms_per_row": round(steps * 1000 / len(live), 2),
}))
