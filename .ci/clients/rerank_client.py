"""Rerank as Cohere's client and a Jina user ask: rerank_client.py URL."""
import json
import sys
import urllib.request

import cohere

url = sys.argv[1].rstrip("/")
docs = ["i0", "i1", "i2", "A Film That Nobody Has Catalogued (1999)"]


def check(results, n):
    scores = [r.relevance_score for r in results]
    assert len(results) == n and scores == sorted(scores, reverse=True) and len({r.index for r in results}) == n, results


check(cohere.Client("none", base_url=url).rerank(model="corastream", query="old", documents=docs, top_n=3, return_documents=True).results, 3)
check(cohere.ClientV2("none", base_url=url).rerank(model="corastream", query="old", documents=docs, top_n=2).results, 2)

body = {"model": "corastream", "query": "old", "documents": [{"text": d} for d in docs], "top_n": 3, "return_documents": True}
req = urllib.request.Request(url + "/v1/rerank", json.dumps(body).encode(), {"Content-Type": "application/json", "Authorization": "Bearer none"})
with urllib.request.urlopen(req, timeout=60) as resp:
    jina = json.load(resp)
assert [r["document"]["text"] for r in jina["results"]] == [docs[r["index"]] for r in jina["results"]] and len(jina["results"]) == 3, jina
assert "total_tokens" in jina["usage"] and jina["model"] == "corastream", jina

try:
    cohere.Client("none", base_url=url).rerank(model="corastream", query="old", documents=[])
except cohere.errors.BadRequestError as e:
    assert e.body["error"]["field"] == "documents", e.body
else:
    raise AssertionError("no documents were ranked")
print("ok", cohere.__version__)
