"""Ways to make ``open-small``'s picture encoder small: what each weighs, and whether it says the same.

    python -m tests.benchmarks.int8_ways --photos DIR --out docs/results/open_small_int8.json

Each way makes one graph of the fp32 bundle's, shown the same photos; nothing is fitted to these. *Static*
rounds activations too, whose ranges come from made-up pictures; *weights* rounds weights alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

from device_agent.bundle.bundle import Bundle, load_bundle
from device_agent.media.loading import clip_from_file
from device_agent.places import resolved_model
from edge_server.export.halves import store_halves, widened
from edge_server.export.made_media import made_clips
from edge_server.export.narrow import narrow
from edge_server.export.quantization import _Media, _quietly, _worth_quantising
from edge_server.model.link import Link
from edge_server.model.memory import MemoryReceiver
from edge_server.model.provenance import current_commit
from tests.benchmarks.device_report import machine

_COMMAND = "python -m tests.benchmarks.int8_ways --photos DIR"
_TOKEN_LENGTH = 16
_CLIPS = 12
_TIMED = 20
_LARGE = 100_000

Way = Callable[[Path, Path], None]
Frames = npt.NDArray[np.uint8]


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print or write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("open-small"), help="model folder")
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--most", type=int, help="so many photos")
    parser.add_argument("--only", help="ways whose names hold this")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    model = resolved_model(given.model)
    bundle, link = load_bundle(model / "bundle"), Link.load(model)
    photos = sorted(given.photos.glob("*.jpg"))[: given.most]
    frames = [_frames(bundle, path) for path in photos]
    assert bundle.manifest.transmitters.visual is not None
    graph = bundle.folder / bundle.manifest.transmitters.visual.graph
    exact = _things(link, graph, frames)
    ways = {name: way for name, way in _ways().items() if given.only is None or given.only in name}
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, (name, way) in enumerate(ways.items()):
            made = Path(scratch, f"{number}.onnx")
            way(graph, made)
            found = _things(link, made, frames)
            same = (found == exact).mean(axis=0)
            row = {
                "way": name,
                "graph_bytes": made.stat().st_size,
                "thing": float(same[0]),
                "colour": float(same[1]),
                "side": float(same[2]),
                "encode_s": _median_s(made, frames[:_TIMED]),
            }
            print(json.dumps(row), flush=True)
            rows.append(row)
    report = {
        "command": _COMMAND,
        "commit": current_commit(),
        "machine": machine(),
        "photos": len(photos),
        "fp32": {"graph_bytes": graph.stat().st_size, "encode_s": _median_s(graph, frames[:_TIMED])},
        "ways": rows,
    }
    if given.out is not None:
        given.out.write_text(json.dumps(report, indent=2) + "\n")


def _ways() -> dict[str, Way]:
    minmax, percentile = CalibrationMethod.MinMax, CalibrationMethod.Percentile
    return {
        "static, weights of 7 bits, ranges from least to most": partial(_static, minmax, True, ()),
        "static, weights of 8 bits, ranges from least to most": partial(_static, minmax, False, ()),
        "static, weights of 8 bits, ranges of all but a few": partial(_static, percentile, False, ()),
        "static, weights of 8 bits, first convolutions and last products exact": partial(
            _static, minmax, False, ("_conv_stem", "_blocks.0", "_conv_head", "_fc", "Gemm")
        ),
        "static, weights of 8 bits, what no clipped activation follows exact": partial(
            _static, minmax, False, ("_project_conv", "_fc", "Gemm")
        ),
        "weights of 8 bits": partial(_weights, lambda size: 8),
        "weights of 6 bits where there are many, 8 elsewhere": partial(
            _weights, lambda size: 6 if size >= _LARGE else 8
        ),
        "weights of 6 bits": partial(_weights, lambda size: 6),
        "weights of 4 bits where there are many, 8 elsewhere": partial(
            _weights, lambda size: 4 if size >= _LARGE else 8
        ),
        "weights of 4 bits in the classifier, 8 elsewhere": partial(
            _weights, lambda size: 4 if size >= 10 * _LARGE else 8
        ),
        "weights of 6 bits in the classifier, 8 elsewhere": partial(
            _weights, lambda size: 6 if size >= 10 * _LARGE else 8
        ),
    }


def _static(
    method: CalibrationMethod, reduce_range: bool, exact: Sequence[str], source: Path, target: Path
) -> None:
    model = widened(source)
    nodes = [name for name in _worth_quantising(model.graph) if not any(each in name for each in exact)]
    media = [{"frames": clip.frames_THWC} for clip in made_clips(_CLIPS, 16_000, 16_000)]
    with _quietly():
        quantize_static(
            model,
            str(target),
            _Media([each for each in media if each["frames"] is not None]),  # type: ignore[misc]
            quant_format=QuantFormat.QOperator,
            calibrate_method=method,
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=nodes,
        )
    store_halves(target, exact=False)


def _weights(bits: Callable[[int], int], source: Path, target: Path) -> None:
    narrow(source, target, bits)


def _frames(bundle: Bundle, path: Path) -> Frames:
    frames = clip_from_file(path, spec=bundle.media_spec()).frames_THWC
    assert frames is not None
    return np.ascontiguousarray(frames)


def _session(graph: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _things(link: Link, graph: Path, photos: Sequence[Frames]) -> npt.NDArray[np.int64]:
    """Which thing of each field every photo is said to show, [N, fields]."""
    receiver, session = link.receiver(link.slots[0]), _session(graph)
    assert isinstance(receiver, MemoryReceiver)
    rows = []
    for frames in photos:
        (x_TC,) = session.run(["tokens"], _inputs(frames))
        with torch.inference_mode():
            rows.append([int(thing) for thing, _ in receiver.nearest(torch.from_numpy(x_TC))])
    return np.array(rows)


def _median_s(graph: Path, photos: Sequence[Frames]) -> float:
    session = _session(graph)
    took = []
    for frames in photos:
        inputs = _inputs(frames)
        session.run(None, inputs)
        started = time.perf_counter()
        session.run(None, inputs)
        took.append(time.perf_counter() - started)
    return statistics.median(took)


def _inputs(frames: Frames) -> dict[str, Any]:
    return {"frames": frames, "token_length": np.array([_TOKEN_LENGTH], np.int64)}


if __name__ == "__main__":
    main()
