"""Whether a model that names what is in files says that it is not sure where it cannot know.

Of a folder, every second file, from the first on, is what confidence is fitted on; the others, and pictures
and questions that nothing in them answers, are what it is judged on:

    photos ─┬─ every second ─▶ fit ─▶ MODEL/calibration.json
            └─ the others ───▶ how many are held back, how many of the right ones, how far confidence is off
    noise, landscapes, writing, icons; other languages, arithmetic, programs ─▶ how many are held back
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.table import Table

from device_agent.channel import ChannelConfig
from edge_server.data.soundstage.outsiders import HELD_OUT_PICTURES, HELD_OUT_QUESTIONS, Picture
from edge_server.engine.calibration import Calibration
from edge_server.evaluation.accuracy import Advance
from edge_server.evaluation.calibrate import MAY_LOSE, Answered, expected_error, fit
from edge_server.evaluation.named import QUESTIONS, Named, NamedFolder, is_named
from edge_server.weights.captions import NOT_SURE

EACH = 60
"""Questions of each kind from elsewhere."""
#: Rows and columns of a picture from elsewhere.
_SIZE = 240, 320
_ASKED = (QUESTIONS["visual"], "What is this?", "What do you see?", "What does the photo show?")


def to_fit_on(files: Sequence[Named]) -> Sequence[Named]:
    """Every second file."""
    return files[::2]


def to_judge_on(files: Sequence[Named]) -> Sequence[Named]:
    """The others."""
    return files[1::2]


def calibrate_named(
    ready: NamedFolder, channels: Sequence[ChannelConfig], token_length: int, seed: int, advance: Advance
) -> Calibration:
    """Fit a calibration to answers about files that are :func:`to_fit_on`.

    Args:
        ready: these files.
        channels: each of which counts alike.
        token_length: tokens of each file.
        seed: of the channels.
        advance: told of questions that were asked.
    """
    answered = [
        each for channel in channels for each in _answered(ready, channel, token_length, seed, advance)
    ]
    return replace(fit(answered, MAY_LOSE, NOT_SURE), media_only=True)


@dataclass(frozen=True)
class _Kind:
    name: str
    sent_NTC: npt.NDArray[np.float32]
    questions: list[str]


def judge_named(
    ready: NamedFolder,
    calibration: Calibration,
    channels: Sequence[ChannelConfig],
    token_length: int,
    seed: int,
    advance: Advance,
) -> dict[str, Any]:
    """What is held back of answers about files, and about what is from elsewhere; JSON.

    Args:
        ready: files that are :func:`to_judge_on`.
        calibration: to judge by.
        channels: for files; what is from elsewhere meets the first.
        token_length: tokens of each.
        seed: of channels and of all that is drawn.
        advance: told of questions that were asked.
    """
    found: dict[str, dict[str, Any]] = {}
    for kind in _kinds(ready, token_length, seed):
        said = ready.say(kind.sent_NTC, kind.questions, channels[0], seed, advance)
        held_back = [calibration.judge(each.text, each.logprobs, each.doubt).abstained for each in said]
        examples = [each.text for each, back in zip(said, held_back, strict=True) if not back]
        found[kind.name] = {
            "asked": len(said),
            "abstained": sum(held_back),
            "share": sum(held_back) / len(said),
            "of_its_own": sum(calibration.is_unsure(each.text) for each in said),
            "example": kind.questions[0],
            "told": examples[:5],
        }
    rows, confidences, rights = [], [], []
    for channel in channels:
        answered = _answered(ready, channel, token_length, seed, advance)
        judged = [calibration.judge(each.said.text, each.said.logprobs, each.said.doubt) for each in answered]
        kept = [a.right for a, j in zip(answered, judged, strict=True) if not j.abstained]
        right = np.asarray([float(each.right) for each in answered])
        confidence = np.asarray([1.0 if j.confidence is None else j.confidence for j in judged])
        lost = sum(a.right and j.abstained for a, j in zip(answered, judged, strict=True))
        rows.append(
            {
                "snr_db": channel.snr_db,
                "questions": len(answered),
                "accuracy": float(right.mean()),
                "abstained": 1 - len(kept) / len(answered),
                "right_answers_lost": lost / max(int(right.sum()), 1),
                "accuracy_of_the_others": sum(kept) / max(len(kept), 1),
            }
        )
        told = np.asarray([not j.abstained for j in judged])
        confidences.append(confidence[told])
        rights.append(right[told])
    asked = sum(each["asked"] for each in found.values())
    return {
        "calibration": asdict(calibration),
        "asked": asked,
        "abstained": sum(each["abstained"] for each in found.values()) / asked,
        "in_domain_lost": sum(row["abstained"] for row in rows) / len(rows),
        "expected_calibration_error": expected_error(np.concatenate(confidences), np.concatenate(rights)),
        "kinds": found,
        "in_domain": rows,
    }


def honesty_table(report: Mapping[str, Any]) -> Table:
    """The same, to be read."""
    table = Table(
        title=f"not sure: {report['abstained']:.1%} of {report['asked']} from elsewhere, "
        f"{report['in_domain_lost']:.1%} of the files; ECE {report['expected_calibration_error']:.3f}"
    )
    table.add_column("asked about")
    for heading in ("questions", "not sure", "right of the others"):
        table.add_column(heading, justify="right")
    for name, kind in report["kinds"].items():
        table.add_row(name, str(kind["asked"]), f"{kind['share']:.1%}", "")
    table.add_section()
    for row in report["in_domain"]:
        name = f"the files, {row['snr_db']:g} dB"
        others = f"{row['accuracy_of_the_others']:.1%}"
        table.add_row(name, str(row["questions"]), f"{row['abstained']:.1%}", others)
    return table


def _answered(
    ready: NamedFolder, channel: ChannelConfig, token_length: int, seed: int, advance: Advance
) -> list[Answered]:
    sent_NTC = ready.sent(token_length)
    said = ready.say(sent_NTC, [QUESTIONS[ready.slot]] * len(ready.files), channel, seed, advance)
    return [
        Answered(each, is_named(each.text, file.names)) for each, file in zip(said, ready.files, strict=True)
    ]


def _kinds(ready: NamedFolder, token_length: int, seed: int) -> Iterator[_Kind]:
    """Questions from elsewhere about the files; pictures from elsewhere, asked what they show."""
    files_NTC = ready.sent(token_length)
    for number, (name, draw) in enumerate(HELD_OUT_QUESTIONS.items()):
        rng = np.random.default_rng([seed, 4, number])
        about = rng.integers(len(files_NTC), size=EACH)
        yield _Kind(name, files_NTC[about], [draw(rng) for _ in range(EACH)])
    if ready.slot != "visual":
        return
    for number, (name, paint) in enumerate({**HELD_OUT_PICTURES, "noise": _noise}.items()):
        rng = np.random.default_rng([seed, 5, number])
        sent_NTC = _painted(ready, paint, token_length, rng)
        yield _Kind(name, sent_NTC, [_ASKED[int(rng.integers(len(_ASKED)))] for _ in range(EACH)])


def _noise(frames: int, height: int, width: int, rng: np.random.Generator) -> Picture:
    """Every pixel of any colour."""
    return rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def _painted(
    ready: NamedFolder,
    paint: Callable[[int, int, int, np.random.Generator], Picture],
    token_length: int,
    rng: np.random.Generator,
) -> npt.NDArray[np.float32]:
    encoder = ready.link.encoder(ready.slot)
    with torch.inference_mode():
        features = torch.cat(
            [encoder(encoder.front_end(torch.from_numpy(paint(1, *_SIZE, rng)))[None]) for _ in range(EACH)]
        )
        return np.asarray(ready.link.send(ready.slot, features, token_length).numpy())
