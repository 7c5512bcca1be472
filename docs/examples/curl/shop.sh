#!/usr/bin/env bash
# A small shop over HTTP: shop.sh [URL]. It sends a catalogue and some clicks, and asks for the lists of a site. curl alone is needed.
set -euo pipefail
url=${1:-http://127.0.0.1:8642}
post() { curl -sS --fail-with-body -H 'Content-Type: application/json' -d "$2" "$url$1"; }

# The catalogue: any further field is kept and can be filtered by.
post '/v1/items?wait=learnt' '[
  {"item_id": "shop-tea", "title": "Green tea", "brand": "Hill"}, {"item_id": "shop-pot", "title": "Tea pot", "brand": "Clay"},
  {"item_id": "shop-cup", "title": "Cup", "brand": "Clay"}, {"item_id": "shop-rug", "title": "Rug", "brand": "Loom"}]'

# Clicks: the answer comes when the next list is made with them.
for user in shop-1 shop-2 shop-3; do
  post '/v1/events?wait=learnt' "[{\"user_id\": \"$user\", \"item_id\": \"shop-tea\", \"type\": \"purchase\"}, {\"user_id\": \"$user\", \"item_id\": \"shop-pot\", \"type\": \"purchase\"}]"
done

echo 'Home, for a user:';           post /v1/recommend '{"user_id": "shop-1", "n": 3}'
echo 'Home, and it counts as shown:'; post /v1/recommend '{"user_id": "shop-1", "n": 3, "write_back": true}'
echo 'Home, for a visitor:';        post /v1/recommend '{"history": ["shop-tea"], "n": 3}'
echo 'On the page of the tea:';     curl -sS --fail-with-body "$url/v1/items/shop-tea/similar?n=2"
echo 'Popular, of one brand:';      curl -sS --fail-with-body "$url/v1/popular?n=3&allow=brand:Clay"
echo 'With a vector of its own:';   post '/v1/items?wait=learnt' '{"item_id": "shop-mat", "title": "Mat", "embedding": [0.1, -0.2, 0.3]}'
echo 'New:';                        curl -sS --fail-with-body "$url/v1/latest?n=3"
echo 'Hidden, as it is sold out:';  curl -sS --fail-with-body -X PATCH -H 'Content-Type: application/json' -d '{"withdrawn": true}' "$url/v1/items/shop-rug?wait=learnt"
