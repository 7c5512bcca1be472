"""Reference ranks of the next-item protocol, for replay/testdata/next.json: an implementation of its own, in numpy.

    python3 .ci/reference/next_item.py .cache/ml-100k > replay/testdata/next.json

One pass in time order. Rows of one user and time are a moment, at the place of the first of them: all are ranked before any is
learnt. Before each liked row of live.csv whose item its user had not met, all items not met are ranked by their count of likes, and an
item of equal count counts half. A moment that begins in train.csv is learnt at once; else a like reaches the counts `delay` later.
"""
import csv, hashlib, json, sys
import numpy as np

folder = sys.argv[1]
read = lambda name: list(csv.DictReader(open(f'{folder}/{name}.csv', encoding='utf-8')))
train, live = read('train'), read('live')
number = {row['item_id']: n for n, row in enumerate(read('items'))}
rows = [(r['user_id'], number[r['item_id']], r['label'] == '1', int(r['timestamp'])) for r in train + live]
moments = {}
for k, (user, _, _, at) in enumerate(rows):
    moments.setdefault((at, user), []).append(k)


def ranks(delay):
    likes, met, out, waiting = np.zeros(len(number), np.int64), {}, [], []
    by_row = {}
    for (at, user), moment in moments.items():
        while waiting and waiting[0][0] + delay <= at:
            likes[waiting.pop(0)[1]] += 1
        mine = met.setdefault(user, np.zeros(len(number), bool))
        for k in moment:
            _, item, liked, _ = rows[k]
            if liked and k >= len(train) and not mine[item]:
                others = ~mine
                others[item] = False
                by_row[k] = (likes[others] > likes[item]).sum() + 0.5 * (likes[others] == likes[item]).sum()
        for k in moment:
            _, item, liked, _ = rows[k]
            mine[item] = True
            if not liked:
                continue
            if moment[0] < len(train) or delay == 0:
                likes[item] += 1
            elif delay is not None:
                waiting.append((at, item))
    return [by_row[k] for k in sorted(by_row)]


report = {}
for name, delay in (('0s', 0), ('1h0m0s', 3600), ('frozen', None)):
    if delay is None:
        delay = float('inf')
    r = ranks(delay)
    report[name] = {
        'rows': len(r), 'sum': float(sum(r)), 'ndcg10': float(np.mean([1 / np.log2(x + 2) if x < 10 else 0 for x in r])),
        'sha256': hashlib.sha256(''.join(f'{x:.1f}\n' for x in r).encode()).hexdigest(),
    }
json.dump(report, sys.stdout, indent=1)
print()
