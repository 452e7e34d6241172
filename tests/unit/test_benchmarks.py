"""The benchmarks are programs: they run, say what they found, and fail where it is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from device_agent.channel import link
from tests.benchmarks import channel


def test_the_channel_benchmark_finds_theory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results" / "channel.json"
    channel.main(["--symbols", "20000", "--out", str(out)])
    rows = json.loads(out.read_text())["rows"]
    assert len(rows) == 12
    assert all(row["standard_errors_off"] <= channel.MOST_STANDARD_ERRORS for row in rows)
    assert "QPSK" in capsys.readouterr().out


def test_the_channel_benchmark_notices_a_channel_of_another_convention(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    honest = link.sample_noise
    monkeypatch.setattr(link, "sample_noise", lambda shape, rng: np.float32(1.2) * honest(shape, rng))
    with pytest.raises(SystemExit, match="not what its convention says"):
        channel.main(["--symbols", "20000"])
    capsys.readouterr()
