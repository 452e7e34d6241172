"""What a model of several devices answers that no device can, and what it lost of one device's questions.

    edge-server dataset rooms --out datasets/rooms --split train
    edge-server dataset rooms --out datasets/rooms --rooms 400 --split test
    edge-server train rooms --model deploy/models/soundstage-small --out runs/rooms
    python -m tests.benchmarks.scene_rooms runs/rooms --out docs/results/scene_rooms.json

Its accuracy on questions about one device is measured beside that of the model that it began with, on the
same questions over the same channels.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from device_agent.channel import ChannelConfig
from edge_server.data.soundstage.dataset import load_split
from edge_server.data.soundstage.room_dataset import load_rooms
from edge_server.evaluation.accuracy import Evaluator, Setting
from edge_server.evaluation.held_out import HeldOut
from edge_server.evaluation.rooms import RoomEvaluator, rooms_report
from edge_server.model.link import Link
from edge_server.model.provenance import current_commit
from edge_server.training.card import RECORD
from tests.benchmarks.device_report import machine

TWO_DEVICES = "Questions that need two devices, 10 dB; the best single device"
GRACEFUL = "One of two devices at -10 dB or missing, below the better single device"
"""As in ``promises/asked/scenes.toml``."""
_SNR_DB = 10.0
_TOKEN_LENGTH = 16
_LEAST, _LEAST_APART, _MOST_BELOW = 0.85, 25.0, 2.0


def one_device(model: Path, clips: Path) -> float:
    """Accuracy on questions about a clip of one device."""
    split = HeldOut.of_soundstage(load_split(clips, "test"))
    setting = Setting(ChannelConfig(model="awgn", snr_db=_SNR_DB), _TOKEN_LENGTH)
    return Evaluator(Link.load(model), split).through_channel(setting).accuracy


def promises(found: dict[str, Any]) -> list[dict[str, Any]]:
    """What was found of what was promised."""
    both, single = found["accuracy"]["both"], found["better_single_device"]
    below = max(found["points_below_better_single_device"].values())
    return [
        {
            "what": TWO_DEVICES,
            "measured": f"{both:.1%}; {100 * (both - single):.1f} points lower",
            "met": both >= _LEAST and 100 * (both - single) >= _LEAST_APART,
        },
        {"what": GRACEFUL, "measured": f"{below:.1f} points", "met": below <= _MOST_BELOW},
    ]


def main() -> None:
    """Measure, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--before", type=Path, default=Path("deploy/models/soundstage-small"))
    parser.add_argument("--rooms", type=Path, default=Path("datasets/rooms"))
    parser.add_argument("--clips", type=Path, default=Path("datasets/soundstage"))
    parser.add_argument("--questions", type=int, help="only the first so many")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    link = Link.load(arguments.model)
    evaluator = RoomEvaluator(
        link, load_rooms(arguments.rooms, "test"), _TOKEN_LENGTH, 0, arguments.questions
    )
    prior = load_rooms(arguments.rooms, "train").questions
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("questions", total=None)
        found = rooms_report(evaluator, prior, _SNR_DB, lambda done: bar.advance(task, done))
    before, after = (one_device(model, arguments.clips) for model in (arguments.before, arguments.model))
    report = {
        "command": "python -m tests.benchmarks.scene_rooms runs/rooms",
        "measures": [
            "edge_server/data/soundstage/room.py",
            "edge_server/data/soundstage/room_questions.py",
            "edge_server/training/room_rows.py",
            "edge_server/training/room_words.py",
            "edge_server/training/rooms.py",
            "edge_server/training/rooms_run.py",
            "edge_server/evaluation/rooms.py",
        ],
        "commit": current_commit(),
        "machine": machine(),
        "model": link.config.name,
        "token_length": _TOKEN_LENGTH,
        "channel": "awgn",
        "training": json.loads((arguments.model / RECORD).read_text()),
        **found,
        "one_device": {"before": before, "after": after, "points_lost": 100.0 * (before - after)},
        "promises": promises(found),
    }
    text = json.dumps(report, indent=2) + "\n"
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
