"""A small bundle and real media files, made on the spot.

The graphs follow the bundle's inputs and outputs and run in ONNX Runtime; what they compute is a mean pool,
a fixed random matrix and power normalisation.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import onnx
import pytest
import tokenizers
from onnx import TensorProto, helper, numpy_helper
from tokenizers import models, pre_tokenizers

from device_agent.bundle.bundle import Bundle, write_manifest

CHANNEL_DIM = 8
TOKEN_LENGTHS = [1, 2, 4, 8, 16, 32]
WORDS = ["<unk>", "what", "plays", "on", "the", "left", "how", "many", "instruments", "?", "a", "violin"]
MODEL_OPTIONS = {"opset_imports": [helper.make_opsetid("", 17)], "ir_version": 8}


def _constant(name: str, value: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value), name)


def _normalised(flat: str) -> list[onnx.NodeProto]:
    """Nodes that turn ``flat`` [1, token_length * C] into ``tokens`` with a mean square of one half."""
    return [
        helper.make_node("Mul", [flat, flat], ["squares"]),
        helper.make_node("ReduceMean", ["squares"], ["mean_square"], keepdims=0),
        helper.make_node("Add", ["mean_square", "tiny"], ["safe"]),
        helper.make_node("Sqrt", ["safe"], ["rms"]),
        helper.make_node("Mul", [flat, "root_half"], ["scaled"]),
        helper.make_node("Div", ["scaled", "rms"], ["unit"]),
        helper.make_node("Reshape", ["unit", "shape"], ["tokens"]),
    ]


def _media_graph(name: str, dtype: int, dims: list[str | int], axes: list[int]) -> onnx.ModelProto:
    """Mean over ``axes``, plus its square for a second feature, times a matrix, cut to token_length."""
    rng = np.random.default_rng(len(name))
    features = 3 if len(axes) == 3 else 1
    nodes = [
        helper.make_node("Cast", [name], ["values"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["values"], ["pooled"], axes=axes, keepdims=0),
        helper.make_node("Reshape", ["pooled", "row"], ["features"]),
        helper.make_node("MatMul", ["features", "matrix"], ["mixed"]),
        helper.make_node("Add", ["mixed", "bias"], ["all"]),
        helper.make_node("Mul", ["token_length", "channel_dim"], ["stop"]),
        helper.make_node("Slice", ["all", "zero", "stop", "one"], ["flat"]),  # along axis 1
        *_normalised("flat"),
    ]
    width = max(TOKEN_LENGTHS) * CHANNEL_DIM
    constants = [
        _constant("row", np.array([1, features])),
        _constant("matrix", rng.standard_normal((features, width)).astype(np.float32)),
        _constant("bias", rng.standard_normal(width).astype(np.float32)),
        _constant("channel_dim", np.array([CHANNEL_DIM])),
        _constant("zero", np.array([0])),
        _constant("one", np.array([1])),
        _constant("shape", np.array([-1, CHANNEL_DIM])),
        _constant("tiny", np.float32(1e-20)),
        _constant("root_half", np.float32(0.5**0.5)),
    ]
    inputs = [
        helper.make_tensor_value_info(name, dtype, dims),
        helper.make_tensor_value_info("token_length", TensorProto.INT64, [1]),
    ]
    outputs = [helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["token_length_out", CHANNEL_DIM])]
    graph = helper.make_graph(nodes, name, inputs, outputs, constants)
    return helper.make_model(graph, **MODEL_OPTIONS)


def _text_graph() -> onnx.ModelProto:
    rng = np.random.default_rng(7)
    nodes = [helper.make_node("Gather", ["table", "token_ids"], ["flat"]), *_normalised("flat")]
    constants = [
        _constant("table", rng.standard_normal((len(WORDS), CHANNEL_DIM)).astype(np.float32)),
        _constant("shape", np.array([-1, CHANNEL_DIM])),
        _constant("tiny", np.float32(1e-20)),
        _constant("root_half", np.float32(0.5**0.5)),
    ]
    inputs = [helper.make_tensor_value_info("token_ids", TensorProto.INT64, ["L"])]
    outputs = [helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["L_out", CHANNEL_DIM])]
    return helper.make_model(helper.make_graph(nodes, "text", inputs, outputs, constants), **MODEL_OPTIONS)


MANIFEST_FIELDS: dict[str, Any] = {
    "format": 1,
    "name": "tiny",
    "channel_dim": CHANNEL_DIM,
    "token_lengths": TOKEN_LENGTHS,
    "transmitters": {
        "visual": {
            "graph": "visual.onnx",
            "modalities": ["image", "video"],
            "frame_rate_hz": 8.0,
            "window_s": 4.0,
            "max_frames": 32,
        },
        "audio": {
            "graph": "audio.onnx",
            "modalities": ["audio"],
            "sample_rate_hz": 16000,
            "window_s": 4.0,
        },
        "text": {"graph": "text.onnx", "modalities": ["text"], "max_token_length": 96},
    },
    "tokenizer": "tokenizer.json",
    "training_commit": "0" * 40,
}


@pytest.fixture(scope="session")
def make_bundle() -> Callable[[Path], Bundle]:
    """Writes the small bundle into a folder."""

    def make(folder: Path) -> Bundle:
        folder.mkdir(parents=True, exist_ok=True)
        visual = _media_graph("frames", TensorProto.UINT8, ["T", "H", "W", 3], [0, 1, 2])
        audio = _media_graph("pcm", TensorProto.FLOAT, ["S"], [0])
        for name, model in (("visual", visual), ("audio", audio), ("text", _text_graph())):
            onnx.checker.check_model(model)
            (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
        vocabulary = {word: number for number, word in enumerate(WORDS)}
        tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.add_special_tokens(["<unk>"])
        tokenizer.save(str(folder / "tokenizer.json"))
        return write_manifest(folder, MANIFEST_FIELDS)

    return make


def endless_graph(inputs: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
    """A graph whose one loop does not end."""
    matrix = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["a", "b"])
    body = helper.make_graph(
        [helper.make_node("Identity", ["again"], ["go"]), helper.make_node("Identity", ["held"], ["out"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("held", TensorProto.FLOAT, ["a", "b"]),
        ],
        [helper.make_tensor_value_info("go", TensorProto.BOOL, []), matrix],
    )
    nodes = [helper.make_node("Loop", ["", "yes", "start"], ["tokens"], body=body)]
    constants = [_constant("yes", np.array(True)), _constant("start", np.zeros((1, 2), np.float32))]
    outputs = [helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["a", "b"])]
    return helper.make_model(helper.make_graph(nodes, "endless", inputs, outputs, constants), **MODEL_OPTIONS)


@pytest.fixture(scope="session")
def make_endless() -> Callable[[Bundle], Bundle]:
    """Puts a graph without an end into a bundle, as a server that means harm would: everything fits."""

    def make(bundle: Bundle) -> Bundle:
        inputs = [
            helper.make_tensor_value_info("pcm", TensorProto.FLOAT, ["S"]),
            helper.make_tensor_value_info("token_length", TensorProto.INT64, [1]),
        ]
        (bundle.folder / "audio.onnx").write_bytes(endless_graph(inputs).SerializeToString())
        return write_manifest(bundle.folder, MANIFEST_FIELDS)

    return make


@pytest.fixture
def bundle(make_bundle: Callable[[Path], Bundle], tmp_path: Path) -> Bundle:
    """The small bundle in a folder of its own, free to be spoilt."""
    return make_bundle(tmp_path / "bundle")


def write_media(
    path: Path,
    *,
    frame_rate_hz: int = 8,
    frames: int = 32,
    size: tuple[int, int] = (96, 64),
    sample_rate_hz: int = 44_100,
    picture: bool = True,
    sound: bool = True,
) -> Path:
    """Write a real media file: frames that get brighter, and a 440 Hz tone of half amplitude."""
    with av.open(str(path), "w") as container:
        video = audio = None
        if picture:
            codec = {".mp4": "h264", ".png": "png", ".jpg": "mjpeg"}[path.suffix]
            video = container.add_stream(codec, rate=frame_rate_hz)
            video.width, video.height = size
            video.pix_fmt = {"h264": "yuv420p", "png": "rgb24", "mjpeg": "yuvj420p"}[codec]
        if sound:
            codec = {".mp4": "aac", ".wav": "pcm_s16le", ".flac": "flac", ".mp3": "mp3"}[path.suffix]
            audio = container.add_stream(codec, rate=sample_rate_hz, layout="mono")
        if video is not None:
            for number in range(frames):
                grey = np.full((size[1], size[0], 3), round(250 * number / max(frames, 2)), np.uint8)
                container.mux(video.encode(av.VideoFrame.from_ndarray(grey)))
            container.mux(video.encode())
        if audio is not None:
            t = np.arange(round(sample_rate_hz * frames / frame_rate_hz)) / sample_rate_hz
            tone = 0.5 * np.sin(2.0 * np.pi * 440.0 * t)
            frame = av.AudioFrame.from_ndarray(
                (tone * 32767).astype(np.int16)[None], format="s16", layout="mono"
            )
            frame.rate = sample_rate_hz
            converter = av.AudioResampler(audio.format, "mono", sample_rate_hz, audio.frame_size or 1024)
            for piece in [*converter.resample(frame), *converter.resample(None)]:
                container.mux(audio.encode(piece))
            container.mux(audio.encode())
    return path


@pytest.fixture
def media() -> Callable[..., Path]:
    """Writes media files; see :func:`write_media`."""
    return write_media


@pytest.fixture
def clip_file(tmp_path: Path) -> Path:
    """An MP4 of four seconds with picture and sound."""
    return write_media(tmp_path / "clip.mp4")


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the environment nor the settings file of whoever runs the tests counts."""
    for name in [name for name in os.environ if name.startswith("TOKENLINK_DEVICE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TOKENLINK_DEVICE_CONFIG", str(tmp_path / "no-settings.toml"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
