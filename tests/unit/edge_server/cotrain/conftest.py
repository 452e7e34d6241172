"""A small round's parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent.bundle.bundle import Bundle
from edge_server.model.link import Link
from tests.cotraining import heads_bundle


@pytest.fixture
def bundle(link: Link, tmp_path: Path) -> Bundle:
    return heads_bundle(link, tmp_path / "bundle")
