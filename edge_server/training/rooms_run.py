"""``edge-server train rooms``: a model of one device learns to be asked about several at once.

    MODEL ─▶ rooms in words ─┐
    rooms ─▶ encoded views ──┼─▶ rooms ─▶ OUT, with MODEL's own device bundle
    clips ─▶ encoded clips ──┘

OUT is a model folder whose ``model.json`` says ``views``: one question may show several pictures and sounds.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from device_agent.bundle.bundle import load_bundle
from edge_server.data.soundstage.dataset import load_split
from edge_server.data.soundstage.room import VIEWS
from edge_server.data.soundstage.room_dataset import load_rooms
from edge_server.data.soundstage.room_questions import Knowable
from edge_server.export.canary import write_canaries
from edge_server.model.link import Link
from edge_server.model.provenance import current_commit
from edge_server.runtime.model_runner import ServedLink
from edge_server.training.card import Origin, read_record, write_record
from edge_server.training.clips import encode_clips
from edge_server.training.forward import UplinkTraining
from edge_server.training.loop import Schedule, run_stage
from edge_server.training.radio import RadioTraining
from edge_server.training.rewording import RewordingTraining
from edge_server.training.room_rows import Asking
from edge_server.training.room_words import RoomWords, RoomWordsTraining
from edge_server.training.rooms import EncodedRooms, Rooms, RoomTraining, encode_view
from edge_server.training.run_identity import ensure_identity
from edge_server.training.soundstage import SoundstageSplit

STAGE = "rooms"
WORDS = "room-words"
NAME = "soundstage-rooms"
STEPS = 1400
WORDS_STEPS = 2000
PICTURES_STEPS = 800


@dataclass(frozen=True)
class RoomRecipe:
    """What a run is told."""

    name: str
    """Of the model that comes out."""
    words: RoomWordsTraining
    """How it learns rooms in words first."""
    training: RoomTraining
    """How it then learns what comes through channels."""
    model: str = ""
    """Bundle hash of the model that it begins with."""


def soundstage_rooms(steps: int = STEPS) -> RoomRecipe:
    """On top of ``soundstage-small``: about an hour of one core."""
    uplink = UplinkTraining(RadioTraining())
    schedule = Schedule(steps, 6e-4, warmup_steps=30, log_every=10, checkpoint_every=50)
    clips = RewordingTraining(
        text=schedule,
        clips=schedule,
        polish=schedule,
        settle=schedule,
        uplink=uplink,
        batch_size=8,
        strangers=256,
    )
    in_words = Schedule(WORDS_STEPS, 1.5e-3, warmup_steps=30, log_every=10, checkpoint_every=50)
    odds: dict[Knowable, float] = {"both": 0.7, "one": 0.25, "guess": 0.05}
    words = RoomWordsTraining(in_words, Asking(10, odds), PICTURES_STEPS)
    return RoomRecipe(NAME, words, RoomTraining(schedule, uplink, clips))


@dataclass(frozen=True)
class RoomRun:
    """One run.

    Attributes:
        model: folder of the model to begin with.
        rooms: data set of rooms.
        clips: data set of clips of one device.
        out: folder of the model that comes out.
        told: every number of it.
        seed: everything random follows from it.
    """

    model: Path
    rooms: Path
    clips: Path
    out: Path
    told: RoomRecipe
    seed: int

    @property
    def directory(self) -> Path:
        """Where features, checkpoints and logs go: beside the model that comes out."""
        return self.out.with_name(f"{self.out.name}.run")

    @property
    def recipe(self) -> RoomRecipe:
        """Every number of the run, and what it begins with."""
        return replace(self.told, model=load_bundle(self.model / "bundle").hash)

    def all(self) -> Path:
        """Run everything that has not run yet; returns the model folder, ready to be served.

        Raises:
            ModelError: the model cannot be read, or the folder holds another run.
            DatasetError: a data set is not there.
        """
        ensure_identity(self)
        torch.manual_seed(self.seed)
        # Asked now: the checkout may move on before the run ends.
        steps = self.told.training.schedule.steps
        flags = f"--model {self.model.name}" + ("" if steps == STEPS else f" --steps {steps}")
        origin = Origin(STAGE, self.seed, current_commit(), flags, before=read_record(self.model))
        link = Link.load(self.model)
        link.merge_lora()
        link.config = replace(link.config, name=self.told.name, views=True)
        words = RoomWords(link, self.told.words, self.seed)
        run_stage(WORDS, words, self.told.words.schedule, self.directory / WORDS)
        rooms = self._rooms(link)
        split = SoundstageSplit(load_split(self.clips, "train"))
        clips = encode_clips(link, split, self.directory / "features" / "clips", "train")
        stage = Rooms(link, rooms, clips, self.told.training, self.seed)
        run_stage(STAGE, stage, self.told.training.schedule, self.directory / STAGE)
        return self._save(link.eval(), origin)

    def _rooms(self, link: Link) -> EncodedRooms:
        split = load_rooms(self.rooms, "train")
        folder = self.directory / "features" / "rooms"
        folder.mkdir(parents=True, exist_ok=True)
        for view in VIEWS:
            path = folder / f"{view}.npy"
            if not path.exists():
                partial = folder / f"{view}.partial.npy"
                np.save(partial, encode_view(link, split, view))
                partial.replace(path)
        features = {view: np.load(folder / f"{view}.npy", mmap_mode="r") for view in VIEWS}
        return EncodedRooms(features, split.rooms)

    def _save(self, link: Link, origin: Origin) -> Path:
        link.save(self.out)
        # Heads and encoders are as they were: devices go on with what they have.
        shutil.copytree(self.model / "bundle", self.out / "bundle", dirs_exist_ok=True)
        data = {
            name: json.loads((folder / "train" / "split.json").read_text())
            for name, folder in (("rooms", self.rooms), ("clips", self.clips))
        }
        stages = {name: self.directory / name for name in (WORDS, STAGE)}
        write_record(link, origin, data, stages, self.out)
        write_canaries(ServedLink(Link.load(self.out), load_bundle(self.out / "bundle").hash), self.out)
        return self.out
