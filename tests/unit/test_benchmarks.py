"""The benchmarks are programs: they run, say what they found, and fail where it is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from device_agent.channel import link
from edge_server.runtime.decoder import Decoder
from tests.benchmarks import channel, forward_pass, paper_scale
from tests.benchmarks.forward_turns import WHO
from tests.benchmarks.serving import profile


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


TINY = ["--prompts", "5", "--steps", "2", "--rounds", "2"]


@pytest.mark.benchmark
def test_the_forward_pass_benchmark_times_both_in_turn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results" / "forward_pass.json"
    forward_pass.main([*TINY, "--least", "0", "--out", str(out)])
    report = json.loads(out.read_text())
    assert set(report["batches"]) == {"mixed", "media"}
    for batch in report["batches"].values():
        assert batch["positions"]["shortest"] <= batch["positions"]["mean"] <= batch["positions"]["longest"]
        for part in ("prefill", "decode_step"):
            assert all(batch[part][f"{who}_s"]["median"] > 0 for who in WHO)
            assert all(batch[part][ratio]["median"] > 0 for ratio in ("ratio", "float32_ratio"))
    assert "times faster" in " ".join(capsys.readouterr().out.split())


@pytest.mark.benchmark
def test_the_forward_pass_of_published_checkpoints_can_be_timed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paper_scale.main(["--tiny", "--save", str(tmp_path / "link")])
    out = tmp_path / "forward_pass.json"
    forward_pass.main([*TINY, "--model", str(tmp_path / "link"), "--least", "0", "--out", str(out)])
    assert json.loads(out.read_text())["batches"]["mixed"]["prefill"]["ratio"]["median"] > 0
    capsys.readouterr()


@pytest.mark.benchmark
def test_the_forward_pass_benchmark_fails_below_what_is_promised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="1000 asked"):
        forward_pass.main([*TINY, "--least", "1000", "--out", str(tmp_path / "out.json")])
    capsys.readouterr()


def test_the_forward_pass_benchmark_notices_that_the_two_say_different_things(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Decoder._norm
    monkeypatch.setattr(Decoder, "_norm", lambda self, x, weight: -honest(self, x, weight))
    with pytest.raises(SystemExit, match=r"served language token \d+, Hugging Face's class says \d+"):
        forward_pass.main([*TINY, "--out", str(tmp_path / "out.json")])


def test_a_profile_shares_a_threads_time_among_the_places_it_was_seen_in() -> None:
    core = "thread (1): tokenlink-batch-0;Worker._run (w.py:1);Scheduler.step (s.py:2);"
    shares = profile.shares_of(
        [
            f"{core}ServedLink.prefill (m.py:3);PromptLayout._receive (p.py:4);linear (torch.py:5) 30",
            f"{core}ServedLink.decode (m.py:3);Decoder.decode (d.py:4);Decoder._attend (d.py:5) 50",
            f"{core}FairQueue.pop (q.py:1) 20",
            "thread (2): MainThread;Runner.run (asyncio/runners.py:118) 6",
            "thread (3): tokenlink-detokenizer;Detokenizer.wait (n.py:1);"
            "Condition.wait (threading.py:327) 100",
        ],
        {1: 8.0, 2: 1.0, 3: 0.0, 4: 1.0},
    )
    assert shares == pytest.approx(
        {
            ("core", "foundation: decode"): 0.4,
            ("core", "receivers"): 0.24,
            ("core", "scheduler, slots"): 0.16,
            ("loop", "event loop, gRPC"): 0.1,
            profile.ELSEWHERE: 0.1,
        }
    )
