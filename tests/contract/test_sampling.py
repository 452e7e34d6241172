"""How an answer is decoded, asked for at each door: it reaches the model, and counts as what it is."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import openai
import pytest

from edge_server.access import keys
from edge_server.engine import GREEDY, Prompt, Sampling
from edge_server.engine.ports import PromptTooLongError
from edge_server.frontdoor.http.openai_honoured import HEADER
from edge_server.server.config import ServerConfig
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.authority import make_pki
from tests.contract.conftest import Running
from tests.contract.test_grpc_contract import Device, question
from tests.contract.test_openai_door import ASK, chat
from tests.waiting import PATIENCE_S
from tests.weightless import BUNDLE_HASH

SAMPLED = Sampling(0.7, 0.9, 5, 0.5, -0.5, ((7, 2.0),))
WIRE = {
    "temperature": 0.7,
    "top_p": 0.9,
    "seed": 5,
    "frequency_penalty": 0.5,
    "presence_penalty": -0.5,
    "logit_bias": {"7": 2},
}


@pytest.fixture
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=running.addresses.rest, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
async def sdk(running: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    client = openai.AsyncOpenAI(base_url=f"{running.addresses.rest}/v1", api_key="none", max_retries=0)
    async with client:
        yield client


@pytest.fixture
async def device(running: Running) -> Device:
    opened = await running.stub.OpenSession(
        pb.OpenSessionRequest(device_id="camera", bundle_hash=BUNDLE_HASH, snr_db=10.0)
    )
    return Device(running, opened.session_id)


@pytest.fixture
def asked(running: Running) -> list[Prompt]:
    """What the model is asked."""
    prompts: list[Prompt] = []

    def answer(prompt: Prompt) -> str:
        prompts.append(prompt)
        return "a violin, then a drum"

    running.model.answer = answer
    return prompts


async def test_every_door_hands_it_on(client: httpx.AsyncClient, device: Device, asked: list[Prompt]) -> None:
    await chat(client, **WIRE)
    infer = await client.post("/v1/infer", json={"question": "what plays?", **WIRE, "stop": [","]})
    assert infer.json()["answer"] == "a violin"
    sampling = pb.Sampling(**{**WIRE, "logit_bias": [pb.LogitBias(token_id=7, bias=2)]}, stop=[","])  # type: ignore[arg-type]
    *_, last = [frame async for frame in device.ask(question("q", sampling=sampling))]
    assert last.answer.text == "a violin"
    assert last.answer.logprob == pytest.approx(last.answer.answer_tokens * math.log(0.5))
    assert [prompt.sampling for prompt in asked] == [SAMPLED] * 3


async def test_who_says_nothing_is_answered_greedily(
    client: httpx.AsyncClient, device: Device, asked: list[Prompt]
) -> None:
    await chat(client)
    await client.post("/v1/infer", json={"question": "what plays?"})
    [frame async for frame in device.ask(question("q"))]
    assert [prompt.sampling for prompt in asked] == [GREEDY] * 3


async def test_without_a_seed_each_question_gets_one(client: httpx.AsyncClient, asked: list[Prompt]) -> None:
    for _ in range(3):
        await chat(client, temperature=1)
    seeds = [prompt.sampling.seed for prompt in asked]
    assert None not in seeds
    assert len(set(seeds)) == 3


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "temperature": ({"temperature": -1}, "temperature"),
    "no number": ({"temperature": math.nan}, "temperature"),
    "top_p": ({"top_p": 1.5}, "top_p"),
    "penalty": ({"frequency_penalty": 2.5}, "frequency_penalty"),
    "bias": ({"logit_bias": {"7": 101}}, "logit_bias"),
    "token": ({"logit_bias": {"4000": 1}}, "logit_bias"),
    "stops": ({"stop": list("abcde")}, "stop"),
    "stop": ({"stop": ["x" * 300]}, "stop"),
}


@pytest.mark.parametrize("what", BAD)
async def test_what_makes_no_sense_is_refused_by_its_name(
    client: httpx.AsyncClient, device: Device, what: str
) -> None:
    sent, field = BAD[what]
    if what != "no number":  # JSON has none
        refused = await client.post("/v1/infer", json={"question": "what plays?", **sent})
        assert refused.status_code == 400
        assert refused.json()["error"]["param"].startswith(field)
    wire = dict(sent)
    if "logit_bias" in wire:
        wire["logit_bias"] = [
            pb.LogitBias(token_id=int(id_), bias=b) for id_, b in sent["logit_bias"].items()
        ]
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        [frame async for frame in device.ask(question("q", sampling=pb.Sampling(**wire)))]
    assert failed.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert (failed.value.details() or "").startswith(f"sampling.{field}")


@pytest.mark.parametrize("stream", [False, True])
async def test_several_answers(sdk: openai.AsyncOpenAI, running: Running, stream: bool) -> None:
    prompts: list[Prompt] = []

    def answer(prompt: Prompt) -> str:
        prompts.append(prompt)
        return f"answer {len(prompts)}" + "!" * len(prompts)

    running.model.answer = answer
    arguments: Any = {
        "model": "weightless",
        "messages": [ASK],
        "n": 3,
        "temperature": 1,
        "seed": 9,
        "stream": stream,
    }
    if stream:
        arguments["stream_options"] = {"include_usage": True}
    answered = await sdk.chat.completions.create(**arguments)
    expected = {"answer 1!", "answer 2!!", "answer 3!!!"}
    if stream:
        said: dict[int, str] = {}
        reasons: dict[int, str] = {}
        chunks = [chunk async for chunk in answered]
        for chunk in chunks:
            for choice in chunk.choices:
                said[choice.index] = said.get(choice.index, "") + (choice.delta.content or "")
                if choice.finish_reason:
                    reasons[choice.index] = choice.finish_reason
        assert set(said) == set(reasons) == {0, 1, 2}
        assert set(said.values()) == expected
        usage = chunks[-1].usage
    else:
        assert [choice.index for choice in answered.choices] == [0, 1, 2]
        assert {choice.message.content for choice in answered.choices} == expected
        usage = answered.usage
    assert len({prompt.sampling.seed for prompt in prompts}) == 3
    assert prompts[0].sampling.seed == 9
    assert usage.prompt_tokens == 11
    assert usage.completion_tokens == sum(map(len, expected))


async def test_who_goes_away_ends_all_its_answers(running: Running, client: httpx.AsyncClient) -> None:
    running.model.gate.close()
    engine = running.server.engine
    body = {"model": "weightless", "messages": [ASK], "n": 3, "stream": True}
    async with client.stream("POST", "/v1/chat/completions", json=body) as answering:
        await anext(answering.aiter_lines())
        await running.until(lambda: engine.unanswered == 3)
    await running.until(lambda: not engine.unanswered)
    running.model.gate.open()
    await running.until(lambda: not engine.running)
    assert (await chat(client)).status_code == 200


async def test_a_text_that_ends_an_answer_is_never_sent(
    client: httpx.AsyncClient, sdk: openai.AsyncOpenAI, asked: list[Prompt]
) -> None:
    stream = await sdk.chat.completions.create(
        model="weightless",
        messages=[ASK],
        stop=[", then", "never"],
        stream=True,
        logprobs=True,  # type: ignore[list-item]
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "a violin"
    told = [each for chunk in chunks if (found := chunk.choices[0].logprobs) for each in found.content or []]
    assert "".join(token.token for token in told) == "a violin"
    assert chunks[-1].choices[0].finish_reason == "stop"
    whole = await chat(client, stop="violin")
    assert whole.json()["choices"][0]["message"]["content"] == "a "


@pytest.mark.parametrize("stream", [False, True])
async def test_log_probabilities_in_openais_shape(
    sdk: openai.AsyncOpenAI, running: Running, stream: bool
) -> None:
    running.model.answer = lambda prompt: "né"
    arguments: Any = {"logprobs": True, "top_logprobs": 3, "stream": stream}
    answered = await sdk.chat.completions.create(model="weightless", messages=[ASK], **arguments)  # type: ignore[list-item]
    if stream:
        found = [
            token
            async for chunk in answered
            for choice in chunk.choices
            if choice.logprobs
            for token in choice.logprobs.content
        ]
    else:
        found = answered.choices[0].logprobs.content
    assert bytes(byte for token in found for byte in token.bytes) == "né".encode()
    assert [token.logprob for token in found] == [pytest.approx(math.log(0.5))] * 3
    assert [each.token for each in found[0].top_logprobs] == ["n", "x", "<end>"]
    assert found[0].token == "n"
    assert all(len(token.top_logprobs) == 3 for token in found)


async def test_who_does_not_ask_gets_none(client: httpx.AsyncClient) -> None:
    assert (await chat(client)).json()["choices"][0]["logprobs"] is None


class TestWithKeys:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> dict[str, object]:
        self.pki = make_pki(tmp_path / "certs")
        return {"access": self.pki.access, "questions_per_minute": 4}

    async def test_each_answer_counts_as_a_question(
        self, client: httpx.AsyncClient, running: Running
    ) -> None:
        client.headers["Authorization"] = f"Bearer {keys.add_key(self.pki.access, 'app', time.time())}"
        assert (await chat(client, n=3)).status_code == 200
        refused = await chat(client, n=3)
        assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limit_error")


class TestFull:
    @pytest.fixture
    def settings(self) -> dict[str, object]:
        return {"max_batch": 1, "max_queue": 2, "max_queue_per_user": 2}

    async def test_where_one_finds_no_room_none_is_run(
        self, client: httpx.AsyncClient, running: Running
    ) -> None:
        running.model.gate.close()
        refused = await chat(client, n=8)
        assert refused.status_code == 429
        engine = running.server.engine
        running.model.gate.open()
        await running.until(lambda: not engine.running and not engine.waiting and not engine.unanswered)
        assert (await chat(client)).status_code == 200


class TestThatLeavesOut:
    @pytest.fixture
    def settings(self) -> dict[str, object]:
        return {"leave_out_oldest": True}

    async def test_the_oldest_turns_go_and_are_named(
        self,
        client: httpx.AsyncClient,
        running: Running,
        asked: list[Prompt],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        check = running.model.check

        def short(prompt: Prompt) -> int:
            if len(prompt.context_ids) > 20:
                raise PromptTooLongError("context_ids", len(prompt.context_ids), 20)
            return check(prompt)

        monkeypatch.setattr(running.model, "check", short)
        system = {"role": "system", "content": "be brief"}
        turns = [{"role": role, "content": role[:4] * 2} for role in ("user", "assistant") * 3]
        for stream in (False, True):
            answered = await chat(client, system, *turns, ASK, stream=stream)
            assert answered.status_code == 200, answered.text
            expected = [f"messages[{number}].content" for number in range(1, 6)]
            assert answered.headers[HEADER].split(", ") == expected
        assert bytes(asked[-1].context_ids).decode() == "be brief\nassiassi"
        assert HEADER not in (await chat(client, system, *turns[:1], ASK)).headers
        refused = await chat(client, {"role": "system", "content": "x" * 30}, *turns, ASK)
        assert refused.json()["error"]["code"] == "context_length_exceeded"

    def test_it_is_a_setting(self) -> None:
        assert not ServerConfig.model_validate({}).rest.leave_out_oldest
