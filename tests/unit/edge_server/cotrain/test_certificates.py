"""Only enrolled devices take part: real TLS on a real port, and who must not pass."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from device_agent.bundle.bundle import Bundle
from device_agent.cotrain.client import Door, take_part
from device_agent.cotrain.learner import Learner
from device_agent.errors import PermissionDeniedError, ServerUnreachableError, UnauthenticatedError
from device_agent.uplink.backoff import Backoff
from device_agent.uplink.credentials import Credentials
from edge_server.access import devices
from edge_server.cotrain.plan import Plan
from edge_server.model.link import Link
from tests.authority import Pki, make_pki
from tests.cotraining import Edge, MadeUp, device, learner

PLAN = Plan(rounds=12, min_devices=1, clips=2, token_lengths=(4,), payload="float32")


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return make_pki(tmp_path / "certs")


def door_of(edge: Edge, credentials: Credentials | None) -> Door:
    return replace(edge.door, credentials=credentials)


async def once(one: Learner, door: Door) -> str:
    """One try."""
    return await take_part(one, door, backoff=Backoff(retries=0))


async def test_an_enrolled_device_learns(link: Link, bundle: Bundle, pki: Pki, tmp_path: Path) -> None:
    one = learner(bundle, MadeUp(link, 1), "hall", tmp_path / "hall")
    async with Edge(link, PLAN, bundle, tmp_path / "edge", pki) as edge:
        assert await device(one, door_of(edge, pki.device("hall").credentials())) == "done"
        assert edge.learning.journal.counters["hall"].steps == PLAN.rounds
    assert one.learned.applied == PLAN.rounds


async def test_nobody_else_takes_part(link: Link, bundle: Bundle, pki: Pki, tmp_path: Path) -> None:
    one = learner(bundle, MadeUp(link, 1), "hall", tmp_path / "hall")
    foreign = make_pki(tmp_path / "foreign").device("hall")
    stranger = Credentials(pki.root, foreign.signed.pem.encode(), foreign.key, "hall")
    async with Edge(link, PLAN, bundle, tmp_path / "edge", pki) as edge:
        for credentials in (None, Credentials(pki.root), stranger):
            with pytest.raises((ServerUnreachableError, UnauthenticatedError)):
                await once(one, door_of(edge, credentials))
        with pytest.raises(UnauthenticatedError):  # of the authority, but not in the access file
            await once(one, door_of(edge, pki.device("hall", noted=False).credentials()))
        with pytest.raises(PermissionDeniedError):  # in another's name
            await once(one, door_of(edge, pki.device("yard").credentials()))
        assert not edge.learning.journal.counters


async def test_a_device_that_is_revoked_leaves_and_the_round_goes_on(
    link: Link, bundle: Bundle, pki: Pki, tmp_path: Path
) -> None:
    ones = {
        name: learner(bundle, MadeUp(link, i), name, tmp_path / name) for i, name in enumerate(("a", "b"))
    }
    async with Edge(link, replace(PLAN, rounds=40), bundle, tmp_path / "edge", pki) as edge:
        other = asyncio.create_task(device(ones["b"], door_of(edge, pki.device("b").credentials())))

        def at(progress: object) -> None:
            if ones["a"].learned.applied == 5:
                devices.revoke(pki.access, "a", time.time())

        with pytest.raises(UnauthenticatedError):
            await device(ones["a"], door_of(edge, pki.device("a").credentials()), at)
        assert await other == "done"
        assert 5 <= edge.learning.journal.counters["a"].steps < 40
        assert edge.half.step == 40
