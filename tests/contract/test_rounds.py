"""Questions in rounds, agents and server over real sockets: the server asks for more until it is sure."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc.aio
import numpy as np
import pytest

from device_agent.agent import Agent
from device_agent.compose import spooled
from device_agent.config import DeviceSettings
from device_agent.media.clip import Clip
from device_agent.outbox.outbox import Outbox
from device_agent.outbox.relay import Spooler, together
from device_agent.outbox.sender import Troubles
from device_agent.outbox.store import Spool
from device_agent.transmitter import Encoded
from device_agent.uplink.backoff import Backoff
from device_agent.uplink.uplink import Uplink
from edge_server.engine import Prompt
from edge_server.engine.calibration import Calibration
from protos import payload
from protos.names import REQUEST_CHANNEL_USES
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.contract.conftest import Running
from tests.contract.test_agent_meets_server import Relay
from tests.questions import question
from tests.waiting import until
from tests.weightless import BUNDLE_HASH, CHANNEL_DIM, WeightlessTransmitter

SURE, UNSURE = "1", "left"
"""A language token is as likely as not: of the longer answer nobody is sure."""
SYMBOLS = CHANNEL_DIM // 2
QUICK = Backoff(retries=2**31, base_s=0.01, cap_s=0.05)
CLIP = Clip(np.zeros((2, 8, 8, 3), np.uint8), np.zeros(1600, np.float32))


class Transmitter(WeightlessTransmitter):
    """Tokens of unit power that each differ; a nested bundle's where it is told so."""

    def __init__(self, *, nested: bool = True) -> None:
        super().__init__()
        self.manifest = SimpleNamespace(nested=nested, token_lengths=[1, 2, 4, 8, 16, 32])

    def encode(self, clip: Clip, token_length: int, **how: object) -> Encoded:
        signs = np.random.default_rng(1).choice([-1.0, 1.0], (32, CHANNEL_DIM))
        x_TC = (signs * 0.5**0.5).astype(np.float32)[:token_length]
        return Encoded(dict.fromkeys(clip.modalities, x_TC), 0.0)


@pytest.fixture
def calibration() -> Calibration | None:
    return Calibration(scale=1.0, offset=0.0, threshold=0.0, longest=4)


@pytest.fixture
def seen(running: Running) -> list[Prompt]:
    """What the model was asked; it is sure from eight tokens of video on."""
    prompts: list[Prompt] = []

    def answer(prompt: Prompt) -> str:
        prompts.append(prompt)
        return SURE if len(prompt.blocks[0].x_TC) >= 8 else UNSURE

    running.model.answer = answer
    return prompts


@contextlib.asynccontextmanager
async def agent_of(
    address: str, *, nested: bool = True, outbox: Outbox | None = None, **settings: Any
) -> AsyncIterator[tuple[Agent, Uplink]]:
    told = {"progressive": "2,4,8", "progressive_until": 0.5, "channel": "none", "pace": False, **settings}
    device_id = "camera" if outbox is None else f"camera-{outbox.device_key}"
    async with Uplink(address, BUNDLE_HASH, device_id=device_id, backoff=QUICK) as uplink:
        transmitter = Transmitter(nested=nested)
        yield (
            Agent(DeviceSettings(**told), transmitter, uplink, rng=np.random.default_rng(1)),  # type: ignore[arg-type]
            uplink,
        )


def count(running: Running, name: str, **labels: str) -> float:
    return running.server.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize("nested", [True, False])
async def test_the_server_asks_for_more_until_it_is_sure(
    running: Running, seen: list[Prompt], nested: bool
) -> None:
    async with agent_of(running.addresses.grpc, nested=nested) as (agent, _):
        outcome = await agent.ask("what", CLIP)
    assert outcome.text == SURE
    assert outcome.confidence == pytest.approx(0.5)
    rounds = [{"video": n, "audio": n} for n in (2, 4, 8)]
    assert outcome.rounds == rounds
    assert [len(prompt.blocks[0].x_TC) for prompt in seen] == [2, 4, 8]
    whole = Transmitter().encode(CLIP, 8).tokens["video"]
    for prompt in seen:
        for block in prompt.blocks:
            np.testing.assert_allclose(block.x_TC, whole[: len(block.x_TC)], atol=1e-3)
    tokens = 8 if nested else 2 + 4 + 8
    assert outcome.cost.channel_uses == 2 * SYMBOLS * tokens + 2 * REQUEST_CHANNEL_USES
    assert outcome.cost.request_bytes > 0
    assert count(running, "tokenlink_more_wanted_total", reason="next") == 4
    assert count(running, "tokenlink_more_wanted_channel_uses_total") == 2 * REQUEST_CHANNEL_USES
    assert count(running, "tokenlink_token_length_sum", modality="video") == tokens


async def test_no_more_is_asked_for_than_it_takes(running: Running) -> None:
    running.model.answer = lambda prompt: SURE
    async with agent_of(running.addresses.grpc) as (agent, _):
        heard: list[str] = []
        outcome = await agent.ask("what", CLIP, on_delta=heard.append)
    assert (outcome.rounds, heard) == ([{"video": 2, "audio": 2}], [SURE])
    assert outcome.cost.channel_uses == 2 * SYMBOLS * 2
    assert outcome.cost.request_bytes == 0


@pytest.mark.parametrize("abstain", [True, False])
async def test_at_the_ladders_end_it_answers_or_says_that_it_is_not_sure(
    running: Running, abstain: bool
) -> None:
    running.model.answer = lambda prompt: UNSURE
    async with agent_of(running.addresses.grpc, progressive_abstain=abstain) as (agent, _):
        outcome = await agent.ask("what", CLIP)
    assert outcome.rounds[-1] == {"video": 8, "audio": 8}
    told = (outcome.text, outcome.guess, outcome.abstained)
    assert told == (("not sure", UNSURE, True) if abstain else (UNSURE, "", False))


async def test_what_arrived_below_outage_is_sent_again_and_combined(
    running: Running, seen: list[Prompt]
) -> None:
    running.model.answer = lambda prompt: seen.append(prompt) or SURE  # type: ignore[func-returns-value]
    async with agent_of(running.addresses.grpc, channel="awgn", snr_db=-14.0) as (agent, _):
        outcome = await agent.ask("what", CLIP)
    assert outcome.rounds == [{"video": 2, "audio": 2}] * 2
    assert outcome.cost.channel_uses == 2 * 2 * SYMBOLS * 2 + REQUEST_CHANNEL_USES
    assert len(seen) == 1, "what cannot be read is not asked about"
    for block in seen[0].blocks:
        assert block.snr_db == pytest.approx(-14.0 + 10.0 * np.log10(2.0), abs=1e-4)
    assert count(running, "tokenlink_more_wanted_total", reason="again") == 2


async def test_all_goes_at_once_where_nobody_knows_how_sure_the_model_is(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = running.server.backends.current
    monkeypatch.setattr(type(backend), "knows_how_sure", False)
    async with agent_of(running.addresses.grpc, token_length=16) as (agent, _):
        outcome = await agent.ask("what", CLIP)
    assert (outcome.rounds, outcome.token_length) == ([], 16)


async def test_a_link_cut_between_rounds_lets_the_outbox_send_again(
    running: Running, seen: list[Prompt], tmp_path: Path
) -> None:
    shown: list[Any] = []
    port = int(running.addresses.grpc.rpartition(":")[2])
    async with Relay(port) as relay, Outbox(tmp_path / "outbox.db") as outbox:
        async with agent_of(relay.address, outbox=outbox) as (agent, uplink):
            prepared = await agent.prepare_for_later("what", CLIP, await agent.grant())
            assert len(prepared.question.payloads) == 4, "two go out first, two wait"
            await outbox.call(Spool.put, spooled(prepared, CLIP, "s", "x", "what"))
        cuts: list[int] = []

        async with agent_of(relay.address, outbox=outbox) as (
            agent,
            uplink,
        ):  # of another life of the process

            def more_of(question: pb.Question) -> Any:
                made = agent.more_of(question)
                assert made is not None

                async def more(wanted: pb.MoreWanted) -> Any:
                    if not cuts:
                        cuts.append(wanted.round)
                        relay.cut()
                    return await made(wanted)

                return more

            def record_of(item: Any, reply: Any, model: str) -> dict[str, Any]:
                return {"answer": reply.answer.text, "requests": len(reply.more), "tries": reply.tries}

            spooler = Spooler(outbox, uplink, record_of, Troubles(), more_of=more_of, backoff=QUICK)
            working = asyncio.create_task(together(spooler.send(), spooler.deliver("s", shown.append)))
            await until(lambda: bool(shown))
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await working
    (delivery,) = shown
    assert delivery.outcome == "answered"
    assert (delivery.record["answer"], cuts) == (SURE, [1])
    assert delivery.record["tries"] >= 2
    assert len(seen[-1].blocks[0].x_TC) == 8
    await running.until(lambda: all(device.in_flight == 0 for device in running.server.cell.devices()))


class Raw:
    """One stream of a device, frame by frame."""

    def __init__(self, running: Running, device_id: str) -> None:
        self.running, self.device_id = running, device_id
        self.call = running.stub.Converse()

    async def open(self) -> pb.Grant:
        opened = await self.running.stub.OpenSession(
            pb.OpenSessionRequest(device_id=self.device_id, bundle_hash=BUNDLE_HASH, snr_db=10.0)
        )
        self.session_id = opened.session_id
        return opened.grant

    async def send(self, **body: Any) -> None:
        await self.call.write(pb.UplinkFrame(session_id=self.session_id, bundle_hash=BUNDLE_HASH, **body))

    async def ask(
        self, request_id: str, until_sure: float = 0.5, deadline_ms: int = 60_000, **rounds: Any
    ) -> None:
        told = {"token_lengths": [2, 4], "until": until_sure, "nested": True} | rounds
        await self.send(
            question=question(
                request_id, sent(2), rounds=pb.Rounds(**told), deadline_ms=deadline_ms, whole_answer=True
            )
        )

    async def hear(self) -> pb.DownlinkFrame:
        frame = await self.call.read()
        assert isinstance(frame, pb.DownlinkFrame)
        return frame


def sent(tokens: int, first_token: int = 0) -> pb.TokenPayload:
    made = payload.encode(np.full((tokens, CHANNEL_DIM), 0.5, np.float32), "video")
    made.first_token = first_token
    return made


@pytest.fixture
async def raw(running: Running) -> AsyncIterator[Callable[[str], Any]]:
    running.model.answer = lambda prompt: UNSURE
    made: list[Raw] = []

    async def open_(device_id: str) -> Raw:
        made.append(Raw(running, device_id))
        assert (await made[-1].open()).rounds
        return made[-1]

    yield open_
    for each in made:
        each.call.cancel()
        with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
            await each.call.code()


@pytest.mark.parametrize("settings", [{"default_deadline_s": 0.2, "max_deadline_s": 0.2}])
@pytest.mark.parametrize("deadline_ms", [0, 60_000])
async def test_a_device_that_falls_silent_is_waited_for_as_long_as_the_settings_say(
    raw: Callable[[str], Any], deadline_ms: int
) -> None:
    device = await raw("camera")
    await device.ask("q1", deadline_ms=deadline_ms)
    assert (await device.hear()).wanted.round == 1
    assert (await device.hear()).answer.text == UNSURE


@pytest.mark.parametrize("how", ["the device", "the device over another stream", "its session's end"])
async def test_a_cancel_between_rounds_frees_what_was_held(
    running: Running, raw: Callable[[str], Any], how: str
) -> None:
    device, other = await raw("camera"), await raw("other")
    for each in (device, other):
        await each.ask("q1")
        assert (await each.hear()).wanted.round == 1
    if how == "its session's end":
        await running.stub.CloseSession(pb.CloseSessionRequest(session_id=device.session_id))
    else:
        voice = device if how == "the device" else other
        frame = pb.UplinkFrame(session_id=device.session_id, cancel=pb.Cancel(request_id="q1"))
        await voice.call.write(frame)
    ended = await device.hear()
    assert (ended.request_id, ended.failure.code) == ("q1", grpc.StatusCode.CANCELLED.value[0])
    # Another device's question of the same key is none of its business.
    await other.send(more=pb.More(request_id="q1", round=1, payloads=[sent(2, 2)]))
    assert (await other.hear()).answer.text == UNSURE
    await running.until(lambda: all(each.in_flight == 0 for each in running.server.cell.devices()))
    # What comes too late is nobody's any more, and does no harm.
    if how != "its session's end":
        await device.send(more=pb.More(request_id="q1", round=1, payloads=[sent(2, 2)]))
        await device.ask("q3")
        assert (await device.hear()).wanted.round == 1


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ([sent(3, 2)], "more.payloads[0].shape"),
        ([sent(2, 1)], "more.payloads[0].shape"),
        ([sent(2, 2), sent(2, 2)], "more.payloads[1].modality"),
        ([payload.encode(np.full((2, CHANNEL_DIM), 0.5, np.float32), "audio")], "more.payloads[0].modality"),
        ([pb.TokenPayload(modality=pb.MODALITY_VIDEO)], "more.payloads[0].dtype"),
    ],
)
async def test_what_was_not_asked_for_ends_its_question_by_name(
    raw: Callable[[str], Any], more: list[pb.TokenPayload], field: str
) -> None:
    device = await raw("camera")
    await device.ask("q1")
    wanted = (await device.hear()).wanted
    assert [(block.token_length, block.first_token) for block in wanted.blocks] == [(4, 2)]
    await device.send(more=pb.More(request_id="q1", round=7, payloads=more))  # of no request: not looked at
    await device.send(more=pb.More(request_id="q1", round=1, payloads=more))
    failure = (await device.hear()).failure
    assert (failure.code, failure.field) == (grpc.StatusCode.INVALID_ARGUMENT.value[0], field)


@pytest.mark.parametrize(
    ("rounds", "field"),
    [
        ({"token_lengths": [2, 3]}, "rounds.token_lengths"),
        ({"token_lengths": [4, 2]}, "rounds.token_lengths"),
        ({"token_lengths": []}, "rounds.token_lengths"),
        ({"token_lengths": [2] * 17}, "rounds.token_lengths"),
        ({"token_lengths": [4, 8]}, "payloads[0].shape"),
        ({"until": float("nan")}, "rounds.until"),
        ({"until": 1.5}, "rounds.until"),
    ],
)
async def test_rounds_that_cannot_be_are_refused_by_name(
    raw: Callable[[str], Any], rounds: dict[str, Any], field: str
) -> None:
    device = await raw("camera")
    await device.ask("q1", **rounds)
    failure = (await device.hear()).failure
    assert (failure.code, failure.field) == (grpc.StatusCode.INVALID_ARGUMENT.value[0], field)


async def test_rounds_need_a_stream_both_ways(running: Running, raw: Callable[[str], Any]) -> None:
    device = await raw("camera")
    request = pb.AskRequest(
        session_id=device.session_id,
        bundle_hash=BUNDLE_HASH,
        question=question("q1", sent(2), rounds=pb.Rounds(token_lengths=[2, 4], until=0.5)),
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        _ = [frame async for frame in running.stub.Ask(request)]
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_server_that_drains_asks_for_no_more_and_answers(
    running: Running, raw: Callable[[str], Any]
) -> None:
    device = await raw("camera")
    await device.ask("q1")
    assert (await device.hear()).wanted.round == 1
    draining = asyncio.create_task(running.server.drain())
    assert (await device.hear()).answer.text == UNSURE
    await draining


@pytest.mark.parametrize("nested", [True, False])
async def test_the_snr_of_each_token_reaches_the_model_round_by_round(
    running: Running, seen: list[Prompt], nested: bool
) -> None:
    """From the device's channel through every round's block to what the receiver is told."""
    radio = {"channel": "tdl_c", "snr_db": 12.0, "delay_spread_ns": 2000.0, "speed_kmh": 60.0}
    asked = {}
    for snr_per in ("block", "token"):
        async with agent_of(running.addresses.grpc, nested=nested, snr_per=snr_per, **radio) as (agent, _):
            outcome = await agent.ask("what", CLIP)
        asked[snr_per] = ([prompt.blocks for prompt in seen], outcome.cost)
        seen.clear()
    (told, cost), (plain, plain_cost) = asked["token"], asked["block"]
    assert cost.channel_uses == plain_cost.channel_uses, "the air carries no more"
    assert cost.bytes_on_wire > plain_cost.bytes_on_wire, "the network does, and it is counted"
    for blocks, as_before in zip(told, plain, strict=True):
        for block, before in zip(blocks, as_before, strict=True):
            assert before.token_snr_db_T is None
            np.testing.assert_array_equal(block.x_TC, before.x_TC)
            of_each = block.token_snr_db_T
            assert of_each is not None
            assert of_each.shape == (len(block.x_TC),)
            assert np.abs(of_each - block.snr_db).max() < 30.0
    assert any(len(set(block.told_db().tolist())) > 1 for blocks in told for block in blocks)
