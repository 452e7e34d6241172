"""A device follows the server to another model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_agent.agent import Agent
from device_agent.bundle.archive import pack_bytes
from device_agent.bundle.bundle import MANIFEST, Bundle, load_bundle, write_manifest
from device_agent.config import load_settings
from device_agent.errors import BundleError, BundleMismatchError, DeadlineError
from device_agent.media.clip import Clip
from device_agent.transmitter import Transmitter
from device_agent.uplink.session import Reply, Session
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.waiting import until

CLIP = Clip(pcm_S=np.linspace(-1, 1, 1000, dtype=np.float32))


class Serving:
    """An uplink to a server that answers for some bundles, and would rather have one of them."""

    def __init__(self, archives: dict[str, bytes], current: str, answered_for: set[str], ours: str) -> None:
        self.archives, self.current, self.answered_for = archives, current, answered_for
        self.bundle_hash = ours
        self.server = "127.0.0.1:1"
        self.gate = asyncio.Event()
        self.gate.set()
        self.fetched: list[str] = []
        self.asked: list[str] = []

    async def open(self, snr_db: float) -> Session:
        if self.bundle_hash not in self.answered_for:
            raise BundleMismatchError("the server answers for another bundle")
        grant = pb.Grant(max_token_length=32, token_length=4, bandwidth_hz=1e5)
        return Session("s", grant, "1", "tiny", 0.0, 1e9, snr_db, self.current)

    async def fetch_bundle(self, into: Path, bundle_hash: str, precision: str, **bounds: Any) -> None:
        wanted = bundle_hash or self.current
        self.fetched.append(wanted)
        await self.gate.wait()
        into.write_bytes(self.archives[wanted])

    def adopt(self, bundle_hash: str) -> None:
        self.bundle_hash = bundle_hash

    async def ask(self, question: pb.Question, *, bundle_hash: str, **options: Any) -> Reply:
        self.asked.append(bundle_hash)
        return Reply(pb.Answer(text="left", probability=0.75, finish_reason="stop"), 123, 0.5, 1)


@pytest.fixture
def newer(make_bundle: Callable[[Path], Bundle], tmp_path: Path) -> Bundle:
    """A bundle that differs from the installed one."""
    bundle = make_bundle(tmp_path / "newer")
    fields = json.loads((bundle.folder / MANIFEST).read_text()) | {"name": "newer"}
    return write_manifest(bundle.folder, {key: fields[key] for key in fields if key != "bundle_hash"})


def agent_of(bundle: Bundle, serving: Serving, *, auto_update: bool = True, **changes: Any) -> Agent:
    flags = {"pace": False, "seed": 1, "bundle": bundle.folder, "auto_update": auto_update}
    settings = load_settings(flags | changes)
    rng = np.random.default_rng(1)
    return Agent(settings, Transmitter(bundle), serving, rng=rng)  # type: ignore[arg-type]


@pytest.mark.parametrize("old_is_served", [True, False])
async def test_the_next_question_goes_with_the_new_bundle(
    bundle: Bundle, newer: Bundle, old_is_served: bool
) -> None:
    served = {newer.hash, bundle.hash} if old_is_served else {newer.hash}
    serving = Serving({newer.hash: pack_bytes(newer.folder)}, newer.hash, served, bundle.hash)
    agent = agent_of(bundle, serving)
    await agent.ask("what plays", CLIP)
    await agent.ask("what plays", CLIP)
    assert serving.fetched == [newer.hash]
    assert serving.asked == [newer.hash, newer.hash]
    assert load_bundle(bundle.folder).hash == newer.hash


async def test_nothing_is_fetched_unless_asked_for(bundle: Bundle, newer: Bundle) -> None:
    serving = Serving({}, newer.hash, {newer.hash, bundle.hash}, bundle.hash)
    await agent_of(bundle, serving, auto_update=False).ask("what plays", CLIP)
    assert (serving.fetched, serving.asked) == ([], [bundle.hash])
    serving.answered_for = {newer.hash}
    with pytest.raises(BundleMismatchError):
        await agent_of(bundle, serving, auto_update=False).ask("what plays", CLIP)


@pytest.mark.parametrize("broken", [b"no archive", None])
async def test_a_bundle_that_cannot_be_trusted_changes_nothing_and_is_tried_once(
    bundle: Bundle, newer: Bundle, broken: bytes | None
) -> None:
    # None: a sound bundle, but another than the one that was announced.
    archive = pack_bytes(bundle.folder) if broken is None else broken
    serving = Serving({newer.hash: archive}, newer.hash, {newer.hash, bundle.hash}, bundle.hash)
    agent = agent_of(bundle, serving)
    await agent.ask("what plays", CLIP)
    await agent.ask("what plays", CLIP)
    assert serving.fetched == [newer.hash]
    assert serving.asked == [bundle.hash, bundle.hash]
    assert load_bundle(bundle.folder).hash == bundle.hash


async def test_where_no_bundle_is_left_to_go_on_with_the_error_says_so(bundle: Bundle, newer: Bundle) -> None:
    serving = Serving({newer.hash: b"no archive"}, newer.hash, {newer.hash}, bundle.hash)
    with pytest.raises(BundleError, match="archive"):
        await agent_of(bundle, serving).ask("what plays", CLIP)


def installed(folder: Path) -> str:
    """The bundle in a folder; none for the moment in which another takes its place."""
    try:
        return load_bundle(folder).hash
    except BundleError:
        return ""


async def test_who_waits_for_an_answer_does_not_wait_for_a_bundle_that_dribbles(
    bundle: Bundle, newer: Bundle
) -> None:
    serving = Serving(
        {newer.hash: pack_bytes(newer.folder)}, newer.hash, {newer.hash, bundle.hash}, bundle.hash
    )
    serving.gate.clear()
    agent = agent_of(bundle, serving, deadline_s=0.5)
    await agent.ask("what plays", CLIP)
    assert serving.asked == [bundle.hash]
    serving.gate.set()  # it went on coming meanwhile, and was asked for once
    await until(lambda: installed(bundle.folder) == newer.hash)
    await agent.ask("what plays", CLIP)
    assert (serving.fetched, serving.asked) == ([newer.hash], [bundle.hash, newer.hash])
    await agent.close()


async def test_where_only_another_bundle_is_answered_for_the_question_ends_by_its_deadline(
    bundle: Bundle, newer: Bundle
) -> None:
    serving = Serving({}, newer.hash, {newer.hash}, bundle.hash)
    serving.gate.clear()
    agent = agent_of(bundle, serving, deadline_s=0.2)
    with pytest.raises(DeadlineError, match=r"within 0.2 s"):
        await agent.ask("what plays", CLIP)
    await agent.close()
    assert [path.name for path in bundle.folder.parent.iterdir()].count("bundle") == 1
    assert not list(bundle.folder.parent.glob(".bundle.*"))  # nothing of it is left


async def test_a_bundle_that_does_not_run_is_not_taken(
    bundle: Bundle, newer: Bundle, make_endless: Callable[[Bundle], Bundle]
) -> None:
    endless = make_endless(newer)
    archive = pack_bytes(endless.folder)
    serving = Serving({endless.hash: archive}, endless.hash, {endless.hash, bundle.hash}, bundle.hash)
    agent = agent_of(bundle, serving, bundle_proof_s=0.5)
    await agent.ask("what plays", CLIP)
    assert (serving.fetched, serving.asked) == ([endless.hash], [bundle.hash])
    assert load_bundle(bundle.folder).hash == bundle.hash
