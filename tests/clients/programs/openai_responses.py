"""Drives openai-python's Responses API; runs in an environment of its own. Reads what to ask, prints JSON."""

from __future__ import annotations

import json
import sys

import openai

given = json.load(sys.stdin)
client = openai.OpenAI(base_url=given["url"], api_key="none", max_retries=0)
OPEN = given["asks"]["open"]


def ask(asked=given["asks"]["text"], instructions=given["system"], **more):
    return client.responses.create(model=given["model"], input=asked, instructions=instructions, **more)


def said(answered):
    return {"answer": answered.output_text}


def shows(name, part):
    content = [{"type": "input_text", "text": given["asks"][name]}, part]
    return said(ask([{"role": "user", "content": content}], None))


def stream():
    pieces, tokens = [], 0
    for event in ask(stream=True):
        if event.type == "response.output_text.delta":
            pieces.append(event.delta)
        elif event.type == "response.completed":
            tokens = event.response.usage.output_tokens
    return {"answer": "".join(pieces), "tokens": tokens}


def tools():
    answered = ask(tools=[{"type": "function", **tool["function"]} for tool in given["tools"]])
    return {**said(answered), "calls": sum(item.type == "function_call" for item in answered.output)}


def history():
    turns = [*given["history"], {"role": "user", "content": given["asks"]["text"]}]
    return said(ask(turns, None, truncation="auto"))


def again():
    asks = {"role": "user", "content": given["asks"]["text"]}
    # As the guides have it: what came is sent back as it came.
    return said(ask([asks, *ask([asks]).output, asks]))


def sampled():
    more = dict(given["sampled"])
    # Which OpenAI's has not.
    return said(ask(OPEN, None, extra_body={"seed": more.pop("seed")}, **more))


def logprobs():
    answered = ask(include=["message.output_text.logprobs"], top_logprobs=2)
    tokens = answered.output[0].content[0].logprobs
    assert all(len(token.top_logprobs) == 2 for token in tokens)
    return {"logprobs": [round(token.logprob, 4) for token in tokens]}


def length():
    answered = ask(max_output_tokens=1)
    cut = answered.status == "incomplete" and answered.incomplete_details.reason == "max_output_tokens"
    return {"finish_reason": "length" if cut else "stop"}


def refusal():
    try:
        client.responses.create(model="gpt-7", input=OPEN)
    except openai.NotFoundError as error:
        return {"status": error.status_code}
    return {"status": 200}


image = {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64," + given["image"]}
sound = {"type": "input_audio", "input_audio": {"data": given["sound"], "format": "wav"}}
video = {
    "type": "input_file",
    "filename": "clip.mp4",
    "file_data": "data:video/mp4;base64," + given["video"],
}
CASES = {
    "text": lambda: said(ask()),
    "picture": lambda: shows("picture", image),
    "sound": lambda: shows("sound", sound),
    "video": lambda: shows("video", video),
    "stream": stream,
    "tools": tools,
    "history": history,
    "again": again,
    "sampled": sampled,
    "stop": lambda: said(ask(extra_body={"stop": [given["stop"]]})),
    "choices": lambda: {"absent": "it asks for one answer"},
    "logprobs": logprobs,
    "length": length,
    "refusal": refusal,
}
for name, case in CASES.items():
    try:
        found = case()
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {error}"[:300]}
    print(json.dumps({name: found}), flush=True)
