"""A split model learns questions of one's own: its loss falls, and what comes out is served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from device_agent.bundle.bundle import load_bundle
from device_agent.media.loading import clip_from_file
from device_agent.transmitter import Transmitter
from edge_server.engine.ports import FeatureBlock, Prompt
from edge_server.errors import ConfigurationError, ModelError
from edge_server.export.split import split_model
from edge_server.model.split.bottleneck import Bottleneck, read_bottlenecks
from edge_server.model.split.description import read_split
from edge_server.model.split.scale import add_scale, take_scale
from edge_server.runtime.computing import Computing
from edge_server.runtime.folders import load
from edge_server.training import split_run
from edge_server.training.cli import app
from tests.tiny_families import TINY

QUESTION = "what is shown?"
REALS = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny split model, and doors of two colours."""
    torch.manual_seed(0)
    at = tmp_path_factory.mktemp("split")
    TINY["llava"](at / "checkpoint")
    split_model(at / "checkpoint", at / "model")
    data = at / "data"
    data.mkdir()
    rng = np.random.default_rng(1)
    lines = []
    for i in range(16):
        colour = ("red", "blue")[i % 2]
        left, top = (int(x) for x in rng.integers(10, 60, 2))
        image = Image.new("RGB", (160, 120), (200, 200, 200))
        ImageDraw.Draw(image).rectangle((left, top, left + 70, top + 50), fill=colour)
        image.save(data / f"{i}.png")
        line = {"media": f"{i}.png", "question": QUESTION, "answer": colour, "split": "train"}
        lines.append(json.dumps(line))
    (data / "questions.jsonl").write_text("\n".join(lines))
    return at


def train(folder: Path, *more: str) -> Any:
    told = ["split", "--model", str(folder / "model"), "--data", str(folder / "data"), "--jobs", "1"]
    return CliRunner().invoke(app, [*told, "--out", str(folder / "doors"), *more])


def test_its_loss_falls_and_the_bundle_that_comes_out_is_understood(folder: Path) -> None:
    options = ("--steps", "60", "--learning-rate", "5e-3", "--bottleneck", str(REALS))
    result = train(folder, *options)
    assert result.exit_code == 0, (result.output, result.exception)
    log = (folder / "doors.run" / "split" / "log.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in log]
    assert losses[-1] < losses[0] / 2
    model, bundle = load(folder / "doors", Computing()), load_bundle(folder / "doors" / "bundle")
    assert bundle.manifest.channel_dim == model.channel_dim == REALS + 2
    transmitter = Transmitter(bundle)
    whole = Transmitter(load_bundle(folder / "model" / "bundle"))
    config, _ = read_split(folder / "doors")
    (part,) = config.parts.values()
    (bottleneck,) = read_bottlenecks(folder / "doors").values()
    right = 0
    for number in range(16):
        clip = clip_from_file(folder / "data" / f"{number}.png", spec=bundle.media_spec())
        (x_TC,) = transmitter.encode(clip, 16).tokens.values()
        # The graph does what was trained.
        (all_TC,) = whole.encode(clip, 16).tokens.values()
        features = take_scale(torch.from_numpy(all_TC), part.log_rms)
        expected = add_scale(bottleneck.send(features), part.log_rms).numpy()
        assert np.abs(x_TC - expected).max() < 1e-3
        prompt = Prompt((FeatureBlock("image", x_TC, 40.0),), tuple(transmitter.tokenize(QUESTION)))
        model.check(prompt)
        right += said(model, prompt).strip() == ("red", "blue")[number % 2]
    assert right >= 14
    # Again: it has run.
    assert train(folder, *options).exit_code == 0
    assert isinstance(train(folder, *options[:-1], "10").exception, SystemExit | ModelError)


def said(model: Any, prompt: Prompt) -> str:
    state, steps = model.prefill([prompt])
    ids: list[int] = []
    while steps[0].token_id != model.eos_id and len(ids) < 8:
        ids.append(steps[0].token_id)
        state, steps = model.decode(state)
    return str(model.text(ids))


def test_what_cannot_be_trained_is_refused_before_anything_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(train(folder, "--bottleneck", "32").exception, ConfigurationError)
    monkeypatch.setattr(split_run, "TINY", 1000)
    refused = train(folder, "--bottleneck", "8").exception
    if torch.cuda.is_available():
        return
    assert isinstance(refused, ConfigurationError)
    assert "a CUDA GPU with at least 1 GiB of memory (estimated) is needed" in str(refused)


def test_before_any_training_a_bottleneck_keeps_what_tokens_have_in_common() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(200, 4, generator=generator) @ torch.randn(4, 32, generator=generator)
    bottleneck = Bottleneck(32, 4)
    bottleneck.begin_with(tokens)
    bottleneck.requires_grad_(False)
    sent = bottleneck.send(tokens)
    assert float(sent.square().mean() / tokens.square().mean()) == pytest.approx(1.0, rel=1e-3)
    arrived = bottleneck.receive(sent[None], torch.tensor([10.0]))[0]
    assert torch.allclose(arrived, tokens, atol=1e-4)
