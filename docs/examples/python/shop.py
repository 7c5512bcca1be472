"""A small shop over HTTP: shop.py [URL]. Python 3 alone is needed; set TOKEN where the server asks for one."""
import json
import os
import sys
import urllib.request

URL = (sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8642").rstrip("/")


def ask(path, body=None, method=None):
    headers = {"Content-Type": "application/json"}
    if os.environ.get("TOKEN"):
        headers["Authorization"] = "Bearer " + os.environ["TOKEN"]
    data = json.dumps(body).encode() if body is not None else None
    with urllib.request.urlopen(urllib.request.Request(URL + path, data, headers, method=method), timeout=30) as answer:
        return json.load(answer)


def titles(answer):
    return [item.get("title") or item["item_id"] for item in answer["items"]]


ask("/v1/items?wait=learnt", [{"item_id": f"py-shop-{n}", "title": title, "kind": kind} for n, (title, kind) in enumerate(
    [("Tent", "camp"), ("Sleeping bag", "camp"), ("Stove", "cook"), ("Pan", "cook")])])
for n in range(3):
    ask("/v1/events?wait=learnt", [{"user_id": f"py-shop-{n}", "item_id": f"py-shop-{item}", "type": "purchase"} for item in (0, 1)])

# A visitor without an account looks at the tent: the history comes with the request, and nothing of it is kept.
print("with the tent in the cart:", titles(ask("/v1/recommend", {"history": ["py-shop-0"], "n": 3})))

# At login the session becomes the user's own.
ask("/v1/users/py-shop-new/merge?wait=learnt", {"history": ["py-shop-0"]})
mine = ask("/v1/recommend", {"user_id": "py-shop-new", "n": 3})
print("after login:", titles(mine))
for item in mine["items"]:
    print(" ", item["item_id"], (item.get("why") or {}).get("text", ""))

# Taken back: the next list is made without it.
ask("/v1/users/py-shop-new/events?item_id=py-shop-0&wait=learnt", method="DELETE")
print("events left:", len(ask("/v1/users/py-shop-new/events")["events"]))
