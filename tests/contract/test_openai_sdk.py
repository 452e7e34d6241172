"""The OpenAI SDK, unchanged, against a real port."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import AsyncIterator

import numpy as np
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.contract.conftest import Running
from tests.contract.test_device_certificates import rejections
from tests.contract.test_rest_contract import b64, png, wav

MODEL = "weightless"


@pytest.fixture
async def sdk(running: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    client = openai.AsyncOpenAI(base_url=f"{running.addresses.rest}/v1", api_key="none", max_retries=0)
    async with client:
        yield client


def shows(*parts: dict[str, object], text: str = "what plays?") -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]  # type: ignore[list-item]


def image(url: str | None = None) -> dict[str, object]:
    return {"type": "image_url", "image_url": {"url": url or f"data:image/png;base64,{b64(png())}"}}


def sound(data: str | None = None) -> dict[str, object]:
    return {"type": "input_audio", "input_audio": {"data": data or b64(wav()), "format": "wav"}}


async def test_text_image_and_sound_are_answered(sdk: openai.AsyncOpenAI) -> None:
    answered = await sdk.chat.completions.create(model=MODEL, messages=shows(image(), sound()))
    assert answered.choices[0].message.content == "11+image:16+audio:16"
    assert answered.choices[0].finish_reason == "stop"
    assert answered.model == MODEL
    assert answered.usage is not None
    assert answered.usage.prompt_tokens == 11 + 32
    assert answered.usage.completion_tokens == len("11+image:16+audio:16")
    assert answered.usage.total_tokens == answered.usage.prompt_tokens + answered.usage.completion_tokens


async def test_an_answer_streams(sdk: openai.AsyncOpenAI) -> None:
    stream = await sdk.chat.completions.create(
        model=MODEL, messages=shows(image()), stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == "11+image:16"
    assert sum(bool(piece) for piece in pieces) > 1
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == len("11+image:16")
    assert len({chunk.id for chunk in chunks}) == 1


async def test_usage_is_not_streamed_unasked(sdk: openai.AsyncOpenAI) -> None:
    stream = await sdk.chat.completions.create(model=MODEL, messages=shows(), stream=True)
    assert all(chunk.usage is None and chunk.choices for chunk in [chunk async for chunk in stream])


async def test_max_tokens_cut_an_answer(sdk: openai.AsyncOpenAI) -> None:
    for bound in ({"max_tokens": 3}, {"max_completion_tokens": 3}):
        answered = await sdk.chat.completions.create(model=MODEL, messages=shows(image()), **bound)  # type: ignore[call-overload]
        assert answered.choices[0].message.content == "11+"
        assert answered.choices[0].finish_reason == "length"


async def test_everything_before_the_last_user_message_is_context(
    running: Running, sdk: openai.AsyncOpenAI
) -> None:
    running.model.answer = lambda prompt: (
        f"{bytes(prompt.context_ids).decode()}|{bytes(prompt.question_ids).decode()}|{len(prompt.blocks)}"
    )
    answered = await sdk.chat.completions.create(
        model=MODEL,
        max_tokens=200,
        messages=[
            {"role": "system", "content": "a stage"},
            {"role": "user", "content": [image(), {"type": "text", "text": "who?"}]},  # type: ignore[list-item]
            {"role": "assistant", "content": "a violin"},
            {"role": "user", "content": "and where?"},
        ],
    )
    assert answered.choices[0].message.content == "a stage\nwho?\na violin|and where?|1"


async def test_models_are_listed(sdk: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in sdk.models.list()] == [MODEL]
    assert (await sdk.models.retrieve(MODEL)).id == MODEL
    with pytest.raises(openai.NotFoundError):
        await sdk.models.retrieve("gpt-7")


def lying_wav() -> str:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(np.zeros(100, "<i2").tobytes())
    data = bytearray(file.getvalue())
    data[40:44] = (2**30).to_bytes(4, "little")
    return b64(bytes(data))


BAD: dict[str, tuple[dict[str, object], str]] = {
    "a URL": (
        {"messages": shows(image("https://example.com/a.png"))},
        "messages[0].content[0].image_url.url",
    ),
    "a file": ({"messages": shows(image("file:///etc/passwd"))}, "messages[0].content[0].image_url.url"),
    "a video as an image": (
        {"messages": shows(image("data:video/mp4;base64,AAAA"))},
        "messages[0].content[0].image_url.url",
    ),
    "a broken image": (
        {"messages": shows(image("data:image/png;base64,AAAA"))},
        "messages[0].content[0].image_url.url",
    ),
    "a WAV that lies": ({"messages": shows(sound(lying_wav()))}, "messages[0].content[0].input_audio.data"),
    "two images": ({"messages": shows(image(), image())}, "messages"),
    "a tool that must be called": (
        {"messages": shows(), "extra_body": {"tool_choice": "required"}},
        "tool_choice",
    ),
    "sound as an answer": ({"messages": shows(), "modalities": ["text", "audio"]}, "modalities"),
    "no text": ({"messages": shows(image(), text=" ")}, "messages[0].content"),
    "no user": ({"messages": [{"role": "system", "content": "hello"}]}, "messages"),
    "an unknown part": ({"messages": shows({"type": "smell", "smell": "roses"})}, "messages[0].content"),
    "many choices": ({"messages": shows(), "n": 9}, "n"),
    "no choice": ({"messages": shows(), "n": 0}, "n"),
    "five stops": ({"messages": shows(), "stop": list("abcde")}, "stop"),
    "a stop of no length": ({"messages": shows(), "stop": ["a", ""]}, "stop"),
    "a hot answer": ({"messages": shows(), "temperature": 2.5}, "temperature"),
    "no nucleus": ({"messages": shows(), "temperature": 1, "top_p": 0}, "top_p"),
    "a penalty": ({"messages": shows(), "presence_penalty": 3}, "presence_penalty"),
    "a token that is none": ({"messages": shows(), "logit_bias": {"50256": -100}}, "logit_bias"),
    "many alternatives": ({"messages": shows(), "logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    "alternatives to nothing": ({"messages": shows(), "top_logprobs": 2}, "top_logprobs"),
    "JSON": ({"messages": shows(), "response_format": {"type": "json_object"}}, "response_format"),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_cannot_be_asked_is_a_bad_request(
    sdk: openai.AsyncOpenAI, what: str, stream: bool
) -> None:
    arguments, field = BAD[what]
    with pytest.raises(openai.BadRequestError) as refused:
        await sdk.chat.completions.create(model=MODEL, stream=stream, **arguments)  # type: ignore[call-overload]
    assert str(refused.value.param).startswith(field)
    assert refused.value.type == "invalid_request_error"
    answered = await sdk.chat.completions.create(model=MODEL, messages=shows())
    assert answered.choices[0].message.content == "11"


async def test_another_model_is_not_found(sdk: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await sdk.chat.completions.create(model="gpt-7", messages=shows())
    assert refused.value.param == "model"


async def test_a_failure_in_the_middle_of_a_stream_reaches_the_reader(
    running: Running, sdk: openai.AsyncOpenAI
) -> None:
    def fault(rows: object) -> None:
        if any(row.said >= 3 for row in rows):  # type: ignore[attr-defined]
            raise RuntimeError("broken")

    running.model.decode_fault = fault
    stream = await sdk.chat.completions.create(model=MODEL, messages=shows(image()), stream=True)
    with pytest.raises(openai.APIError, match="broken"):
        [chunk async for chunk in stream]


class TestOverload:
    @pytest.fixture
    def settings(self) -> dict[str, object]:
        return {"max_batch": 1, "max_queue": 1, "max_queue_per_user": 1}

    async def test_the_sdks_own_retries_lead_to_success(
        self, running: Running, sdk: openai.AsyncOpenAI
    ) -> None:
        running.model.gate.close()
        engine = running.server.engine
        first = asyncio.create_task(sdk.chat.completions.create(model=MODEL, messages=shows(), user="a"))
        await running.until(lambda: engine.running == 1)
        second = asyncio.create_task(sdk.chat.completions.create(model=MODEL, messages=shows(), user="b"))
        await running.until(lambda: engine.waiting == 1)
        with pytest.raises(openai.RateLimitError):
            await sdk.chat.completions.create(model=MODEL, messages=shows(), user="c")
        refused = rejections(running, "queue")
        patient = sdk.with_options(max_retries=5)
        third = asyncio.create_task(patient.chat.completions.create(model=MODEL, messages=shows(), user="c"))
        await running.until(lambda: rejections(running, "queue") > refused)
        running.model.gate.open()
        answers = await asyncio.gather(first, second, third)
        assert [answer.choices[0].message.content for answer in answers] == ["11"] * 3
