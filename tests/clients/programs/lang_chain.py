"""Drives LangChain; runs in an environment of its own. Reads what to ask from its input, prints JSON.

Told "responses", it asks OpenAI's Responses API.
"""

from __future__ import annotations

import json
import sys

import openai
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI

given = json.load(sys.stdin)
RESPONSES = sys.argv[1:] == ["responses"]
MADE = {"system": SystemMessage, "user": HumanMessage, "assistant": AIMessage}
TEXT = [SystemMessage(given["system"]), HumanMessage(given["asks"]["text"])]

OPEN = [HumanMessage(given["asks"]["open"])]


def chat(model=given["model"], **more):
    if RESPONSES:
        more["use_responses_api"] = True
        if "seed" in more:  # which OpenAI's has not
            more["extra_body"] = {"seed": more.pop("seed")}
    return ChatOpenAI(model=model, base_url=given["url"], api_key="none", max_retries=0, **more)


def shows(name, part):
    return [HumanMessage([{"type": "text", "text": given["asks"][name]}, part])]


def stream():
    whole = None
    for chunk in chat(stream_usage=True).stream(TEXT):
        whole = chunk if whole is None else whole + chunk
    return {"answer": whole.text, "tokens": whole.usage_metadata["output_tokens"]}


def tools():
    answered = chat().bind_tools(given["tools"]).invoke(TEXT)
    return {"answer": answered.text, "calls": len(answered.tool_calls)}


def history():
    turns = [MADE[turn["role"]](turn["content"]) for turn in given["history"]]
    return {"answer": chat().invoke([*turns, TEXT[1]]).text}


def stop():
    if RESPONSES:
        return {"absent": "it sends none"}
    return {"answer": chat().invoke(TEXT, stop=[given["stop"]]).text}


def choices():
    if RESPONSES:
        return {"absent": "it asks for one answer"}
    found = chat(n=3, **given["sampled"]).generate([OPEN])
    return {"answers": [each.message.text for each in found.generations[0]]}


def logprobs():
    if RESPONSES:
        return {"absent": "it hands none on"}
    answered = chat(logprobs=True, top_logprobs=2).invoke(TEXT)
    content = answered.response_metadata["logprobs"]["content"]
    return {"logprobs": [round(token["logprob"], 4) for token in content]}


def length():
    told = chat(max_tokens=1).invoke(TEXT).response_metadata
    if RESPONSES:
        cut = told["incomplete_details"]["reason"] == "max_output_tokens"
        return {"finish_reason": "length" if cut else "stop"}
    return {"finish_reason": told["finish_reason"]}


def refusal():
    try:
        chat(model="gpt-7").invoke(TEXT)
    except openai.NotFoundError as error:
        return {"status": error.status_code}
    return {"status": 200}


image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + given["image"]}}
# LangChain's own way to say it; it makes OpenAI's of it.
sound = {"type": "audio", "base64": given["sound"], "mime_type": "audio/wav"}
video = {"type": "video_url", "video_url": {"url": "data:video/mp4;base64," + given["video"]}}
if RESPONSES:
    # What is a file there may be a sound or a video here; a sound as above it would leave out.
    sound = {**sound, "type": "file", "filename": "clip.wav"}
    video = {"type": "file", "base64": given["video"], "mime_type": "video/mp4", "filename": "clip.mp4"}
CASES = {
    "text": lambda: {"answer": chat().invoke(TEXT).text},
    "picture": lambda: {"answer": chat().invoke(shows("picture", image)).text},
    "sound": lambda: {"answer": chat().invoke(shows("sound", sound)).text},
    "video": lambda: {"answer": chat().invoke(shows("video", video)).text},
    "stream": stream,
    "tools": tools,
    "history": history,
    "sampled": lambda: {"answer": chat(**given["sampled"]).invoke(OPEN).text},
    "stop": stop,
    "choices": choices,
    "logprobs": logprobs,
    "length": length,
    "refusal": refusal,
}
if RESPONSES:
    CASES["again"] = lambda: {"answer": chat().invoke([*TEXT, chat().invoke(TEXT), TEXT[1]]).text}
for name, case in CASES.items():
    try:
        found = case()
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {error}"[:300]}
    print(json.dumps({name: found}), flush=True)
