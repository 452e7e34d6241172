"""Each stage moves exactly what it says, and a whole run of a recipe gives a model that can be served."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from device_agent.media.clip import Clip
from device_agent.transmitter import Transmitter
from edge_server.data.soundstage.dataset import generate
from edge_server.data.soundstage.scene import sample_scene
from edge_server.data.soundstage.wordings import HELD_OUT
from edge_server.engine.calibration import read_calibration
from edge_server.errors import DatasetError, ModelError
from edge_server.evaluation.accuracy import without_lora
from edge_server.evaluation.cli import app as evaluate_app
from edge_server.export.bundle import export_bundle
from edge_server.model.link import Link
from edge_server.model.tokenizer import EOS_ID, encode
from edge_server.training.alignment import Alignment
from edge_server.training.card import STAGES
from edge_server.training.cli import app as train_app
from edge_server.training.clips import EncodedClips
from edge_server.training.finetune import Finetune
from edge_server.training.losses import IGNORE
from edge_server.training.pretrain_foundation import InductionWarmup, WorldText
from edge_server.training.recipes import smoke
from edge_server.training.rewording import (
    UNSURE,
    Asking,
    RewordedClips,
    RewordedText,
    extended,
    wording_words,
)
from edge_server.training.run import Run
from edge_server.training.systems import NESTED, Budget, rounds_systems
from edge_server.training.teacher_forcing import Row, answer_loss


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("soundstage")
    recipe = smoke()
    for split, clips in (("train", recipe.train_clips), ("val", recipe.val_clips), ("test", 4)):
        generate(folder, split, clips, seed=1, workers=1)  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A smoke run whose pretrainings are done."""
    run = Run(smoke(), 1, tmp_path_factory.mktemp("run"), data, jobs=1)
    for part in ("foundation", "visual", "audio"):
        run.pretrain(part)
    return run


@pytest.fixture
def clips(run: Run) -> EncodedClips:
    return run.encoded(run.pretrained_link())


def moved(link: nn.Module, loss: Tensor) -> set[str]:
    """Parameters that a loss has a gradient for."""
    loss.backward()  # type: ignore[no-untyped-call]
    return {
        name for name, p in link.named_parameters() if p.grad is not None and bool(p.grad.abs().sum() > 0)
    }


def rooms(names: set[str]) -> set[str]:
    return {
        ".".join(name.split(".")[:2]) if name.startswith(("heads", "receivers")) else name.split(".")[0]
        for name in names
    }


LINK = {"heads.visual", "heads.audio", "receivers.visual", "receivers.audio", "text_head", "text_receiver"}


def test_alignment_moves_heads_and_receivers_only(run: Run, clips: EncodedClips) -> None:
    link = run.pretrained_link()
    stage = Alignment(link, clips, run.recipe.alignment, seed=1)
    # The SNR's network starts with zero weights in its last layer, so the one before it has no gradient yet.
    names = moved(link, stage.loss(0)[0])
    assert rooms(names) == LINK
    assert names <= set(stage.trainable())


def test_finetune_moves_lora_heads_and_receivers_only(run: Run, clips: EncodedClips) -> None:
    link = run.pretrained_link()
    stage = Finetune(link, clips, run.recipe.finetune, seed=1)
    for parameter in link.lora_parameters().values():
        nn.init.normal_(parameter, std=0.1)  # B starts as zero, and A without gradient
    names: set[str] = set()
    for step in range(6):  # missing modalities and analog questions come and go
        names |= moved(link, stage.loss(step)[0])
    trainable = {id(p) for p in stage.trainable().values()}
    assert {name for name, p in link.named_parameters() if id(p) in trainable} >= names
    assert {name for name in names if name.startswith("foundation")} == {
        f"foundation.{name}" for name in link.lora_parameters()
    }
    assert rooms(names) - {"foundation"} == LINK


def test_a_nested_system_sends_prefixes_of_its_longest_block_to_the_bit(
    run: Run, clips: EncodedClips, tmp_path: Path
) -> None:
    """Trained here over random prefixes, exported, and run as a device does."""
    recipe = rounds_systems(run.recipe, Budget())[NESTED]
    link = replace(run, recipe=recipe, pretrained=run.directory).pretrained_link()
    stage = Finetune(link, clips, recipe.finetune, seed=1)
    before = {name: each.detach().clone() for name, each in link.heads.named_parameters()}
    optimiser = torch.optim.Adam(stage.trainable().values(), lr=1e-2)
    for step in range(3):
        optimiser.zero_grad()
        stage.loss(step)[0].backward()
        optimiser.step()
    assert any(not torch.equal(each, before[name]) for name, each in link.heads.named_parameters())
    exported = export_bundle(link.requires_grad_(False), tmp_path / "bundle", commit="test")
    assert exported.bundle.manifest.nested
    transmitter, rng = Transmitter(exported.bundle), np.random.default_rng(0)
    frames = rng.integers(0, 256, (8, 72, 120, 3), dtype=np.uint8)
    clip = Clip(frames, rng.normal(0, 0.1, 64_000).astype(np.float32))
    longest = transmitter.encode(clip, 16).tokens
    for length in (1, 4, 8):
        for modality, x_TC in transmitter.encode(clip, length).tokens.items():
            np.testing.assert_array_equal(x_TC, longest[modality][:length])


def test_pretraining_moves_all_of_the_foundation(run: Run) -> None:
    link, tokenizer, training = run.pretrained_link(), run.tokenizer(), run.recipe.foundation_training
    assert isinstance(link.foundation, nn.Module)
    for stage in (
        WorldText(link.foundation, tokenizer, training, 1),  # type: ignore[arg-type]
        InductionWarmup(link.foundation, range(20, 60), training, 1),  # type: ignore[arg-type]
    ):
        link.foundation.zero_grad()
        names = moved(link.foundation, stage.loss(0)[0])
        # A key's bias shifts all scores of a query alike where positions do not turn it: no gradient there.
        assert {n for n in stage.trainable() if n not in names} <= {
            n for n in stage.trainable() if n.endswith("k_proj.bias")
        }


def test_rewording_moves_the_foundation_on_text_and_the_link_on_clips(run: Run, clips: EncodedClips) -> None:
    assert run.recipe.rewording is not None
    before = run.pretrained_link()
    before.add_lora()
    words = before.tokenizer.get_vocab_size()
    link = extended(before, wording_words())
    assert all(len(encode(link.tokenizer, word)) == 1 for word in wording_words())
    assert link.embedding.num_embeddings == link.tokenizer.get_vocab_size() > words
    stage = RewordedClips(link, clips, run.recipe.rewording, seed=1)
    for parameter in link.lora_parameters().values():
        nn.init.normal_(parameter, std=0.1)
    names: set[str] = set()
    for step in range(6):
        names |= moved(link, stage.loss(step)[0])
    lora = {f"foundation.{name}" for name in link.lora_parameters()}
    assert {name for name in names if name.startswith("foundation")} == lora
    assert rooms(names) - {"foundation"} == LINK
    link.zero_grad()
    text = RewordedText(without_lora(link), run.recipe.rewording, seed=1)
    assert rooms(moved(text.link, text.loss(0)[0])) == {"foundation"}


def test_what_cannot_be_known_is_learned_as_not_sure(run: Run) -> None:
    assert run.recipe.rewording is not None
    asking = Asking(run.recipe.rewording)
    rng = np.random.default_rng(1)
    scenes = [sample_scene(rng) for _ in range(30)]
    blind = [pair for scene in scenes for pair in asking.pairs(scene, frozenset(), rng)]
    assert {answer for _, answer in blind} == {UNSURE}
    sighted = [pair for scene in scenes for pair in asking.pairs(scene, frozenset({"visual", "audio"}), rng)]
    share = sum(answer == UNSURE for _, answer in sighted) / len(sighted)
    assert 0.08 < share < 0.25
    deaf = [pair for scene in scenes for pair in asking.pairs(scene, frozenset({"visual"}), rng)]
    assert share < sum(answer == UNSURE for _, answer in deaf) / len(deaf) < 1.0


def test_steps_follow_from_their_number(run: Run, clips: EncodedClips) -> None:
    a, b = (Alignment(run.pretrained_link(), clips, run.recipe.alignment, seed=1) for _ in range(2))
    torch.manual_seed(1)
    links = [a.link, b.link]
    links[1].load_state_dict(links[0].state_dict())
    assert a.loss(5)[0].item() == b.loss(5)[0].item()
    assert a.loss(5)[0].item() != a.loss(6)[0].item()


def test_encoders_see_in_training_what_they_see_when_evaluated(run: Run, clips: EncodedClips) -> None:
    link = run.pretrained_link()
    for slot in ("visual", "audio"):
        fresh = clips.split.encode(link, slot, 0, 3)
        torch.testing.assert_close(clips.take(slot, np.arange(3)), fresh, atol=5e-3, rtol=5e-3)


def test_only_answers_are_learned_and_padding_is_not(run: Run) -> None:
    link = run.pretrained_link()
    rows = []
    for words, answer in (([20, 21], [30]), ([20, 21, 22, 23, 24], [31, 32])):
        row = Row.about({"visual": words})
        row.ask([40, 41], answer)
        assert [label for label in row.labels if label != IGNORE] == [*answer, EOS_ID]
        rows.append(row)
    one, other, both = (answer_loss(link, part)[0].item() for part in ([rows[0]], [rows[1]], rows))
    assert both == pytest.approx((2 * one + 3 * other) / 5, rel=1e-5)


def test_a_run_gives_a_model_that_is_evaluated(run: Run, data: Path, tmp_path: Path) -> None:
    folder = run.join()
    assert Link.load(folder).config.name == "smoke"
    made = json.loads((folder / "training.json").read_text())
    assert (made["command"], made["seed"]) == ("edge-server train smoke --seed 1", 1)
    assert set(made["stages"]) == set(STAGES)
    assert made["data"]["clips"] == smoke().train_clips
    card = (folder / "README.md").read_text()
    assert made["command"] in card
    assert made["commit"] in card
    out = tmp_path / "report.json"
    result = CliRunner().invoke(
        evaluate_app,
        [
            str(folder),
            "--data",
            str(data),
            "--snr-db",
            "10",
            "--snr-db",
            "-10",
            "--token-length",
            "4",
            "--out",
            str(out),
        ],
    )
    assert result.exit_code == 0, result.output
    report = json.loads(out.read_text())
    assert [row["snr_db"] for row in report["results"]] == [10.0, -10.0]
    assert report["text_oracle"]["questions"] == report["results"][0]["questions"] > 10
    assert set(report) >= {"blind_prior", "commit", "seed", "channel"}
    assert "blind prior" in result.output


def test_a_run_goes_on_from_a_model_without_rewording(run: Run, data: Path, tmp_path: Path) -> None:
    plain = Run(replace(run.recipe, rewording=None), 1, tmp_path / "plain", data, 1, pretrained=run.directory)
    begun = plain.join()
    record = json.loads((begun / "training.json").read_text())
    assert "reworded-text" not in record["stages"]
    record["commit"] = "of-then"
    (begun / "training.json").write_text(json.dumps(record))
    more = Run(run.recipe, 1, tmp_path / "more", data, 1)
    made = json.loads((more.reword(begun) / "training.json").read_text())
    assert set(made["stages"]) == set(STAGES)
    assert (made["begun_at"], made["command"]) == ("of-then", "edge-server train smoke --seed 1")
    assert "of-then" in (more.model / "README.md").read_text()
    with pytest.raises(ModelError, match="no rewording"):
        more.reword(more.model)


def test_a_model_is_calibrated_and_judged(run: Run, data: Path, tmp_path: Path) -> None:
    folder, out = run.join(), tmp_path / "found.json"
    common = [str(folder), "--data", str(data), "--questions", "30", "--token-length", "4"]

    def evaluated(*options: str) -> None:
        result = CliRunner().invoke(evaluate_app, [*common, *options])
        assert result.exit_code == 0, (result.output, result.exception)

    uncalibrated = CliRunner().invoke(evaluate_app, [*common, "--out-of-domain"])
    assert isinstance(uncalibrated.exception, ModelError)
    evaluated("--calibrate", "--snr-db", "10", "--snr-db", "0")
    fitted = read_calibration(folder / "calibration.json")
    assert fitted is not None
    assert fitted.longest >= 1
    evaluated("--wordings", "--out", str(out))
    found = json.loads(out.read_text())
    assert [row["wording"] for row in found["rows"]] == ["plain", *HELD_OUT]
    assert 10 < found["questions"]["held out"] <= 30
    evaluated("--out-of-domain", "--snr-db", "10", "--out", str(out))
    found = json.loads(out.read_text())
    assert set(found["kinds"]) > {"other languages", "black picture", "sirens", "missing media"}
    assert [row["reworded"] for row in found["in_domain"]] == [False, True]
    assert 0.0 <= found["expected_calibration_error"] <= 1.0


def test_stages_need_what_comes_before_them(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="foundation is not pretrained"):
        Run(smoke(), 1, tmp_path, data, 1).join()
    with pytest.raises(DatasetError, match="this run needs 24 of seed 2"):
        Run(smoke(), 2, tmp_path, data, 1).make_data()


def test_the_train_command_refuses_what_it_does_not_know(data: Path, tmp_path: Path) -> None:
    unknown = CliRunner().invoke(train_app, ["larger"])
    assert unknown.exit_code == 2
    assert "soundstage-small" in unknown.output
    arguments = ["smoke", "--runs", str(tmp_path), "--data", str(data), "--part", "data"]
    assert CliRunner().invoke(train_app, arguments).exit_code == 0
    other_seed = CliRunner().invoke(train_app, [*arguments, "--seed", "2"])
    assert other_seed.exit_code == 2
    # The message is framed, and broken where a line of the frame ends.
    assert "holds a run of" in " ".join(other_seed.output.replace("│", " ").split())
