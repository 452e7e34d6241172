"""A device with int8 graphs beside one with fp32 graphs: both pull from one server, and ask it the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from device_agent.bundle.bundle import load_bundle
from device_agent.media.loading import clip_from_file
from edge_server.export.quantization import quantise_bundle
from edge_server.server.config import ServerConfig
from tests.e2e.conftest import ROOT, load_script

CLIPS = sorted((ROOT / "deploy" / "demo" / "clips").glob("*.mp4"))
QUESTIONS = ("Where is the loudest instrument?", "Is there a voiceover?")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A server for the shipped model and an int8 bundle of it; the environment of a command that finds it."""
    model = tmp_path / "model"
    shutil.copytree(ROOT / ServerConfig().runtime.model, model, ignore=shutil.ignore_patterns("bundle-*"))
    source = load_bundle(model / "bundle")
    quantise_bundle(
        source, [clip_from_file(path, spec=source.media_spec()) for path in CLIPS], model / "bundle-int8"
    )
    with_server = load_script(ROOT / "deploy" / "with_server.py")
    with with_server.edge_server(model) as found:
        yield os.environ | found


def agent(server: dict[str, str], *arguments: str | Path) -> dict[str, Any]:
    """What ``device-agent ... --json`` says."""
    command = [Path(sys.executable).parent / "device-agent", *arguments, "--json"]
    done = subprocess.run(
        command, cwd=ROOT, env=server, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@pytest.mark.slow
def test_an_int8_device_gets_the_answers_of_an_fp32_device_for_fewer_bytes(
    server: dict[str, str], tmp_path: Path
) -> None:
    small = tmp_path / "small"
    pulled = agent(server, "pull", "--precision", "int8", "--bundle", small)
    assert pulled["bundle_hash"] == load_bundle(small).hash
    exact = ("--payload", "float32")
    lean = ("--bundle", small, "--payload", "int8")
    same = 0
    for clip in CLIPS:
        for question in QUESTIONS:
            link = ("ask", clip, question, "--channel", "none", "--token-length", "16", "--no-pace")
            expected, found = agent(server, *link, *exact), agent(server, *link, *lean)
            same += found["answer"] == expected["answer"]
            assert found["cost"]["bytes_on_wire"] < 0.4 * expected["cost"]["bytes_on_wire"]
            assert found["cost"]["channel_uses"] == expected["cost"]["channel_uses"]
    # An answer that was on the edge may tip over; bundles that did not belong together would agree on few.
    assert same >= len(CLIPS) * len(QUESTIONS) - 1
