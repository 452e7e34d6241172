"""What the device pays: for its encoders in fp32, int8 and torch, and for its tokens in each payload dtype.

    python -m tests.benchmarks.device_cost --out docs/results/device_cost.json

Graph size, memory (each in a process of its own), encode time (in turns, one thread), and accuracy on the
test split with the variant's own tokens through the same channel realisations and the payload codec. Of a
payload, the bytes of a question's whole frame. An int8 bundle is made on the spot where the model has none.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from device_agent.bench import Spread
from device_agent.bundle.bundle import Bundle, load_bundle
from device_agent.channel import ChannelConfig
from device_agent.media.loading import clip_from_file
from edge_server.data.soundstage.dataset import Split, load_split
from edge_server.data.soundstage.device_clip import device_clips
from edge_server.evaluation.accuracy import Setting
from edge_server.export.quantization import CALIBRATION_CLIPS, CHECK_CLIPS, quantise_bundle
from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.model.modality import SLOTS
from edge_server.study.teacher_forced import Receive, TeacherForcedQuestions, receive_blocks
from protos import payload
from protos.names import DTYPES
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.benchmarks.device_encoders import (
    Encoders,
    GraphEncoders,
    Tokens,
    TorchEncoders,
    encode_all,
    time_encoders,
)
from tests.benchmarks.device_memory import Memory, Runtime, measure_elsewhere
from tests.benchmarks.device_report import machine, show

CLIP = Path("deploy/demo/clips/soundstage_test_000001.mp4")
TOKEN_LENGTH = 16
SNRS_DB = (10.0, 0.0)
MODALITIES = {"visual": "video", "audio": "audio"}
#: Graphs and payloads whose accuracy is measured.
COMBINATIONS = (
    ("torch", "float32"),
    *(("fp32", dtype) for dtype in DTYPES),
    *(("int8", dtype) for dtype in ("float32", "int8", "int4")),
)
#: What int8 may cost and has to save, against fp32: accuracy in points, encode time and bytes as ratios.
MOST_POINTS, MOST_TIME, MOST_BYTES = 1.0, 0.6, 0.25


@dataclass(frozen=True)
class Effort:
    """How closely to look."""

    clips: int | None = None
    """Of the test split; None for all."""
    seeds: int = 3
    """Channel realisations of each clip."""
    repeats: int = 200
    """Encodings that are timed."""


def receive(link: Link, sent: Mapping[str, Tokens], dtype: str, snr_db: float, seed: int) -> Receive:
    """What receivers make of tokens that went over AWGN and then through the payload codec."""
    setting = Setting(ChannelConfig(model="awgn", snr_db=snr_db), TOKEN_LENGTH, seed)

    def received(clips: range) -> list[dict[str, Tensor]]:
        blocks = {slot: sent[slot][clips.start : clips.stop] for slot in SLOTS}
        return receive_blocks(
            link, blocks, clips, setting, lambda slot, x_TC: through_codec(x_TC, MODALITIES[slot], dtype)
        )

    return received


def through_codec(x_TC: Tokens, modality: str, dtype: str) -> Tokens:
    """A token block as the server reads it."""
    packed = payload.encode(x_TC, modality, dtype)
    return payload.decode(packed, max_token_length=x_TC.shape[0], channel_dim=x_TC.shape[1])


def measure_accuracy(
    link: Link, split: Split, sent: Mapping[str, Mapping[str, Tokens]], effort: Effort
) -> list[dict[str, Any]]:
    """Accuracy of every combination of graphs and payload at every SNR, each with the same channel seeds."""
    questions = TeacherForcedQuestions(split, effort.clips)
    rows = []
    for snr_db in SNRS_DB:
        for graphs, dtype in COMBINATIONS:
            accuracies = [
                questions.score(link, receive(link, sent[graphs], dtype, snr_db, seed)).accuracy
                for seed in range(effort.seeds)
            ]
            rows.append(
                {
                    "graphs": graphs,
                    "payload": dtype,
                    "snr_db": snr_db,
                    "accuracy": statistics.mean(accuracies),
                    "per_seed": accuracies,
                }
            )
    return rows


def measure_payloads(link: Link, split: Split, sent: Mapping[str, Tokens]) -> list[dict[str, Any]]:
    """Bytes of a question in each dtype: of its token values, and of its whole frame, mean over questions."""
    texts = {question.text for question in split.questions}
    ids = [tk.encode(link.tokenizer, text) for text in sorted(texts)]
    rows = []
    for dtype in DTYPES:
        report = pb.ChannelReport(
            model=pb.CHANNEL_MODEL_AWGN,
            fading=pb.FADING_BLOCK,
            effective_snr_db=SNRS_DB[0],
            channel_uses=sent["visual"][0].size // 2,
            airtime_s=1e-3,
        )
        blocks = [payload.encode(sent[slot][0], MODALITIES[slot], dtype, report) for slot in SLOTS]
        frames = [
            pb.UplinkFrame(
                session_id="s" * 24,
                bundle_hash="0" * 64,
                question=pb.Question(
                    request_id="0" * 32, payloads=blocks, question_ids=question, deadline_ms=30_000
                ),
            )
            for question in ids
        ]
        rows.append(
            {
                "dtype": dtype,
                "data_bytes": sum(len(block.data) for block in blocks),
                "frame_bytes": statistics.mean(frame.ByteSize() for frame in frames),
            }
        )
    return rows


def encoder_row(
    name: str, encoders: Encoders, memory: Memory, taken_s: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """What one variant of the encoders costs."""
    ratios = [mine / fp32 for mine, fp32 in zip(taken_s[name], taken_s["fp32"], strict=True)]
    return {
        "name": name,
        "size_bytes": encoders.sizes_bytes(),
        "memory": asdict(memory) | {"encoders_bytes": memory.encoders_bytes},
        "encode_s": asdict(Spread.of(taken_s[name])),
        "fastest_s": min(taken_s[name]),
        "encode_over_fp32": asdict(Spread.of(ratios)),
    }


def measure(model: Path, fp32: Bundle, int8: Bundle, split: Split, effort: Effort) -> dict[str, Any]:
    """The whole report."""
    link = Link.load(model)
    variants: dict[str, Encoders] = {
        "fp32": GraphEncoders(fp32),
        "int8": GraphEncoders(int8),
        "torch": TorchEncoders(link),
    }
    taken_s = time_encoders(
        variants, clip_from_file(CLIP, spec=fp32.media_spec()), TOKEN_LENGTH, effort.repeats
    )
    places: dict[str, tuple[Runtime, Path]] = {
        "fp32": ("graphs", fp32.folder),
        "int8": ("graphs", int8.folder),
        "torch": ("torch", model),
    }
    rows = [
        encoder_row(name, encoders, measure_elsewhere(*places[name]), taken_s)
        for name, encoders in variants.items()
    ]
    clips = range(len(split.frames) if effort.clips is None else min(effort.clips, len(split.frames)))
    sent = {
        name: encode_all(encoders, device_clips(split, clips), TOKEN_LENGTH)
        for name, encoders in variants.items()
    }
    payloads = measure_payloads(link, split, sent["fp32"])
    accuracy = measure_accuracy(link, split, sent, effort)
    return {
        "model": link.config.name,
        "bundles": {"fp32": fp32.hash, "int8": int8.hash},
        "machine": machine(),
        "token_length": TOKEN_LENGTH,
        "clips": len(clips),
        "repeats": effort.repeats,
        "encoders": rows,
        "payloads": payloads,
        "accuracy": accuracy,
        "int8_against_fp32": compare(rows, payloads, accuracy),
    }


def compare(
    encoders: Sequence[Mapping[str, Any]],
    payloads: Sequence[Mapping[str, Any]],
    accuracy: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """int8 graphs and int8 payload against fp32 graphs and float32 payload, beside what is asked of them."""
    by_name = {row["name"]: row for row in encoders}
    by_dtype = {row["dtype"]: row for row in payloads}
    at = {(row["graphs"], row["payload"], row["snr_db"]): row["accuracy"] for row in accuracy}
    graph_bytes = {name: sum(row["size_bytes"].values()) for name, row in by_name.items()}
    found = {
        "points_lost": {
            f"{snr_db:g}": 100 * (at["fp32", "float32", snr_db] - at["int8", "int8", snr_db])
            for snr_db in SNRS_DB
        },
        "encode_ratio": by_name["int8"]["encode_over_fp32"]["median"],
        "encode_ratio_to_torch": by_name["int8"]["encode_s"]["median"]
        / by_name["torch"]["encode_s"]["median"],
        "graph_bytes_ratio": graph_bytes["int8"] / graph_bytes["fp32"],
        "data_bytes_ratio": by_dtype["int8"]["data_bytes"] / by_dtype["float32"]["data_bytes"],
        "frame_bytes_ratio": by_dtype["int8"]["frame_bytes"] / by_dtype["float32"]["frame_bytes"],
    }
    return found | {
        "asked": {"points_lost": MOST_POINTS, "encode_ratio": MOST_TIME, "bytes_ratio": MOST_BYTES}
    }


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Measure what the device pays.")
    parser.add_argument("--model", type=Path, default=Path("deploy/models/soundstage-small"))
    parser.add_argument("--data", type=Path, default=Path("datasets/soundstage"))
    parser.add_argument("--quick", action="store_true", help="few clips, few repeats")
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    effort = Effort(clips=24, seeds=1, repeats=5) if options.quick else Effort()
    fp32 = load_bundle(options.model / "bundle")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.model / "bundle-int8"
        if folder.is_dir():
            int8 = load_bundle(folder)
        else:
            train = load_split(options.data, "train")
            count = min(CALIBRATION_CLIPS + CHECK_CLIPS, len(train.frames))
            int8 = quantise_bundle(
                fp32, list(device_clips(train, range(count))), Path(scratch, "int8")
            ).bundle
        report = measure(options.model, fp32, int8, load_split(options.data, "test"), effort)
    show(report, Console())
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
