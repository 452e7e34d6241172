"""How probable the likeliest class is to ``open-small``'s encoder, of pictures of nothing and of photos.

    python -m tests.benchmarks.open_small_doubt --photos DIR --out docs/results/open_small_doubt.json

Pictures that show nothing are made up: those that other models of this project learn to be not sure about.
A class that is less probable than a level is told as a guess
(:class:`edge_server.model.published.config.LiteVisual`); what each level finds of them, what it costs photos,
and how many of the other photos have the right name, is the curve.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from device_agent.media.loading import clip_from_file
from device_agent.places import downloads, resolved_model
from edge_server.data.soundstage.outsiders import HELD_OUT_PICTURES, training_picture
from edge_server.evaluation.named import read_synsets
from edge_server.model.link import Link
from edge_server.model.provenance import current_commit
from edge_server.model.published.lite import LiteEncoder
from edge_server.weights.catalogue import SYNSETS

_COMMAND = "python -m tests.benchmarks.open_small_doubt --photos DIR"
_SHARE = 0.95
_MADE, _OF_EACH = 200, 60
_SIZE = 240, 320
_SEED = 11


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print or write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("open-small"), help="model folder")
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    encoder = Link.load(resolved_model(given.model)).encoder("visual")
    assert isinstance(encoder, LiteEncoder)
    rng = np.random.default_rng(_SEED)
    made = [_likeliest(encoder, training_picture(1, *_SIZE, rng))[0] for _ in range(_MADE)]
    below = float(np.quantile(made, _SHARE))
    used = encoder.config.doubted_below
    elsewhere = {
        name: float(np.mean([_likeliest(encoder, paint(1, *_SIZE, rng))[0] < used for _ in range(_OF_EACH)]))
        for name, paint in HELD_OUT_PICTURES.items()
    }
    synsets = read_synsets(downloads() / SYNSETS.name)
    seen = []
    for path in sorted(given.photos.glob("*.jpg")):
        frames = clip_from_file(path, kind="image").frames_THWC
        assert frames is not None
        probability, class_ = _likeliest(encoder, frames)
        seen.append((probability, synsets[class_] == path.stem.split("_", 1)[0]))
    probability_N, right_N = np.array([p for p, _ in seen]), np.array([r for _, r in seen])
    report: dict[str, Any] = {
        "command": _COMMAND,
        "commit": current_commit(),
        "made_up": _MADE,
        "finds_95_percent": below,
        "used": used,
        "elsewhere_doubted": elsewhere,
        "photos": len(seen),
        "curve": [
            {
                "below": each,
                "made_up_doubted": float(np.mean(np.array(made) < each)),
                "photos_doubted": float(np.mean(probability_N < each)),
                "right_of_the_others": float(right_N[probability_N >= each].mean()),
            }
            for each in sorted([*np.arange(0.05, 1.0, 0.05).round(2).tolist(), below])
        ],
    }
    text = json.dumps(report, indent=2) + "\n"
    print(text) if given.out is None else given.out.write_text(text)


@torch.inference_mode()
def _likeliest(encoder: LiteEncoder, frames: npt.NDArray[np.uint8]) -> tuple[float, int]:
    pixels = encoder.front_end(torch.from_numpy(np.ascontiguousarray(frames)))
    network = encoder.network
    likely_K = torch.softmax(network.logits(network.head(network.maps(pixels))), dim=-1)[0]
    return float(likely_K.max()), int(likely_K.argmax())


if __name__ == "__main__":
    main()
