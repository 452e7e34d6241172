"""The load test's own clients against both doors: they must see what a device sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from deploy.loadtest.grpc_target import GrpcConnection, GrpcTarget
from deploy.loadtest.questions import Bundle, random_block, template_of
from deploy.loadtest.rest_target import RestTarget
from deploy.loadtest.target import EXPIRED, Connection, Failed, Refused, Template
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.authority import Pki, make_pki
from tests.contract.conftest import Running
from tests.weightless import BUNDLE_HASH, CHANNEL_DIM


@pytest.fixture
def template() -> Template:
    return asked()


def asked(**values: float) -> Template:
    bundle = Bundle(BUNDLE_HASH, CHANNEL_DIM, (4, 8), Tokenizer(models.WordLevel({"?": 7}, unk_token="?")))
    block = random_block(np.random.default_rng(1), CHANNEL_DIM, "audio", 4)
    return template_of(bundle, "what", [block], **values)  # type: ignore[arg-type]


@pytest.fixture(params=["grpc", "rest"])
async def connection(request: pytest.FixtureRequest, running: Running) -> AsyncIterator[Connection]:
    if request.param == "rest":
        line: Connection = await RestTarget(running.addresses.rest).connect(3)
        yield line
        await line.close()
        return
    target = GrpcTarget(running.addresses.grpc, BUNDLE_HASH)
    line = await target.connect(3)
    yield line
    await line.close()
    await target.close()
    assert isinstance(line, GrpcConnection)
    assert line.strays == 0


async def test_a_question_is_answered(connection: Connection, template: Template) -> None:
    # One id over gRPC; over REST the server tokenizes "what" itself.
    assert await connection.ask(template.ask()) in ("1+audio:4", "4+audio:4")


async def test_answers_that_came_are_not_kept_for_long(
    connection: Connection, template: Template, running: Running
) -> None:
    for _ in range(70):
        await connection.ask(template.ask())
    await running.until(lambda: len(running.server.answers) < 32)
    assert sum(running.model.prefills) == 70


async def test_many_at_once_are_told_apart(connection: Connection, template: Template) -> None:
    answers = await asyncio.gather(*(connection.ask(template.ask()) for _ in range(6)))
    assert len(set(answers)) == 1


async def test_cancelling_takes_the_question_back(
    connection: Connection, template: Template, running: Running
) -> None:
    running.model.gate.close()
    asking = asyncio.create_task(connection.ask(template.ask()))
    await running.until(lambda: running.server.engine.running == 1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await running.until(lambda: running.server.engine.unanswered == 0)
    running.model.gate.open()
    assert await connection.ask(template.ask())
    if isinstance(connection, GrpcConnection):
        await running.until(lambda: not connection.taken_back)  # it has ended too, once


@pytest.mark.parametrize("settings", [{"max_queue": 1, "max_queue_per_user": 1, "max_batch": 1}])
async def test_a_refusal_says_when(connection: Connection, template: Template, running: Running) -> None:
    running.model.gate.close()
    first = asyncio.create_task(connection.ask(template.ask()))
    await running.until(lambda: running.server.engine.running == 1)
    second = asyncio.create_task(connection.ask(template.ask()))
    await running.until(lambda: running.server.engine.waiting == 1)
    with pytest.raises(Refused) as refused:
        await connection.ask(template.ask())
    assert refused.value.retry_delay_s >= 0.05
    running.model.gate.open()
    await asyncio.gather(first, second)


async def test_a_deadline_is_told_from_a_fault(connection: Connection, running: Running) -> None:
    running.model.gate.close()
    with pytest.raises(Failed) as expired:
        await connection.ask(asked(deadline_s=0.05).ask())
    assert expired.value.code == EXPIRED
    running.model.gate.open()
    with pytest.raises(Failed) as invalid:
        await connection.ask(asked(max_new_tokens=100_000).ask())
    assert invalid.value.code == "invalid_argument"


async def test_another_bundle_is_refused_on_opening(running: Running) -> None:
    target = GrpcTarget(running.addresses.grpc, BUNDLE_HASH)
    connection = await target.connect(1)
    with pytest.raises(Failed, match="failed_precondition"):
        await GrpcTarget(running.addresses.grpc, "cd" * 32).connect(0)
    await running.server.stop()
    with pytest.raises(Failed):
        await connection.ask(asked().ask())
    await connection.close()
    await target.close()
    rest = await RestTarget(running.addresses.rest).connect(0)
    with pytest.raises(Failed, match="connection"):
        await rest.ask(asked().ask())
    await rest.close()


def test_words_travel_without_blocks() -> None:
    template = Template.of(pb.Question(question_ids=[7]), "what", "clip.mp4")
    assert pb.Question.FromString(template.ask().data).question_ids == [7]
    assert Path(template.clip).suffix == ".mp4"


class TestMutualTls:
    @pytest.fixture
    def pki(self, tmp_path: Path) -> Pki:
        return make_pki(tmp_path / "certs")

    @pytest.fixture
    def settings(self, pki: Pki) -> dict[str, object]:
        return pki.settings()

    async def test_users_are_agents_of_one_enrolled_device(
        self, running: Running, pki: Pki, template: Template
    ) -> None:
        target = GrpcTarget(
            running.addresses.grpc, BUNDLE_HASH, credentials=pki.device("crowd").credentials()
        )
        lines = [await target.connect(user) for user in range(2)]
        assert [await line.ask(template.ask()) for line in lines] == ["1+audio:4"] * 2
        assert {device.device_id for device in running.server.cell.devices()} == {
            "crowd/loadtest-0",
            "crowd/loadtest-1",
        }
        for line in lines:
            await line.close()
        await target.close()

    async def test_without_a_certificate_nobody_connects(self, running: Running) -> None:
        target = GrpcTarget(running.addresses.grpc, BUNDLE_HASH)
        with pytest.raises(asyncio.TimeoutError):
            async with asyncio.timeout(0.5):
                await target.connect(0)
        await target.close()
