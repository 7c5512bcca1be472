"""OpenAI's own client against a running server: openai_client.py URL. Anything unexpected is an AssertionError."""
import asyncio
import sys

import openai

url = sys.argv[1].rstrip("/") + "/v1"
client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60)
ASK = [{"role": "user", "content": "Name a film about the sea."}]


def ask(**more):
    return client.chat.completions.create(**{"model": "base", "messages": ASK, "temperature": 0, "max_tokens": 8, **more})


ids = [m.id for m in client.models.list()]
assert ids[:2] == ["base", "corastream"], ids
assert client.models.retrieve("base:old").model_extra["parent"] == "base"

whole = ask()
text = whole.choices[0].message.content
assert text.strip() and whole.choices[0].finish_reason in ("stop", "length"), whole
assert 0 < whole.usage.completion_tokens <= 8 and whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens, whole.usage
assert whole.model_extra["corastream"]["weights"] == "base", whole

parts = list(ask(stream=True, stream_options={"include_usage": True}))
assert "".join(p.choices[0].delta.content or "" for p in parts if p.choices) == text, parts
assert parts[-1].usage == whole.usage and parts[-2].choices[0].finish_reason == whole.choices[0].finish_reason, parts[-2:]

mine = ask(model="base:old", logprobs=True, top_logprobs=2)
said = mine.model_extra["corastream"]
assert said["weights"] == "user" and said["user_id"] == "old" and "A_u" in said["note"] and said["versions"]["user"] > 0, said
assert mine.system_fingerprint != whole.system_fingerprint
tokens = mine.choices[0].logprobs.content
assert len(tokens) == mine.usage.completion_tokens and all(len(t.top_logprobs) == 2 and t.logprob <= 0 for t in tokens), tokens
assert bytes(b for t in tokens for b in t.bytes).decode(errors="replace") == mine.choices[0].message.content
base = ask(model="base", logprobs=True)
assert [t.logprob for t in base.choices[0].logprobs.content] != [t.logprob for t in tokens], "the weights change nothing"
same = ask(model="corastream", user="old")
assert same.choices[0].message.content == mine.choices[0].message.content and same.model_extra["corastream"]["user_id"] == "old"
new = ask(model="base:nobody", max_tokens=1).model_extra["corastream"]
assert new["cold"] and "nothing is known" in new["note"], new

a, b, c = (ask(temperature=1.2, top_p=0.9, seed=s, max_tokens=12).choices[0].message.content for s in (7, 7, 8))
assert a == b and a != c, (a, b, c)
if " " in text.strip():
    cut = ask(stop=[" "])
    assert cut.choices[0].finish_reason == "stop" and " " not in cut.choices[0].message.content, cut

for kind, param, more in [
    (openai.NotFoundError, "model", {"model": "gpt-4o"}),
    (openai.BadRequestError, "user", {"model": "corastream"}),
    (openai.BadRequestError, "temperature", {"temperature": 3}),
    (openai.BadRequestError, "messages[0].role", {"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}),
    (openai.BadRequestError, "messages", {"messages": []}),
    (openai.BadRequestError, "n", {"n": 2}),
]:
    try:
        ask(**more)
    except kind as e:
        assert e.param == param and e.type == "invalid_request_error" and e.code and "fix" in e.body["message"], e.body
    else:
        raise AssertionError(f"{more} was answered")

try:
    # A conversation longer than the context is refused by name, not cut.
    ask(messages=[{"role": "user", "content": "word " * 3000}])
except openai.BadRequestError as e:
    assert e.param == "messages" and "llm.context_tokens" in e.body["message"], e.body
else:
    raise AssertionError("3,000 words were read")


async def together():
    many = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=60)
    async with many:
        answers = await asyncio.gather(*(many.chat.completions.create(model="base", messages=ASK, temperature=0, max_tokens=4) for _ in range(4)))
    assert len({x.choices[0].message.content for x in answers}) == 1, answers


asyncio.run(together())
with ask(stream=True, max_tokens=16) as stream:  # left in the middle
    next(iter(stream))
assert ask(max_tokens=2).usage.completion_tokens > 0
print("ok", openai.__version__)
