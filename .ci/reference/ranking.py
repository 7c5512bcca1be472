#!/usr/bin/env python3
"""Writes replay/testdata/ranking.json: ranking metrics by RecBole's own classes, calibration by scikit-learn, on made-up scores.

    python3 .ci/reference/ranking.py > replay/testdata/ranking.json

Made with recbole 1.2.1 (pip install --no-deps: only its metrics are used), torch 2.15.0, scikit-learn 1.9.1, numpy 2.4.6.
"""
import json
import sys
import types
import warnings

warnings.filterwarnings("ignore")
sys.modules["torch.utils.tensorboard"] = types.SimpleNamespace(SummaryWriter=None)  # RecBole imports it for its logs alone

import numpy as np
import torch

np.float = float  # RecBole 1.2.1 is older than numpy 1.24
from recbole.evaluator.metrics import NDCG, MRR, GiniIndex, Hit, ItemCoverage
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, roc_auc_score

rng = np.random.default_rng(11)
rows, items, most = 60, 45, 20
scores = np.round(rng.normal(0, 1, (rows, items)) + 0.8 * rng.normal(0, 1, items), 4)
for r in range(rows):  # RecBole has no rule for ties, so there are none
    while len(set(scores[r])) < items:
        scores[r] = np.round(rng.normal(0, 1, items), 4)
met = [sorted(rng.choice(items, rng.integers(0, 12), replace=False).tolist()) for _ in range(rows)]
target = []
for r in range(rows):
    free = [i for i in range(items) if i not in met[r]]
    target.append(int(max(rng.choice(free, 3), key=lambda i: scores[r][i])))

# What RecBole calls rec.topk: a row's hits at each of the first `most` places, and how many items are relevant.
hits, recommended = [], []
for r in range(rows):
    s = torch.tensor(scores[r])
    s[met[r]] = -np.inf
    top = torch.topk(s, most).indices
    hits.append(torch.cat([(top == target[r]).int(), torch.tensor([1], dtype=torch.int32)]))
    recommended.append(top)


class Data(dict):
    def get(self, key):
        return self[key]


data = Data({"rec.topk": torch.stack(hits), "rec.items": torch.stack(recommended), "data.num_items": items})
config = {"metric_decimal_place": 12, "topk": [1, 5, 10, 20]}
config = type("Config", (dict,), {})(config)
out = {}
for name, metric in (("hr", Hit), ("ndcg", NDCG), ("mrr", MRR)):
    out.update(metric(config).calculate_metric(data))
config["topk"] = [10]
for metric in (ItemCoverage, GiniIndex):
    out.update(metric(config).calculate_metric(data))

z = np.round(rng.normal(0.3, 1.4, 500), 3)
y = (rng.random(500) < 1 / (1 + np.exp(-0.6 * z))).astype(int)
p = 1 / (1 + np.exp(-z))
came, said = calibration_curve(y, p, n_bins=10)
edges = np.linspace(0, 1, 11)
which = np.searchsorted(edges[1:-1], p)
count = np.bincount(which, minlength=10)
windows = [roc_auc_score(y[w * 100:(w + 1) * 100], z[w * 100:(w + 1) * 100]) for w in range(5)]

json.dump({
    "scores": scores.tolist(), "met": met, "target": target, "recbole": {k: float(v) for k, v in out.items()},
    "z": z.tolist(), "label": y.tolist(), "brier": brier_score_loss(y, p), "said": said.tolist(), "came": came.tolist(),
    "rows": count[count > 0].tolist(), "ece": float(np.sum(count[count > 0] * np.abs(said - came)) / len(z)), "windows": windows,
}, sys.stdout)
