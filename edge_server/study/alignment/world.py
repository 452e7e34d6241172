"""What all compared systems share: clips behind encoders, free captions, a foundation that reads these."""

from __future__ import annotations

import copy
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from edge_server.data.soundstage.dataset import SplitName, load_split
from edge_server.evaluation.accuracy import without_lora
from edge_server.model import tokenizer as tk
from edge_server.model.link import Link, Parts
from edge_server.study.alignment.plan import Plan
from edge_server.training.caption_splits import CaptionsAlone, FreelyCaptioned
from edge_server.training.clips import EncodedClips, encode_clips
from edge_server.training.loop import cpu_s_of, run_stage
from edge_server.training.modality import TRAINING
from edge_server.training.notes import Note, take_notes
from edge_server.training.reading import Reading, places
from edge_server.training.soundstage import SoundstageSplit, encode_split
from edge_server.training.teacher_forcing import Row, answer_logits


@dataclass(frozen=True)
class World:
    """Shared by all systems.

    Attributes:
        link: encoders, and the foundation that reads free captions; its heads and receivers are nobody's.
        clips: to train on.
        notes: what the foundation wrote down of the captions of the first so many clips.
        notes_cpu_s: processor time that it took [s].
        held_out: validation and test split.
        reading_cpu_s: processor time of the stage in which the foundation learned to read [s].
    """

    link: Link
    clips: EncodedClips[FreelyCaptioned]
    notes: tuple[Note, ...]
    notes_cpu_s: float
    held_out: dict[SplitName, EncodedClips[SoundstageSplit]]
    reading_cpu_s: float

    @classmethod
    def open(cls, model: Path, data: Path, scratch: Path, features: Path, plan: Plan) -> World:
        """Make what is not in ``scratch`` yet.

        Args:
            model: folder whose encoders and foundation are taken; its link is not.
            data: Soundstage with its three splits.
            scratch: where parts are kept.
            features: where clips behind the encoders are kept.
            plan: how much.

        Raises:
            DatasetError: a split is missing.
            ModelError: the folder cannot be read.
        """
        link = without_lora(Link.load(model))
        schedule = plan.reading.schedule
        run_stage("reading", Reading(link, plan.reading, plan.seed), schedule, scratch / "reading")
        link.requires_grad_(False)
        captioned = FreelyCaptioned.of(load_split(data, "train"), plan.seed)
        clips = encode_clips(link, captioned, features / "train", "train")
        names: tuple[SplitName, ...] = ("val", "test")
        held_out = {split: encode_split(link, data, split, features / split) for split in names}
        path = scratch / "notes.json"
        if not path.exists():
            begun_s = time.process_time()
            found = take_notes(link, captioned.captions[: plan.noted_clips], 2 * sum(places().values()))
            told = {
                "cpu_s": time.process_time() - begun_s,
                "notes": [[list(n.words), list(n.sure)] for n in found],
            }
            path.write_text(json.dumps(told))
        told = json.loads(path.read_text())
        notes = tuple(Note(tuple(words), tuple(sure)) for words, sure in told["notes"])
        return cls(link, clips, notes, told["cpu_s"], held_out, cpu_s_of(scratch / "reading"))

    def fresh(self, seed: int) -> Link:
        """A link with new heads and receivers, and a foundation of its own to put a LoRA into."""
        torch.manual_seed(seed)
        foundation = self.link.foundation
        assert isinstance(foundation, PreTrainedModel)  # noqa: S101 - it has no LoRA
        encoders = {slot: self.link.encoder(slot) for slot in self.link.slots}
        return Link(self.link.config, self.link.tokenizer, Parts(encoders, copy.deepcopy(foundation)))

    def captions_alone(self, least_sure: float | None) -> EncodedClips[CaptionsAlone]:
        """What an alignment without labels sees.

        Args:
            least_sure: of words of notes; None: no notes.
        """
        captioned = self.clips.split
        if least_sure is None:
            return EncodedClips(self.clips.features, CaptionsAlone(captioned))
        by_slot = [note.by_slot(places(), least_sure) for note in self.notes]
        return EncodedClips(self.clips.features, CaptionsAlone(captioned, by_slot, places()))


def reading_told(world: World, plan: Plan) -> dict[str, Any]:
    """How well the foundation reads: questions about free captions, and words of notes, beside the truth."""
    split = world.clips.split
    wrote = kept = right = kept_right = 0
    for clip, note in enumerate(world.notes):
        by_slot, sure = note.by_slot(places(), 0.0), note.by_slot(places(), plan.least_sure)
        for slot in places():
            truth = TRAINING[slot].dictated(split.split.scenes[clip])
            for said, trusted, true in zip(by_slot[slot], sure[slot], truth, strict=True):
                wrote += 1
                right += said == true
                kept += bool(trusted)
                kept_right += trusted == true
    return {
        "steps": plan.reading.schedule.steps,
        "scenes": plan.reading.schedule.steps * plan.reading.batch_size,
        "cpu_s": world.reading_cpu_s,
        "answered_from_captions": _answered(world, plan),
        "notes": {
            "clips": len(world.notes),
            "cpu_s": world.notes_cpu_s,
            "words_right": right / max(wrote, 1),
            "words_kept": kept / max(wrote, 1),
            "kept_words_right": kept_right / max(kept, 1),
        },
    }


@torch.inference_mode()
def _answered(world: World, plan: Plan) -> float:
    """Share of the validation split's questions that the foundation answers from free captions as text."""
    split = world.held_out["val"].split.split
    captioned = FreelyCaptioned.of(split, plan.seed + 1)
    link, rows = world.link, []
    for clip in range(min(plan.val_clips, len(captioned))):
        row = Row.about({}, link.special, tk.encode(link.tokenizer, captioned.captions[clip]))
        for question in (q for q in split.questions if q.clip == clip):
            row.ask(tk.encode(link.tokenizer, question.text), tk.encode(link.tokenizer, question.answer))
        rows.append(row)
    right = asked = 0
    for begin in range(0, len(rows), 32):
        answers = answer_logits(link, rows[begin : begin + 32])
        wrong = answers.logits_KV.argmax(-1) != answers.targets_K
        named = list(zip(answers.rows_K.tolist(), answers.blocks_K.tolist(), strict=True))
        failed = {each for each, bad in zip(named, wrong.tolist(), strict=True) if bad}
        asked += len(set(named))
        right += len(set(named)) - len(failed)
    return right / max(asked, 1)
