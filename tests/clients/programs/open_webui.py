"""Sends what Open WebUI sends to a server like this. Reads what to ask from its input, prints JSON.

Open WebUI is a whole application; here are its requests alone, in the shapes of its ``routers/openai.py`` and
of its tasks: a chat that streams with usage, a picture as the second part of a message, the title of a chat.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import httpx

given = json.load(sys.stdin)
http = httpx.Client(
    base_url=given["url"],
    headers={
        "Authorization": "Bearer none",
        "HTTP-Referer": "https://openwebui.com/",
        "X-Title": "Open WebUI",
        "X-OpenWebUI-User-Name": "ann",
    },
    timeout=60,
)
TEXT = [
    {"role": "system", "content": given["system"]},
    {"role": "user", "content": given["asks"]["text"]},
]
OPEN = [{"role": "user", "content": given["asks"]["open"]}]
TITLE = (
    "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history.\n"
    '### Output:\nJSON format: { "title": "your concise title here" }\n### Chat History:\n'
    "<chat_history>\nUSER: {question}\nASSISTANT: no\n</chat_history>"
)


def chat(messages: list[Any], model: str = given["model"], **more: Any) -> dict[str, Any]:
    """A chat: it streams, and its usage is asked for."""
    body = {
        "stream": True,
        "model": model,
        "messages": messages,
        "stream_options": {"include_usage": True},
        **more,
    }
    said, tokens, reason, status = "", 0, None, 200
    with http.stream("POST", "/chat/completions", json=body) as answered:
        status = answered.status_code
        for line in answered.iter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line[6:])
            for choice in event["choices"]:
                said += choice["delta"].get("content") or ""
                reason = choice.get("finish_reason") or reason
            tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    return {"answer": said, "tokens": tokens, "finish_reason": reason, "status": status}


def only(found: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: found[name] for name in names}


def shows(name: str, part: dict[str, Any]) -> list[Any]:
    return [{"role": "user", "content": [{"type": "text", "text": given["asks"][name]}, part]}]


def task() -> dict[str, Any]:
    """The title of a chat: whole, and longer than this model answers."""
    body = {
        "model": given["model"],
        "messages": [{"role": "user", "content": TITLE.replace("{question}", given["asks"]["text"])}],
        "stream": False,
        "max_completion_tokens": 1000,
    }
    return {"status": http.post("/chat/completions", json=body).status_code}


def models() -> dict[str, Any]:
    listed = http.get("/models").json()
    assert [each["id"] for each in listed["data"]] == [given["model"]]
    return {"answer": chat(TEXT)["answer"]}


image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + given["image"]}}
CASES = {
    "text": models,
    "picture": lambda: only(chat(shows("picture", image)), "answer"),
    "sound": lambda: {"absent": "it makes text of sound itself"},
    "video": lambda: {"absent": "it shows no video"},
    "stream": lambda: only(chat(TEXT), "answer", "tokens"),
    "tools": lambda: {**only(chat(TEXT, tools=given["tools"]), "answer"), "calls": 0},
    "history": lambda: only(chat([*given["history"], TEXT[1]]), "answer"),
    "sampled": lambda: only(chat(OPEN, **given["sampled"]), "answer"),
    "stop": lambda: only(chat(TEXT, stop=[given["stop"]], frequency_penalty=0.0), "answer"),
    "choices": lambda: {"absent": "it asks for one answer"},
    "logprobs": lambda: {"absent": "it asks for none"},
    "length": lambda: only(chat(TEXT, max_tokens=1), "finish_reason"),
    "refusal": lambda: only(chat(TEXT, model="gpt-7"), "status"),
    "title": task,
}
for name, case in CASES.items():
    try:
        found = case()
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {error}"[:300]}
    print(json.dumps({name: found}), flush=True)
