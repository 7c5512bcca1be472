#!/usr/bin/env bash
# A visitor whom nobody knows, three likes, and the list after each: what docs/guide/turn.svg shows. `corastream up` must be running
# with a catalogue and events.
#
#   .ci/pictures/turn.sh 127.0.0.1:8642 "Alien (1979)" "Wrong Trousers, The (1993)" > session
#   .ci/pictures/cast.py session "three likes of a visitor whom nobody knows" > docs/guide/turn.svg
set -eu
at=$1; shift
visitor="visitor-$$"
ask() { # prints what the visitor would see, and how long the answer took
	curl -sS -w '\n%{time_total}' -H 'content-type: application/json' -d "{\"user_id\":\"$visitor\",\"n\":5}" "$at/v1/recommend" |
		python3 -c 'import json, sys; body, took = sys.stdin.read().rsplit("\n", 1); print("user %-9s %3.0f ms  [%s]" % (sys.argv[1], 1000 * float(took), ", ".join(i.get("title") or i["item_id"] for i in json.loads(body)["items"])))' "$1"
}
ask "sees"
for title in "$@"; do
	id=$(curl -sS -G --data-urlencode "q=$title" "$at/v1/items" | python3 -c 'import json, sys; print(next(i["item_id"] for i in json.load(sys.stdin)["items"] if i["title"] == sys.argv[1]))' "$title")
	curl -sS -o /dev/null -H 'content-type: application/json' -w "     likes     %{time_total} s  $title\n" \
		-d "{\"user_id\":\"$visitor\",\"item_id\":\"$id\",\"type\":\"like\"}" "$at/v1/events?wait=learnt"
	ask "now sees"
done
