"""Where a served model computes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_server.errors import ModelError
from edge_server.runtime.computing import Computing
from edge_server.runtime.model_runner import load
from edge_server.server.config import ServerConfig

SHIPPED = Path(__file__).parents[4] / ServerConfig().runtime.model


@pytest.mark.parametrize("device", ["cuda:97", "abacus"])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    with pytest.raises(ModelError, match=f"device is '{device}'"):
        load(SHIPPED, Computing(device=device))


def test_the_cpu_is_the_default() -> None:
    assert ServerConfig().runtime.device == "cpu"
    assert load(SHIPPED, Computing()).bundle_hash


def test_a_gpu_gets_one_batch_unless_more_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ServerConfig().engine.batches == min(os.cpu_count() or 1, 4)
    assert ServerConfig(device="cuda:1").engine.batches == 1
    assert ServerConfig(device="cuda", batches=2).engine.batches == 2
    monkeypatch.setenv("TOKENLINK_SERVER_DEVICE", "cuda")
    assert ServerConfig().engine.batches == 1
