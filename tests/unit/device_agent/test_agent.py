"""From a clip to the question that goes out, with the uplink swapped for one that keeps it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from device_agent.agent import Agent
from device_agent.bundle.bundle import Bundle
from device_agent.channel import SnrTrace
from device_agent.config import DeviceSettings, load_settings
from device_agent.errors import ConfigurationError, DeadlineError, TooSlowError
from device_agent.media.clip import Clip
from device_agent.media.loading import clip_from_file
from device_agent.transmitter import Transmitter
from device_agent.uplink.session import Reply, Session
from protos import payload, token_snr
from protos.names import REQUEST_CHANNEL_USES
from protos.tokenlink.v1 import tokenlink_pb2 as pb


class KeepingUplink:
    """Grants, keeps the question, answers."""

    def __init__(self) -> None:
        self.grant = pb.Grant(max_token_length=32, token_length=6, bandwidth_hz=1e5)
        self.questions: list[pb.Question] = []
        self.reported_snrs_db: list[float] = []
        self.answer = pb.Answer(text="left", probability=0.75, finish_reason="stop")
        self.wants: list[pb.MoreWanted] = []
        self.sent: list[tuple[pb.TokenPayload, ...]] = []
        self.late: list[tuple[float, float]] = []

    async def open(self, snr_db: float) -> Session:
        self.reported_snrs_db.append(snr_db)
        # The worse the link, the more tokens: as an edge server grants them.
        self.grant.token_length = 2 if snr_db > 15.0 else 6
        return Session("s", self.grant, "1", "tiny", 0.0, 1e9, snr_db)

    def tell_late(self, deadline_s: float, encode_s: float) -> None:
        self.late.append((deadline_s, encode_s))

    async def ask(self, question: pb.Question, **options: Any) -> Reply:
        self.questions.append(question)
        self.sent = [tuple(await options["more"](wanted)) for wanted in self.wants if options["more"]]
        return Reply(self.answer, 123, 0.5, 2, tuple(self.sent), 7 * len(self.sent))


def len_of(block: pb.TokenPayload) -> int:
    return len(payload.decode(block, max_token_length=4, channel_dim=8))


AgentMaker = Callable[..., tuple[Agent, KeepingUplink]]


@pytest.fixture
def make_agent(bundle: Bundle) -> AgentMaker:
    """An agent with settings, its uplink a :class:`KeepingUplink`."""

    def make(radio: Mapping[str, Any] = MappingProxyType({}), **flags: Any) -> tuple[Agent, KeepingUplink]:
        settings: DeviceSettings = load_settings({"pace": False, "seed": 1, **flags})
        uplink = KeepingUplink()
        rng = np.random.default_rng(settings.seed)
        return Agent(settings, Transmitter(bundle), uplink, rng=rng, **radio), uplink  # type: ignore[arg-type]

    return make


async def test_a_clip_goes_out_as_one_block_per_modality_and_its_cost_is_told(
    make_agent: AgentMaker, clip_file: Path
) -> None:
    agent, uplink = make_agent(channel="rayleigh", csi="estimated", pilots=3, snr_db=12)
    outcome = await agent.ask("what plays on the left ?", clip_from_file(clip_file), context="a violin")
    (question,) = uplink.questions
    assert [block.modality for block in question.payloads] == [pb.MODALITY_VIDEO, pb.MODALITY_AUDIO]
    for block in question.payloads:
        # Six tokens are suggested, the bundle knows four; eight reals make four symbols, plus three pilots.
        assert payload.decode(block, max_token_length=4, channel_dim=8).shape == (4, 8)
        assert block.channel.model == pb.CHANNEL_MODEL_RAYLEIGH
        assert block.channel.fading == pb.FADING_BLOCK
        assert block.channel.channel_uses == 4 * 4 + 3
        assert block.channel.airtime_s == pytest.approx(19 / 1e5)
    assert list(question.question_ids) == [1, 2, 3, 4, 5, 9]
    assert list(question.context_ids) == [10, 11]
    assert outcome.text == "left"
    assert outcome.cost.channel_uses == 38
    assert outcome.cost.airtime_s == pytest.approx(38 / 1e5)
    assert outcome.cost.bytes_on_wire == 123
    assert outcome.cost.round_trip_s == 0.5
    assert outcome.cost.encode_s > 0.0
    assert set(outcome.effective_snr_db) == {"video", "audio"}
    assert outcome.to_json()["answer"] == "left"
    assert outcome.to_json()["cost"]["channel_uses"] == 38


async def test_the_snr_of_each_token_goes_along_where_it_is_set(
    make_agent: AgentMaker, clip_file: Path
) -> None:
    told = {}
    for snr_per in ("block", "token"):
        agent, uplink = make_agent(channel="tdl_c", snr_per=snr_per, progressive="1,4")
        uplink.grant.rounds = True
        uplink.wants = [
            pb.MoreWanted(round=1, blocks=[pb.WantedBlock(modality=pb.MODALITY_VIDEO, token_length=4)])
        ]
        await agent.ask("what", clip_from_file(clip_file))
        told[snr_per] = [*uplink.questions[0].payloads, *uplink.sent[0]]
    assert [len(block.channel.token_snr) for block in told["token"]] == [1, 1, 4]
    of_each = token_snr.reported(told["token"][2])
    assert of_each is not None
    assert len(set(of_each.tolist())) > 1, "they differ"
    for with_it, without in zip(told["token"], told["block"], strict=True):
        with_it.channel.ClearField("token_snr")
        assert with_it == without, "all else is as it was"


@pytest.mark.parametrize(
    ("said", "sent"), [("interactive", pb.PRIORITY_UNSPECIFIED), ("background", pb.PRIORITY_BACKGROUND)]
)
async def test_a_question_says_whether_somebody_waits_for_it(
    make_agent: AgentMaker, said: str, sent: pb.Priority
) -> None:
    agent, uplink = make_agent(priority=said)
    await agent.ask("what", Clip(pcm_S=np.zeros(1000, np.float32)))
    assert uplink.questions[0].priority == sent


async def test_a_question_in_rounds_sends_what_is_asked_for(make_agent: AgentMaker, clip_file: Path) -> None:
    agent, uplink = make_agent(progressive="1,2,4", progressive_until=0.7, progressive_abstain=True)
    uplink.grant.rounds = True
    uplink.wants = [
        pb.MoreWanted(round=1, blocks=[pb.WantedBlock(modality=pb.MODALITY_VIDEO, token_length=4)])
    ]
    outcome = await agent.ask("what", clip_from_file(clip_file))
    (question,) = uplink.questions
    assert [len_of(block) for block in question.payloads] == [1, 1]
    assert list(question.rounds.token_lengths) == [1, 2, 4]
    assert (question.rounds.until, question.rounds.abstain, question.rounds.nested) == (0.7, True, False)
    ((more,),) = uplink.sent
    assert (more.modality, len_of(more), more.first_token) == (pb.MODALITY_VIDEO, 4, 0)
    assert outcome.to_json()["rounds"] == [{"video": 1, "audio": 1}, {"video": 4}]
    assert outcome.token_length == 4
    assert outcome.cost.channel_uses == 4 * (1 + 1 + 4) + REQUEST_CHANNEL_USES, "four symbols a token"
    assert outcome.cost.airtime_s == pytest.approx(outcome.cost.channel_uses / 1e5)
    assert outcome.cost.request_bytes == 7
    at_once = await agent.ask("what", Clip(pcm_S=np.zeros(1000, np.float32)), token_length=2)
    assert "rounds" not in at_once.to_json()


async def test_all_is_sent_at_once_to_a_server_that_knows_no_rounds(
    make_agent: AgentMaker, clip_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    agent, uplink = make_agent(progressive="1,2,4")
    outcome = await agent.ask("what", clip_from_file(clip_file))
    assert (outcome.token_length, outcome.rounds) == (4, [])
    assert not uplink.questions[0].HasField("rounds")
    assert "knows no rounds" in caplog.text


@pytest.mark.parametrize("rounds", [True, False])
async def test_rounds_that_the_bundle_does_not_have_are_refused_by_what_was_given(
    make_agent: AgentMaker, clip_file: Path, rounds: bool
) -> None:
    agent, uplink = make_agent(progressive="2,3,11")
    uplink.grant.rounds = rounds
    with pytest.raises(ConfigurationError) as refused:
        await agent.ask("what", clip_from_file(clip_file))
    assert str(refused.value) == (
        "progressive (--progressive) is 2,3,11; the bundle has no token length of 3, 11; "
        "it allows 1, 2, 4, 8, 16, 32"
    )
    assert uplink.questions == []


async def test_a_first_round_beyond_the_grant_is_refused_by_what_was_given(
    make_agent: AgentMaker, clip_file: Path
) -> None:
    agent, uplink = make_agent(progressive="4,8")
    uplink.grant.rounds, uplink.grant.max_token_length = True, 2
    with pytest.raises(ConfigurationError, match=r"^progressive .*: its first round is 4; at most 2 granted"):
        await agent.ask("what", clip_from_file(clip_file))


async def test_a_text_that_cannot_be_is_named_as_it_was_given(make_agent: AgentMaker) -> None:
    agent, _ = make_agent()
    with pytest.raises(ConfigurationError, match=r"^context is not valid UTF-8"):
        await agent.ask("what", context="\udc80")
    with pytest.raises(ConfigurationError, match=r"^question is not valid UTF-8"):
        await agent.ask("\udc80")


async def test_where_the_cell_is_shared_out_rounds_end_at_what_there_is_room_for(
    make_agent: AgentMaker, clip_file: Path
) -> None:
    agent, uplink = make_agent(progressive="1,2,4", snr_db=20)
    uplink.grant.rounds, uplink.grant.channel_uses = True, 16
    await agent.ask("what", clip_from_file(clip_file))
    assert list(uplink.questions[0].rounds.token_lengths) == [1, 2], "two tokens are suggested at 20 dB"


@pytest.mark.parametrize("progressive", ["4,2", "0,2", "2,2", "2,", "two"])
def test_rounds_that_do_not_grow_are_refused_by_name(progressive: str) -> None:
    with pytest.raises(ConfigurationError, match="progressive"):
        load_settings({"progressive": progressive})


async def test_how_an_answer_is_decoded_goes_with_its_question(make_agent: AgentMaker) -> None:
    clip = Clip(pcm_S=np.zeros(1000, np.float32))
    agent, uplink = make_agent(temperature=0.7, top_p=0.9, sampling_seed=2**63)
    await agent.ask("what", clip)
    assert uplink.questions[0].sampling == pb.Sampling(temperature=0.7, top_p=0.9, seed=2**63)
    agent, uplink = make_agent(temperature=0.7)
    await agent.ask("what", clip)
    assert uplink.questions[0].sampling == pb.Sampling(temperature=0.7)
    agent, uplink = make_agent(top_p=0.5)
    await agent.ask("what", clip)
    assert not uplink.questions[0].HasField("sampling")


async def test_a_server_that_does_not_sample_is_told(
    make_agent: AgentMaker, caplog: pytest.LogCaptureFixture
) -> None:
    agent, uplink = make_agent(temperature=0.7)
    uplink.answer = pb.Answer(text="left", logprob=-0.5)
    await agent.ask("what")
    assert not caplog.records
    uplink.answer = pb.Answer(text="left")
    await agent.ask("what")
    assert "too old to sample" in caplog.text


async def test_the_channel_is_really_crossed(make_agent: AgentMaker, bundle: Bundle) -> None:
    pcm = np.linspace(-1, 1, 1000, dtype=np.float32)
    sent = Transmitter(bundle).encode_audio(pcm, 4)

    async def error(**flags: Any) -> float:
        agent, uplink = make_agent(payload="float32", token_length=4, **flags)
        await agent.ask("what", Clip(pcm_S=pcm))
        received = payload.decode(uplink.questions[0].payloads[0], max_token_length=4, channel_dim=8)
        return float(np.mean((received - sent) ** 2))

    assert await error(channel="none") == 0.0
    assert 0.0 < await error(channel="awgn", snr_db=30) < 1e-2 < await error(channel="awgn", snr_db=0)


async def test_bandwidth_is_that_of_each_questions_grant(make_agent: AgentMaker) -> None:
    agent, uplink = make_agent()
    clip = Clip(pcm_S=np.zeros(1000, np.float32))
    # As an agent asks that has not heard a server yet: nothing says how much bandwidth there is.
    offline = await agent.prepare("what", clip, agent.usual_grant())
    await agent.ask("what", clip)
    uplink.grant.bandwidth_hz = 4e5
    await agent.ask("what", clip)
    sent = [offline.question, *uplink.questions]
    blocks = [question.payloads[0] for question in sent]
    bandwidths_hz = [block.channel.channel_uses / block.channel.airtime_s for block in blocks]
    assert bandwidths_hz == pytest.approx([1e6, 1e5, 4e5])


async def test_whoever_waits_for_an_answer_waits_no_longer_to_be_let_in(
    make_agent: AgentMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, uplink = make_agent(deadline_s=0.01)

    async def never(snr_db: float) -> Session:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(uplink, "open", never)
    with pytest.raises(DeadlineError, match="no answer"):
        await agent.ask("what")


async def test_a_graph_without_an_end_does_not_outlast_the_deadline(
    make_agent: AgentMaker, bundle: Bundle, make_endless: Callable[[Bundle], Bundle]
) -> None:
    make_endless(bundle)
    agent, uplink = make_agent(deadline_s=0.3)
    clip = Clip(pcm_S=np.zeros(1000, np.float32))
    with pytest.raises(TooSlowError) as asked:
        await agent.ask("what", clip)
    with pytest.raises(TooSlowError) as watched:  # as a service that watches has it encoded
        await agent.prepare("what", clip, uplink.grant)
    assert str(asked.value) == str(watched.value) == "encoding takes longer than 0.3 s (deadline_s)"
    assert uplink.questions == []
    assert uplink.late == [(0.3, 0.3)] * 2, "the cell reckons with what it never received"
    with pytest.raises(TooSlowError, match="encoding"):
        await agent.prepare_share(clip, uplink.grant, "camera", 0.0, 1.0)
    assert len(uplink.late) == 2, "nobody waits for the answer to a share"


async def test_airtime_beyond_the_deadline_is_not_waited_for_and_the_server_is_told(
    make_agent: AgentMaker,
) -> None:
    agent, uplink = make_agent(pace=True, token_length=4)
    uplink.grant.bandwidth_hz = 0.1
    clip = Clip(pcm_S=np.zeros(1000, np.float32))
    for asking in (agent.ask("what", clip), agent.prepare("what", clip, uplink.grant)):
        with pytest.raises(TooSlowError, match=r"sending takes longer than 30 s \(deadline_s\)"):
            await asking
    assert [deadline_s for deadline_s, _ in uplink.late] == [30.0, 30.0]
    assert all(0.0 < encode_s < 30.0 for _, encode_s in uplink.late)
    uplink.grant.bandwidth_hz = 1e6
    await agent.ask("what", clip)
    assert len(uplink.questions) == 1, "what was not sent does not keep the radio"


async def test_a_round_that_cannot_be_sent_in_time_is_not_the_servers_fault(
    make_agent: AgentMaker, clip_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, uplink = make_agent(progressive="1,4", pace=True)
    uplink.grant.rounds = True
    wanted = pb.MoreWanted(round=1, blocks=[pb.WantedBlock(modality=pb.MODALITY_VIDEO, token_length=4)])

    async def ask(question: pb.Question, **options: Any) -> Reply:
        uplink.grant.bandwidth_hz = 0.1  # the cell was shared out anew
        try:
            await options["more"](wanted)
        except TimeoutError as error:  # as the uplink says it
            raise DeadlineError("no answer") from error
        raise AssertionError

    monkeypatch.setattr(uplink, "ask", ask)
    with pytest.raises(TooSlowError, match="sending"):
        await agent.ask("what", clip_from_file(clip_file))


async def test_what_is_left_of_the_time_goes_with_the_question(make_agent: AgentMaker) -> None:
    agent, uplink = make_agent(deadline_s=20.0)
    await agent.ask("what", Clip(pcm_S=np.zeros(1000, np.float32)))
    (question,) = uplink.questions
    assert 0 < question.deadline_ms < 20_000
    assert question.deadline_ms + question.spent_ms == 20_000


async def test_what_making_tokens_took_goes_with_the_question(make_agent: AgentMaker) -> None:
    readings = itertools.count(0.0, 0.25)
    agent, uplink = make_agent({"clock": lambda: next(readings)}, deadline_s=20.0)
    outcome = await agent.ask("what", Clip(pcm_S=np.zeros(1000, np.float32)))
    assert outcome.cost.encode_s > 0.0
    assert uplink.questions[0].encode_ms == round(1000.0 * outcome.cost.encode_s)


async def test_a_set_bandwidth_counts_whatever_is_granted(make_agent: AgentMaker) -> None:
    agent, uplink = make_agent(bandwidth_hz=2e5)
    await agent.ask("what", Clip(pcm_S=np.zeros(1000, np.float32)))
    (block,) = uplink.questions[0].payloads
    assert block.channel.airtime_s == pytest.approx(block.channel.channel_uses / 2e5)


async def test_the_next_question_follows_the_channel(make_agent: AgentMaker) -> None:
    now = 0.0
    trace = SnrTrace((0.0, 10.0), (3.0, 20.0))
    agent, uplink = make_agent({"trace": trace, "clock": lambda: now})
    clip = Clip(pcm_S=np.linspace(-1, 1, 1000, dtype=np.float32))
    before = await agent.ask("what", clip)
    now = 11.0
    after = await agent.ask("what", clip)
    assert uplink.reported_snrs_db == [3.0, 20.0]
    # Six tokens, then two are suggested; the bundle knows four and two.
    assert (before.token_length, after.token_length) == (4, 2)
    assert [question.payloads[0].shape[0] for question in uplink.questions] == [4, 2]


async def test_a_seed_repeats_a_question_exactly(make_agent: AgentMaker) -> None:
    pcm = np.linspace(-1, 1, 1000, dtype=np.float32)
    data = []
    for seed in (1, 1, 2):
        agent, uplink = make_agent(seed=seed)
        await agent.ask("what", Clip(pcm_S=pcm))
        data.append(uplink.questions[0].payloads[0].data)
    assert data[0] == data[1] != data[2]


async def test_the_analog_path_sends_the_question_through_the_channel(make_agent: AgentMaker) -> None:
    agent, uplink = make_agent(text_path="analog")
    outcome = await agent.ask("what plays")
    (question,) = uplink.questions
    assert list(question.question_ids) == []
    assert [block.modality for block in question.payloads] == [pb.MODALITY_TEXT]
    assert list(question.payloads[0].shape) == [2, 8]
    assert outcome.cost.channel_uses == 8


async def test_text_alone_takes_no_channel_uses(make_agent: AgentMaker) -> None:
    agent, uplink = make_agent()
    outcome = await agent.ask("what plays", Clip(text="a violin"), context="on the left")
    assert not uplink.questions[0].payloads
    assert list(uplink.questions[0].context_ids) == [10, 11, 3, 4, 5]
    assert outcome.cost.channel_uses == 0


async def test_each_question_has_an_id_of_its_own(make_agent: AgentMaker) -> None:
    agent, uplink = make_agent()
    await agent.ask("what")
    await agent.ask("what")
    ids = [question.request_id for question in uplink.questions]
    assert len(set(ids)) == 2
    assert all(1 <= len(request_id) <= 64 for request_id in ids)


@pytest.mark.parametrize("question", ["", "  \n"])
async def test_an_empty_question_is_refused_before_anything_is_sent(
    make_agent: AgentMaker, question: str
) -> None:
    agent, uplink = make_agent()
    with pytest.raises(ConfigurationError, match="question"):
        await agent.ask(question)
    assert uplink.questions == []


async def test_more_tokens_than_granted_are_refused(make_agent: AgentMaker) -> None:
    agent, uplink = make_agent(token_length=32)
    uplink.grant.max_token_length = 16
    with pytest.raises(ConfigurationError, match="token_length is 32; at most 16"):
        await agent.ask("what")
