"""Writes reference.json: metrics by scikit-learn on made-up scores, and a ridge logistic regression.

Made with scikit-learn 1.9.1 and numpy 2.4.6: python3 reference.py > reference.json
"""
import json

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score

rng = np.random.default_rng(7)
n, users = 400, 23
user = rng.integers(0, users, n)
# Rounded scores make ties; a user with one label, and one with one row, must be handled.
score = np.round(rng.normal(0, 1.5, n), 1)
label = (rng.random(n) < 1 / (1 + np.exp(-0.7 * score))).astype(int)
label[user == 3] = 1
label[user == 4] = 0

p = 1 / (1 + np.exp(-score))
aucs, ndcgs = [], []
for u in range(users):
    s, y = score[user == u], label[user == u]
    if 0 < y.sum() < len(y):
        aucs.append(roc_auc_score(y, s))
    if y.sum() > 0:
        ndcgs.append(ndcg_score([y], [s], k=10) if len(y) > 1 else 1.0)

x = rng.normal(0, 1, (200, 5)) * [1, 3, 0.2, 5, 1] + [0, 1, 2, 3, 4]
y = (rng.random(200) < 1 / (1 + np.exp(-(x[:, 0] - 0.3 * x[:, 3] + 1)))).astype(int)
penalty = 3.0
m = LogisticRegression(C=1 / penalty, tol=1e-12, max_iter=10000).fit(x, y)

print(json.dumps({
    "score": score.tolist(), "label": label.tolist(), "user": user.tolist(),
    "auc": roc_auc_score(label, score), "uauc": float(np.mean(aucs)), "uauc_users": len(aucs),
    "logloss": log_loss(label, p), "ndcg10": float(np.mean(ndcgs)),
    "ridge": {"x": np.round(x, 12).tolist(), "y": y.tolist(), "penalty": penalty,
              "weight": m.coef_[0].tolist(), "intercept": float(m.intercept_[0])},
}))
