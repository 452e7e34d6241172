"""Drives openai-python; runs in an environment of its own. Reads what to ask from its input, prints JSON."""

from __future__ import annotations

import json
import sys

import openai

given = json.load(sys.stdin)
client = openai.OpenAI(base_url=given["url"], api_key="none", max_retries=0)
SYSTEM = {"role": "system", "content": given["system"]}
TEXT = [SYSTEM, {"role": "user", "content": given["asks"]["text"]}]

OPEN = [{"role": "user", "content": given["asks"]["open"]}]


def ask(messages=TEXT, **more):
    return client.chat.completions.create(model=given["model"], messages=messages, **more)


def said(answered):
    return answered.choices[0].message.content


def shows(name, part):
    return [{"role": "user", "content": [{"type": "text", "text": given["asks"][name]}, part]}]


def stream():
    pieces, tokens = [], 0
    for chunk in ask(stream=True, stream_options={"include_usage": True}):
        pieces += [choice.delta.content or "" for choice in chunk.choices]
        tokens = chunk.usage.completion_tokens if chunk.usage else tokens
    return {"answer": "".join(pieces), "tokens": tokens}


def tools():
    answered = ask(tools=given["tools"])
    return {"answer": said(answered), "calls": len(answered.choices[0].message.tool_calls or [])}


def logprobs():
    content = ask(logprobs=True, top_logprobs=2).choices[0].logprobs.content
    assert all(len(token.top_logprobs) == 2 for token in content)
    return {"logprobs": [round(token.logprob, 4) for token in content]}


def refusal():
    try:
        client.chat.completions.create(model="gpt-7", messages=TEXT)
    except openai.NotFoundError as error:
        return {"status": error.status_code}
    return {"status": 200}


image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + given["image"]}}
sound = {"type": "input_audio", "input_audio": {"data": given["sound"], "format": "wav"}}
video = {"type": "video_url", "video_url": {"url": "data:video/mp4;base64," + given["video"]}}
CASES = {
    "text": lambda: {"answer": said(ask())},
    "picture": lambda: {"answer": said(ask(shows("picture", image)))},
    "sound": lambda: {"answer": said(ask(shows("sound", sound)))},
    "video": lambda: {"answer": said(ask(shows("video", video)))},
    "stream": stream,
    "tools": tools,
    "history": lambda: {"answer": said(ask([*given["history"], TEXT[1]]))},
    "sampled": lambda: {"answer": said(ask(OPEN, **given["sampled"]))},
    "stop": lambda: {"answer": said(ask(stop=[given["stop"]]))},
    "choices": lambda: {"answers": [c.message.content for c in ask(OPEN, n=3, **given["sampled"]).choices]},
    "logprobs": logprobs,
    "length": lambda: {"finish_reason": ask(max_tokens=1).choices[0].finish_reason},
    "refusal": refusal,
}
for name, case in CASES.items():
    try:
        found = case()
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {error}"[:300]}
    print(json.dumps({name: found}), flush=True)
