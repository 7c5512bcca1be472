"""Gorse's own client for Python against a running `up --gorse`: gorse_client.py URL. Anything unexpected is an AssertionError."""
import asyncio
import sys

import gorse

url = sys.argv[1].rstrip("/")
client = gorse.Gorse(url, "none", timeout=60)
DAY = "2026-01-0{}T00:00:00Z"


def affected(answer, n):
    assert answer == {"RowAffected": n}, answer


affected(client.insert_item({"ItemId": "py:a", "Comment": "The sea at night", "Categories": ["sea", "night"], "Labels": ["blue", "dark"], "Timestamp": DAY.format(1), "IsHidden": False}), 1)
for name in "bcde":
    affected(client.insert_item({"ItemId": "py:" + name, "Comment": f"The sea, part {name}", "Categories": ["sea"], "Timestamp": DAY.format(1), "IsHidden": False}), 1)
it = client.get_item("py:a")
assert (it["ItemId"], it["Comment"], it["Categories"], it["Labels"], it["IsHidden"]) == ("py:a", "The sea at night", ["sea", "night"], ["blue", "dark"], False), it

for user, taken in {"py-1": "abc", "py-2": "abd", "py-3": "ab"}.items():
    affected(client.insert_feedbacks([{"FeedbackType": "star", "UserId": user, "ItemId": "py:" + x, "Timestamp": DAY.format(2 + n)} for n, x in enumerate(taken)]), len(taken))
affected(client.insert_feedback("like", "py-3", "py:e", DAY.format(5)), 1)
affected(client.insert_feedback("like", "py-3", "py:e", DAY.format(5)), 1)  # a repeat is dropped
stars = client.list_feedbacks("like", "py-3")
assert [f["ItemId"] for f in stars] == ["py:e", "py:b", "py:a"] and stars[0]["FeedbackType"] == "like", stars

near = client.get_neighbors("py:a", n=2)
assert near and near[0]["Id"] == "py:b" and len(near) <= 2, near
ours = client.get_recommend("py-1", n=5)
assert len(ours) == 5 and all(isinstance(s, gorse.Score) for s in ours), ours
assert [s.score for s in ours] == sorted((s.score for s in ours), reverse=True), ours
page = client.get_recommend("py-1", n=2, offset=2)
assert [s.id for s in page] == [s.id for s in ours[2:4]], (page, ours)
sea = client.get_recommend("nobody", category="night", n=5)
assert [s.id for s in sea] == ["py:a"], sea
visitor = client.session_recommend([{"FeedbackType": "star", "UserId": "", "ItemId": "py:a", "Timestamp": DAY.format(6)}], n=3)
assert len(visitor) == 3 and all("Score" in s for s in visitor), visitor

affected(client.delete_feedback("py-3", "py:e"), 1)
assert [f["ItemId"] for f in client.list_feedbacks("like", "py-3")] == ["py:b", "py:a"]

affected(client.update_item("py:a", is_hidden=True), 1)
hidden = client.get_item("py:a")
assert hidden["IsHidden"] and hidden["Comment"] == "The sea at night" and hidden["Categories"] == ["sea", "night"], hidden
assert [s.id for s in client.get_recommend("nobody", category="night", n=5)] == []
affected(client.update_item("py:a", is_hidden=False, labels=["green"]), 1)
assert client.get_item("py:a")["Labels"] == ["green"]
assert [x["ItemId"] for x in client.search_items("sea at")] == ["py:a"]

got, cursor = [], ""
while True:
    some, cursor = client.get_items(7, cursor)
    got += [x["ItemId"] for x in some]
    if not cursor:
        break
assert len(got) == len(set(got)) and {"py:a", "py:e"} <= set(got), got
users, cursor = client.get_users(100)
assert {"py-1", "py-2", "py-3"} <= {u["UserId"] for u in users} and cursor == "", users
assert client.get_user("py-1")["UserId"] == "py-1"
# What users with a label take is listed to a new user with it.
for n in range(6):
    affected(client.insert_user({"UserId": f"py-l{n}", "Labels": ["sailor"] if n % 2 else ["cook"], "Comment": ""}), 1)
    affected(client.insert_feedback("star", f"py-l{n}", "py:d" if n % 2 else "py:c", DAY.format(6)), 1)
affected(client.insert_user({"UserId": "py-new", "Labels": ["sailor"], "Comment": ""}), 1)
affected(client.insert_user({"UserId": "py-new2", "Labels": {"trade": "cook"}, "Comment": ""}), 1)
assert client.get_user("py-new")["Labels"] == ["sailor"] and client.get_user("py-new2")["Labels"] == ["trade=cook"]
affected(client.insert_user({"UserId": "py-new2", "Labels": ["cook"], "Comment": ""}), 1)
assert client.get_user("py-new2")["Labels"] == ["cook"]
place = {user: [s.id for s in client.get_recommend(user, n=20)] for user in ("py-new", "py-new2")}
assert place["py-new"].index("py:d") < place["py-new"].index("py:c"), place
assert place["py-new2"].index("py:c") < place["py-new2"].index("py:d"), place
affected(client.delete_user("py-new2"), 1)
rows, cursor = client.get_feedbacks(1000)
assert cursor == "" and sum(f["UserId"].startswith("py-") for f in rows) == 14, rows

affected(client.delete_item("py:e"), 1)
for status, ask in [
    (404, lambda: client.get_item("py:e")), (404, lambda: client.get_user("nobody")),
    (404, lambda: client.get_user("py-new2")), (400, lambda: client.insert_feedback("unheard-of", "u", "i", DAY.format(1))),
    (400, lambda: client.get_recommend("py-1", n=10_000)),
]:
    try:
        ask()
    except gorse.GorseException as e:
        assert e.status_code == status, (e.status_code, e.args)
    else:
        raise AssertionError(f"{status} expected")


async def together():
    many = gorse.AsyncGorse(url, "none")
    lists = await asyncio.gather(*(many.get_recommend("py-1", n=5) for _ in range(4)))
    assert all(len(x) == 5 for x in lists), lists


asyncio.run(together())
print("ok")
