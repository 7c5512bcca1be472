#!/usr/bin/env bash
# What people type: curl.sh URL.
set -euo pipefail
url=${1%/}
post() { curl -sS --fail-with-body -H 'Content-Type: application/json' -d "$2" "$url$1"; }
status() { curl -sS -o /dev/null -w '%{http_code}' "$@"; }
has() { grep -F -- "$1" >/dev/null || { echo "curl.sh: line ${BASH_LINENO[0]}: the answer lacks $1" >&2; exit 1; }; }
curl -sS "$url/healthz" | has '"status":"ok"'
post /v1/recommend '{"user_id":"old","n":3,"explain":true}' | has '"arm":"active"'
post /v1/recommend '{"user_id":"nobody","n":3}' | has 'nothing is known of this user yet'
post /v1/recommend '{"user_id":"old","n":3,"deny":{"kind":["odd","even"]}}' | has '"items":[]'
post /v1/score '{"user_id":"old","items":["i0",{"text":"Heat (1995)"}]}' | has '"scores":[['
post /v1/score '{"query":"The sea is blue.\n#Answer:","items":[{"text":" "}]}' | has '"prompt_tokens"'
post /v1/rerank '{"query":"old","documents":["i0","i1"]}' | has '"relevance_score"'
post /v1/events '{"user_id":"curl","item_id":"i0","rating":5}' | has '"accepted":1'
post /v1/chat/completions '{"model":"base","messages":[{"role":"user","content":"Hi"}],"max_tokens":4,"temperature":0}' | has '"chat.completion"'
curl -sSN -H 'Content-Type: application/json' -d '{"model":"base:old","stream":true,"messages":[{"role":"user","content":"Hi"}],"max_tokens":4,"temperature":0}' "$url/v1/chat/completions" | tail -n 2 | has 'data: [DONE]'
curl -sS "$url/v1/models" | has '"id":"corastream"'
curl -sS "$url/metrics" | has 'corastream_generated_tokens_total'
[ "$(status "$url/users/old")" = 200 ] && [ "$(status "$url/users/nobody")" = 404 ] && [ "$(status "$url/items/nothing")" = 404 ] || { echo 'curl.sh: pages' >&2; exit 1; }
curl -sS -d '{' -H 'Content-Type: application/json' "$url/v1/recommend" | has '"code":"bad_json"'
curl -sS -d 'x=1' "$url/v1/recommend" | has '"field":"Content-Type"'
echo ok
