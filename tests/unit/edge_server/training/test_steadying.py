"""Steadying moves the LoRA and nothing else, towards plain answers or by the worst wording; runs go on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from typer.testing import CliRunner

from edge_server.data.soundstage.dataset import generate, load_split
from edge_server.data.soundstage.validation_wordings import LEARNED, VALIDATION
from edge_server.engine.calibration import FILE as CALIBRATION
from edge_server.errors import ModelError
from edge_server.evaluation.cli import app as evaluate_app
from edge_server.export.bundle import export_bundle
from edge_server.model.config import FoundationConfig, ReceiverConfig
from edge_server.model.description import LinkConfig
from edge_server.model.link import Link
from edge_server.training.card import RECORD
from edge_server.training.cli import app as train_app
from edge_server.training.clips import EncodedClips, encode_clips
from edge_server.training.loop import Schedule
from edge_server.training.soundstage import SoundstageSplit
from edge_server.training.steadying import Steadying, _of_the_worst
from edge_server.training.steadying_run import SteadyingRecipe, SteadyingRun, ways
from edge_server.training.teacher_forcing import AnswerLogits


def small(way: str) -> SteadyingRecipe:
    """A way for a few steps."""
    told = ways()[way]
    short = Schedule(2, 1e-2, warmup_steps=1, log_every=1, checkpoint_every=1)
    rewording = replace(told.training.rewording, batch_size=2, questions=3, strangers=2)
    return replace(told, training=replace(told.training, schedule=short, rewording=rewording))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, small_tokenizer: Tokenizer) -> dict[str, Path]:
    """A model with a LoRA that says something, and clips."""
    root = tmp_path_factory.mktemp("steadying")
    torch.manual_seed(0)
    config = LinkConfig(
        name="begun",
        foundation=FoundationConfig(
            small_tokenizer.get_vocab_size(), hidden_size=32, layers=2, heads=2, intermediate_size=64
        ),
        receiver=ReceiverConfig(width=32, heads=2, query_layers=1, num_queries=4),
        channel_dim=16,
    )
    link = Link(config, small_tokenizer)
    link.add_lora()
    for name, each in link.lora_parameters().items():
        if "lora_B" in name:
            torch.nn.init.normal_(each, std=0.1)
    link.save(root / "model")
    export_bundle(Link.load(root / "model"), root / "model" / "bundle", None)
    (root / "model" / RECORD).write_text(json.dumps({"commit": "c", "stages": {}}))
    (root / "model" / CALIBRATION).write_text("{}")
    for split in ("train", "val"):
        generate(root / "clips", split, 4, seed=1, workers=1)  # type: ignore[arg-type]
    return {"model": root / "model", "clips": root / "clips", "runs": root / "runs"}


@pytest.fixture
def clips(folders: dict[str, Path], tmp_path: Path) -> EncodedClips[SoundstageSplit]:
    split = SoundstageSplit(load_split(folders["clips"], "train"))
    return encode_clips(Link.load(folders["model"]), split, tmp_path, "train")


@pytest.mark.parametrize("way", list(ways()))
def test_every_way_moves_only_what_it_says_and_draws_the_same_again(
    folders: dict[str, Path], clips: EncodedClips[SoundstageSplit], way: str
) -> None:
    link = Link.load(folders["model"])
    stage = Steadying(link, clips, small(way).training, seed=3)
    loss, figures = stage.loss(0)
    again, _ = stage.loss(0)
    assert loss.item() == again.item() != stage.loss(1)[0].item()
    assert ("apart" in figures) == (small(way).training.consistency > 0)
    loss.backward()  # type: ignore[no-untyped-call]
    moved = {name for name, each in link.named_parameters() if each.grad is not None}
    assert any("lora_" in name for name in moved)
    others = {name for name in moved if "lora_" not in name}
    # Where the whole foundation learns its embedding stays: devices have it too.
    assert bool(others) == bool(small(way).training.whole)
    assert all(".layers." in name or name.endswith(".norm.weight") for name in others)
    assert all(name.startswith("foundation.") for name in moved)


def test_plain_questions_of_a_model_as_it_began_are_answered_as_it_began(
    folders: dict[str, Path], clips: EncodedClips[SoundstageSplit]
) -> None:
    told = small("consistent").training
    plain = replace(told.rewording, plain_odds=1.0, system_odds=0.0, analog_odds=0.0)
    stage = Steadying(Link.load(folders["model"]), clips, replace(told, rewording=plain), seed=3)
    assert stage.loss(0)[1]["apart"] == pytest.approx(0.0, abs=1e-6)
    reworded = replace(plain, plain_odds=0.0)
    stage = Steadying(Link.load(folders["model"]), clips, replace(told, rewording=reworded), seed=3)
    assert stage.loss(0)[1]["apart"] > 1e-4


def test_of_several_wordings_the_worst_answered_counts() -> None:
    rows, blocks = torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([1, 1, 2, 3, 1, 2])
    loss = torch.tensor([1.0, 3.0, 5.0, 0.5, 0.25, 0.75], requires_grad=True)
    answers = AnswerLogits(torch.zeros(6, 2), torch.zeros(6, dtype=torch.long), rows, blocks)
    # Blocks 1 (mean 2) and 2 (5) of the first row are one question, block 3 another; of the second each one.
    worst = _of_the_worst(loss, answers, [[0, 0, 1], [0, 1]])
    assert worst.item() == pytest.approx((5.0 + 0.5 + 0.25 + 0.75) / 4)
    worst.backward()  # type: ignore[no-untyped-call]
    assert loss.grad is not None
    assert loss.grad.tolist() == pytest.approx([0.0, 0.0, 0.25, 0.25, 0.25, 0.25])


def test_worst_of_one_is_the_mean_over_questions(
    folders: dict[str, Path], clips: EncodedClips[SoundstageSplit]
) -> None:
    stage = Steadying(Link.load(folders["model"]), clips, small("worst").training, seed=3)
    logits, targets = torch.randn(3, 5), torch.tensor([1, 2, 3])
    loss = F.cross_entropy(logits, targets, reduction="none")
    answers = AnswerLogits(logits, targets, torch.tensor([0, 0, 1]), torch.tensor([1, 2, 1]))
    assert _of_the_worst(loss, answers, [[0, 1], [0]]).item() == pytest.approx(loss.mean().item())
    twice = [stage._asked_twice(shown) for shown in stage.shown(0)]
    for each in twice:
        assert max(each.row.blocks) == max(each.plain.blocks) == len(each.questions)
        assert len(set(each.questions)) < len(each.questions)


def test_a_run_gives_a_model_whose_devices_need_nothing_new(folders: dict[str, Path]) -> None:
    out = folders["runs"] / "worst"
    run = SteadyingRun(folders["model"], folders["clips"], out, small("worst"), seed=1)
    assert run.all() == out
    before, after = Link.load(folders["model"]), dict(Link.load(out).named_parameters())
    moved = {name for name, each in before.named_parameters() if not torch.equal(each, after[name])}
    assert moved
    assert all("lora_" in name for name in moved)
    for name in ("manifest.json", "text.onnx"):
        assert (folders["model"] / "bundle" / name).read_bytes() == (out / "bundle" / name).read_bytes()
    assert not (out / CALIBRATION).exists()
    record = json.loads((out / RECORD).read_text())
    assert (record["begun_at"], record["stages"]["wordings"]["steps"]) == ("c", 2)
    assert record["command"] == "edge-server train wordings --seed 1 --model model --way worst --share 1"

    half = replace(run, share=0.5).all()
    between = dict(Link.load(half).named_parameters())
    name = sorted(moved)[0]
    began = dict(before.named_parameters())[name]
    assert torch.allclose(between[name], (began + after[name]) / 2, atol=1e-7)
    (run.directory / "wordings" / "done.json").unlink()
    assert torch.equal(dict(Link.load(run.all()).named_parameters())[name], after[name])
    with pytest.raises(ModelError, match="choose another folder"):
        replace(run, seed=2).all()


def test_the_command_names_what_it_lacks(folders: dict[str, Path]) -> None:
    invoke = CliRunner().invoke
    missing = invoke(train_app, ["wordings", "--model", str(folders["model"])])
    assert missing.exit_code == 2
    assert "needs --model and --out" in missing.output
    out = ["--out", str(folders["runs"] / "other")]
    unknown = invoke(train_app, ["wordings", "--model", str(folders["model"]), *out, "--way", "louder"])
    assert unknown.exit_code == 2
    assert "'louder'" in unknown.output


def test_validation_is_asked_in_wordings_of_its_own(folders: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    options = ["--data", str(folders["clips"]), "--split", "val", "--wordings", "--questions", "6"]
    asked = [str(folders["model"]), *options, "--token-length", "4", "--out", str(out)]
    result = CliRunner().invoke(evaluate_app, asked)
    assert result.exit_code == 0, result.output
    found = json.loads(out.read_text())
    assert [row["wording"] for row in found["rows"]] == ["plain", *VALIDATION]
    lost = {row["wording"]: row["lost"] for row in found["rows"]}
    assert found["most_lost"] == max(lost[name] for name in VALIDATION if name != LEARNED)
