"""From a click to the changed list, over HTTP: freshness.py [URL] [CLICKS]. Python 3 alone is needed; set TOKEN where the server asks for one.

Each new visitor asks for a list, clicks its third item, and asks again. The time is from before the click is sent until the second
list is there. The last line is the result as JSON."""
import http.client
import json
import os
import sys
import time
import urllib.parse

url = urllib.parse.urlsplit(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8642")
clicks = int(sys.argv[2]) if len(sys.argv) > 2 else 100
server = http.client.HTTPConnection(url.hostname, url.port or 80, timeout=30)
headers = {"Content-Type": "application/json"}
if os.environ.get("TOKEN"):
    headers["Authorization"] = "Bearer " + os.environ["TOKEN"]


def post(path, body):
    server.request("POST", path, json.dumps(body), headers)
    answer = server.getresponse()
    text = answer.read().decode()
    if answer.status not in (200, 202):
        sys.exit(f"{path}: {answer.status} {text}")
    return json.loads(text)


def items(user):
    return [item["item_id"] for item in post("/v1/recommend", {"user_id": user})["items"]]


run, times, learning, same = str(time.time_ns()), [], [], 0
for n in range(clicks):
    user = f"visitor-{run}-{n}"
    before = items(user)
    if len(before) < 3:
        sys.exit("the server lists fewer than three items: produce a catalogue and some events first")
    began = time.perf_counter()
    sent = post("/v1/events?wait=learnt", {"user_id": user, "item_id": before[2], "type": "click"})
    after = items(user)
    times.append((time.perf_counter() - began) * 1000)
    if not sent["learnt"]:
        sys.exit("the click was not learnt in time")
    learning.append(sent["learnt_ms"])
    same += after == before or before[2] in after


def at(values, q):
    return round(sorted(values)[min(len(values) - 1, int(q * len(values)))], 2)


print(json.dumps({
    "clicks": clicks, "lists_unchanged": same,
    "click_to_list_ms": {"p50": at(times, .5), "p90": at(times, .9), "p99": at(times, .99)},
    "of_it_learning_ms": {"p50": at(learning, .5)},
}))
