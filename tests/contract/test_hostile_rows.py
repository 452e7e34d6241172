"""Small versions of the rows of chaos that strangers cause; timings need a machine that does nothing else."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from edge_server.server.config import SETTINGS
from tests.chaos.row import Row
from tests.chaos.rows import bombs, fuzz, fuzz_coverage, malicious_servers, trickle


def broken(row: Row, *timings: str) -> list[str]:
    return [
        check.what for check in row.checks if not check.kept and not check.what.startswith(timings or ("-",))
    ]


async def test_bombs_are_refused_without_memory(tmp_path: Path) -> None:
    row = await bombs.run("test", tmp_path)
    assert not broken(row, "the slowest"), row


async def test_a_guided_search_finds_nothing(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    row = await fuzz_coverage.run("test", tmp_path)
    assert not broken(row), row.facts


@pytest.mark.skipif(SETTINGS.find("receive_s") is None, reason="senders have no deadline")
async def test_trickling_connections_of_every_kind_are_cut(tmp_path: Path) -> None:
    row = await trickle.run("test", tmp_path)
    assert not broken(row, "p99"), row.facts


async def test_what_malformed_messages_came_to_can_be_written_down(tmp_path: Path) -> None:
    row = await fuzz.run("test", tmp_path)
    assert [check for check in row.checks if not check.kept] == []
    written = json.loads(json.dumps(asdict(row)))
    frames = written["facts"]["frames"]
    assert sum(frames["codes"].values()) > 0


@pytest.mark.slow
async def test_whatever_a_server_does_the_agent_ends_quietly(tmp_path: Path) -> None:
    row = await malicious_servers.run("test", tmp_path)
    assert not broken(row, "the latest end"), row.facts
