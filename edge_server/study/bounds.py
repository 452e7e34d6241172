"""What frames a study's accuracies: the blind prior below, the text oracle above, and the shipped model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from device_agent.channel import ChannelConfig
from edge_server.data.soundstage.dataset import load_split
from edge_server.evaluation.accuracy import Evaluator, Setting
from edge_server.evaluation.held_out import HeldOut
from edge_server.model.link import Link
from edge_server.study.study import CHANNELS, SNRS_DB, Study
from edge_server.study.teacher_forced import TeacherForcedQuestions, over_channel
from edge_server.training.clips import encode_clips
from edge_server.training.soundstage import SoundstageSplit

#: Pilots per gain at which the shipped model is asked with estimated CSI.
PILOTS = (1, 2, 4, 8)


def bounds(study: Study, runs: Path, data: Path, records: Path) -> dict[str, Any]:
    """Blind prior and text oracle of the study's test clips; kept among the records."""
    run = study.tasks()[0].run(runs, data)
    kept = records / f"bounds-{study.test_clips}.json"
    # Older records have it under another name.
    for path in (kept, records / f"floors-{study.test_clips}.json"):
        if path.exists():
            found: dict[str, Any] = json.loads(path.read_text())
            return found
    split = load_split(data, "test")
    asked = sum(question.clip < study.test_clips for question in split.questions)
    evaluator = Evaluator(run.pretrained_link(), HeldOut.of_soundstage(split), asked)
    found = {
        "questions": asked,
        "blind_prior": evaluator.blind_prior(load_split(data, "val").questions).to_json(),
        "text_oracle": evaluator.text_oracle().to_json(),
    }
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(found, indent=2) + "\n")
    return found


def shipped(model: Path, data: Path, token_length: int) -> dict[str, Any]:
    """Accuracy of a model folder on the whole test split over all of figure A's channels, with perfect CSI.

    Args:
        model: its folder.
        data: the Soundstage data set.
        token_length: tokens per modality.
    """
    configs = [
        ChannelConfig(model=channel, fading=fading, snr_db=snr_db)
        for channel, fading in CHANNELS
        for snr_db in SNRS_DB
    ]
    return _over(model, data, token_length, configs)


def shipped_estimated(model: Path, data: Path, token_length: int) -> dict[str, Any]:
    """The same over Rayleigh block fading where the gain is estimated from pilots, beside perfect CSI.

    The model was trained with perfect CSI; this is what it loses where it does not have it.

    Args:
        model: its folder.
        data: the Soundstage data set.
        token_length: tokens per modality.
    """
    perfect = [ChannelConfig(model="rayleigh", snr_db=snr_db) for snr_db in SNRS_DB]
    estimated = [replace(config, csi="estimated", pilots=n) for n in PILOTS for config in perfect]
    return _over(model, data, token_length, [*perfect, *estimated])


def _over(model: Path, data: Path, token_length: int, configs: Sequence[ChannelConfig]) -> dict[str, Any]:
    """A row per channel: what it was, and the accuracy over it."""
    link = Link.load(model)
    link.merge_lora()
    split = load_split(data, "test")
    questions = TeacherForcedQuestions(split)
    rows = []
    # Not kept: the next model of this name has other encoders.
    with TemporaryDirectory() as scratch:
        clips = encode_clips(link, SoundstageSplit(split), Path(scratch), "test")
        for config in configs:
            score = questions.score(link, over_channel(link, clips.features, Setting(config, token_length)))
            where: dict[str, Any] = {
                "channel": config.model,
                "fading": config.fading,
                "snr_db": config.snr_db,
                "csi": config.csi,
                "pilots": config.pilots if config.csi == "estimated" else None,
            }
            rows.append({**where, "questions": score.asked.total(), "accuracy": score.accuracy})
    return {"model": link.config.name, "token_length": token_length, "rows": rows}
