"""What schemathesis can not send by itself: a line of JSON for each value, and a table as it is."""

import json

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(ctx, value):
    values = value if isinstance(value, list) else [value]
    return "".join(json.dumps(v) + "\n" for v in values).encode()


@schemathesis.serializer("text/csv")
def table(ctx, value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
