"""vLLM behind the runner port, where it is installed; and what is told where it is not."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from typer.testing import CliRunner

from device_agent.places import shipped_model
from edge_server.engine.ports import BatchLostError, Prompt
from edge_server.errors import ConfigurationError, ModelError
from edge_server.export.split import split_model
from edge_server.runtime import vllm_child
from edge_server.runtime.computing import EXACT, Computing
from edge_server.runtime.engines_cli import app
from edge_server.runtime.folders import load
from edge_server.runtime.vllm_child import VllmProcess, VllmSettings
from edge_server.runtime.vllm_environment import interpreter
from edge_server.runtime.vllm_loading import load_vllm
from edge_server.server.config import ServerConfig
from edge_server.server.loading import load_served
from tests.benchmarks.serving.offline_loop import prompts_of
from tests.tiny_families import TINY

installed = pytest.mark.skipif(
    not interpreter().is_file(), reason="vLLM is not installed: edge-server engines install vllm"
)
TOKENS = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    at = tmp_path_factory.mktemp("split")
    TINY["llava"](at / "checkpoint")
    split_model(at / "checkpoint", at / "model")
    return at / "model"


def test_a_server_says_how_to_install_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ModelError, match="`edge-server engines install vllm`"):
        load_vllm(folder, 1, 4)
    settings = {"model": folder, "runner": "vllm", "model_runner_processes": False}
    with pytest.raises(ConfigurationError, match="`edge-server engines install vllm`"):
        load_served(ServerConfig.model_validate(settings))
    assert CliRunner().invoke(app, ["list"]).output == "vllm: not installed\n"
    refused = CliRunner().invoke(app, ["install", "magic"])
    assert refused.exit_code == 2
    assert "there is: vllm" in refused.output


def interpreter_that(does: str, folder: Path) -> Path:
    """In place of vLLM's: a program of the shell."""
    script = folder / "venv" / "bin" / "python"
    script.parent.mkdir(parents=True)
    script.write_text(f"#!/bin/sh\n{does}\n")
    script.chmod(0o755)
    return script


SETTINGS = VllmSettings(Path("nowhere"), 8, 32)


def test_a_process_that_says_nothing_is_ended_and_one_that_takes_its_time_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_child, "SILENCE_S", 0.5)
    silent = interpreter_that(f"echo $$ > {tmp_path}/pid; exec sleep 600", tmp_path / "silent")
    with pytest.raises(ModelError, match="said nothing"):
        VllmProcess(SETTINGS, silent)
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))
    # Imports that take longer than it may be silent: it says that it lives meanwhile.
    (tmp_path / "stub").mkdir()
    (tmp_path / "stub" / "vllm.py").write_text("import time; time.sleep(7); raise RuntimeError('no weights')")
    started = f'PYTHONPATH={tmp_path}/stub exec {sys.executable} "$@"'
    monkeypatch.setattr(vllm_child, "SILENCE_S", 6.0)
    with pytest.raises(ModelError, match="no weights"):
        VllmProcess(SETTINGS, interpreter_that(started, tmp_path / "slow"))


@installed
def test_it_says_what_our_decoder_says_and_comes_back_after_a_fault() -> None:
    # Not a tiny model: vLLM's attention on a CPU takes no heads of 8 reals.
    model = shipped_model()
    assert model is not None
    own: Any = load(model, Computing(precision=EXACT))
    prompts = prompts_of(model, 1, 6, 6)
    runner = load_vllm(model, 1, 8)
    try:
        assert said(runner, prompts) == said(own, prompts)
        state, _ = runner.prefill(prompts[:2])
        joined, steps = runner.prefill(prompts[2:], state)
        assert len(steps) == 4
        kept = runner.keep(joined, [5, 1])
        assert len(runner.decode(kept)[1]) == 2
        unfit = [replace(each, x_TC=np.full_like(each.x_TC, np.nan)) for each in prompts[0].blocks]
        broken = replace(prompts[0], blocks=tuple(unfit))
        with pytest.raises(ValueError, match="no numbers"):
            runner.prefill([broken])
        # What is at fault inside is a lost batch, and another process takes its place.
        before = runner.process.pid
        with pytest.raises(BatchLostError):
            runner.process.ask({"add": [], "drop": [], "step": ["no such"]})
        assert runner.process.pid != before
        with pytest.raises(BatchLostError):
            runner.decode(kept)
        assert said(runner, prompts[:2]) == said(own, prompts[:2])
    finally:
        runner.close()


def said(model: Any, prompts: list[Prompt]) -> list[list[int]]:
    state, steps = model.prefill(prompts)
    answers: list[list[int]] = [[] for _ in prompts]
    for _ in range(TOKENS):
        for answer, step in zip(answers, steps, strict=True):
            answer.append(step.token_id)
        state, steps = model.decode(state)
    model.keep(state, [])
    return answers
