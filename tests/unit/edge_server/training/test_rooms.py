"""Learning rooms: foundation and receivers move, the device's part stays, and the model takes views."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from typer.testing import CliRunner

from edge_server.data.soundstage.dataset import generate
from edge_server.data.soundstage.room import VIEWS
from edge_server.data.soundstage.room_dataset import generate_rooms
from edge_server.evaluation.cli import app as evaluate_app
from edge_server.export.bundle import export_bundle
from edge_server.model.config import FoundationConfig, ReceiverConfig
from edge_server.model.description import LinkConfig
from edge_server.model.link import Link
from edge_server.training.card import RECORD
from edge_server.training.loop import Schedule
from edge_server.training.rooms_run import RoomRecipe, RoomRun, soundstage_rooms


def recipe() -> RoomRecipe:
    """The one that ships, for a few steps."""
    told = soundstage_rooms()
    short = Schedule(2, 1e-3, warmup_steps=1, log_every=1, checkpoint_every=1)
    clips = replace(told.training.clips, batch_size=2, questions=3, strangers=2)
    asking = replace(told.training.asking, questions=4)
    return replace(
        told,
        words=replace(told.words, schedule=short, batch_size=4, micro_batch_size=2),
        training=replace(told.training, schedule=short, clips=clips, batch_size=3, asking=asking),
    )


def link_of_one_device(tokenizer: Tokenizer) -> Link:
    """A small link that was never asked about several devices."""
    torch.manual_seed(0)
    config = LinkConfig(
        name="one-device",
        foundation=FoundationConfig(
            tokenizer.get_vocab_size(), hidden_size=32, layers=2, heads=2, intermediate_size=64
        ),
        receiver=ReceiverConfig(width=32, heads=2, query_layers=1, num_queries=4),
        channel_dim=16,
    )
    return Link(config, tokenizer)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, small_tokenizer: Tokenizer) -> dict[str, Path]:
    """A model of one device, and data sets of clips and rooms."""
    root = tmp_path_factory.mktemp("rooms")
    link = link_of_one_device(small_tokenizer)
    link.add_lora()
    link.save(root / "model")
    export_bundle(Link.load(root / "model"), root / "model" / "bundle", None)
    (root / "model" / RECORD).write_text(json.dumps({"commit": "c", "stages": {}}))
    generate(root / "clips", "train", 4, seed=1, workers=1)
    for split in ("train", "test"):
        generate_rooms(root / "rooms", split, 4, seed=1, workers=1)  # type: ignore[arg-type]
    return {"model": root / "model", "rooms": root / "rooms", "clips": root / "clips", "out": root / "out"}


def test_a_model_learns_rooms_and_devices_need_nothing_new(folders: dict[str, Path]) -> None:
    run = RoomRun(folders["model"], folders["rooms"], folders["clips"], folders["out"], recipe(), seed=1)
    assert run.all() == folders["out"]
    before, after = Link.load(folders["model"]), Link.load(folders["out"])
    assert (before.config.views, after.config.views) == (False, True)
    known = dict(before.named_parameters())
    moved = {
        name.split(".")[0]
        for name, parameter in after.named_parameters()
        if name in known and not torch.equal(known[name], parameter)
    }
    assert {"receivers"} <= moved <= {"receivers", "text_receiver", "foundation"}
    bundles = [(folders[name] / "bundle" / "manifest.json").read_bytes() for name in ("model", "out")]
    assert bundles[0] == bundles[1]
    record = json.loads((folders["out"] / RECORD).read_text())
    # What was asked for otherwise than by default is part of the command.
    assert record["command"] == "edge-server train rooms --seed 1 --model model --steps 2"
    stages = record["stages"]
    assert {name: stages[name]["steps"] for name in stages} == {"room-words": 2, "rooms": 2}

    out = folders["out"].parent / "found.json"
    asked = ["--rooms", str(folders["rooms"]), "--token-length", "4", "--questions", "6", "--out", str(out)]
    told = CliRunner().invoke(evaluate_app, [str(folders["out"]), *asked])
    assert told.exit_code == 0, told.output
    found = json.loads(out.read_text())
    assert found["questions"] == 6
    assert {"both", "first alone", "second alone", "first weak", "second weak"} <= set(found["accuracy"])
    refused = CliRunner().invoke(evaluate_app, [str(folders["model"]), *asked])
    assert refused.exit_code == 2
    assert "not asked about several devices" in refused.output


def test_a_run_that_was_cut_goes_on(folders: dict[str, Path], tmp_path: Path) -> None:
    run = RoomRun(folders["model"], folders["rooms"], folders["clips"], tmp_path / "m", recipe(), seed=1)
    run.all()
    first = Link.load(tmp_path / "m").receivers.state_dict()
    for stage in ("room-words", "rooms"):
        (run.directory / stage / "done.json").unlink()
    run.all()
    again = Link.load(tmp_path / "m").receivers.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert {path.stem for path in (run.directory / "features" / "rooms").glob("*.npy")} == set(VIEWS)
    assert np.load(run.directory / "features" / "rooms" / "front.npy").dtype == np.float16
