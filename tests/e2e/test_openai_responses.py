"""The shipped model answers the demo's questions in both of OpenAI's APIs alike, through OpenAI's own SDK."""

from __future__ import annotations

import base64
import json
from typing import Any

import openai
import pytest

from tests.e2e.conftest import ROOT

DEMO = ROOT / "deploy" / "demo"
ROWS = json.loads((DEMO / "questions.json").read_text())[:3]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row["question"]))
def test_a_response_says_what_a_chat_says(served: dict[str, str], row: dict[str, Any]) -> None:
    clip = DEMO / "clips" / row["clip"]
    url = f"data:video/mp4;base64,{base64.b64encode(clip.read_bytes()).decode()}"
    with openai.OpenAI(base_url=f"{served['TOKENLINK_REST_URL']}/v1", api_key="none") as client:
        model = client.models.list().data[0].id
        shown: list[Any] = [
            {"type": "text", "text": row["question"]},
            {"type": "video_url", "video_url": {"url": url}},
        ]
        chat = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": shown}], temperature=0
        )
        asked: list[Any] = [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": row["question"]},
                    {"type": "input_file", "filename": clip.name, "file_data": url},
                ],
            }
        ]
        whole = client.responses.create(model=model, input=asked, temperature=0)
        with client.responses.stream(model=model, input=asked, temperature=0) as stream:
            said = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
    content = chat.choices[0].message.content
    assert content
    assert whole.output_text == said == content
    assert whole.usage is not None
    assert chat.usage is not None
    assert whole.usage.input_tokens == chat.usage.prompt_tokens
    extra = chat.choices[0].model_extra
    assert extra is not None
    assert whole.model_extra is not None
    assert whole.model_extra["assurance"] == extra["assurance"]
