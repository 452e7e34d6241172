"""Weights of few bits are unpacked exactly, and a bundle of them says what the fp32 bundle says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from device_agent.bundle.bundle import Bundle, load_bundle
from device_agent.errors import TransmitterError
from device_agent.media.clip import Clip
from device_agent.transmitter import Transmitter
from edge_server.errors import ExportError
from edge_server.export import quantization
from edge_server.export.bundle import export_bundle
from edge_server.export.narrow import AS_HALVES, narrow, rounded
from edge_server.export.quantization import check_fidelity, quantise_bundle
from edge_server.model.link import Link


def graph_of(path: Path) -> dict[str, np.ndarray]:
    """A convolution, a product and a linear layer of an encoder, and a product of none; its weights."""
    rng = np.random.default_rng(0)
    weights = {
        "conv": rng.standard_normal((64, 8, 3, 3)).astype(np.float32) * rng.uniform(0.1, 9, (64, 1, 1, 1)),
        "matmul": rng.standard_normal((64, 40)) * rng.uniform(0.1, 9, (1, 40)),
        "gemm": rng.standard_normal((32, 40)) * rng.uniform(0.1, 9, (32, 1)),
        "other": rng.standard_normal((32, 64)),
    }
    weights = {name: each.astype(np.float32) for name, each in weights.items()}
    nodes = [
        helper.make_node("Conv", ["x", "conv"], ["maps"], name="/encoder/conv/Conv"),
        helper.make_node("GlobalAveragePool", ["maps"], ["pooled"], name="/encoder/Pool"),
        helper.make_node("Flatten", ["pooled"], ["mean"], name="/encoder/Flatten"),
        helper.make_node("MatMul", ["mean", "matmul"], ["wide"], name="/encoder/MatMul"),
        helper.make_node("Gemm", ["wide", "gemm"], ["told"], name="/encoder/tell/Gemm", transB=1),
        helper.make_node("MatMul", ["told", "other"], ["tokens"], name="/head/MatMul"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 6, 6])],
        [helper.make_tensor_value_info("tokens", TensorProto.FLOAT, [1, 64])],
        [numpy_helper.from_array(each, name) for name, each in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    return weights


def run(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).standard_normal((1, 8, 6, 6)).astype(np.float32)
    (found,) = session.run(["tokens"], {"x": x})
    return np.asarray(found)


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_what_is_unpacked_is_what_was_packed(bits: int, tmp_path: Path) -> None:
    whole, packed, expected = (tmp_path / f"{name}.onnx" for name in ("whole", "packed", "expected"))
    weights = graph_of(whole)
    model = onnx.load(str(whole))
    assert narrow(whole, packed, lambda size: bits) == 3
    for tensor in model.graph.initializer:
        if tensor.name in ("conv", "matmul", "gemm"):
            integers, scales = rounded(weights[tensor.name], 1 if tensor.name == "matmul" else 0, bits)
            assert np.abs(integers).max() <= 2 ** (bits - 1) - 1
            tensor.CopyFrom(numpy_helper.from_array(integers * scales, tensor.name))
        elif tensor.name == "other":
            halves = weights["other"].astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(halves, "other"))
    onnx.save(model, str(expected))
    np.testing.assert_allclose(run(packed), run(expected), rtol=1e-4, atol=1e-4)
    share = packed.stat().st_size / whole.stat().st_size
    assert share < {4: 0.35, 6: 0.42, 8: 0.47}[bits]
    # A session unpacks once: what is left of the graph computes as it did.
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "folded.onnx")
    onnxruntime.InferenceSession(packed, options, providers=["CPUExecutionProvider"])
    folded = {node.op_type for node in onnx.load(str(tmp_path / "folded.onnx")).graph.node}
    assert folded.isdisjoint({"Cast", "BitwiseAnd", "BitShift", "Sub", "Mul", "Concat"})


def test_rounding_is_nearest_in_squares() -> None:
    weights = np.random.default_rng(0).standard_normal((8, 500)).astype(np.float32)
    integers, scales = rounded(weights, 0, 4)
    plain = np.abs(weights).max(axis=1, keepdims=True) / 7
    error = np.square(integers * scales - weights).sum()
    assert error < np.square(np.rint(weights / plain) * plain - weights).sum()


def test_an_encoder_without_weights_is_refused(tmp_path: Path) -> None:
    graph_of(tmp_path / "whole.onnx")
    model = onnx.load(str(tmp_path / "whole.onnx"))
    for node in model.graph.node:
        node.name = f"/elsewhere{node.name}"
    onnx.save(model, str(tmp_path / "whole.onnx"))
    with pytest.raises(ExportError, match=r"whole\.onnx: holds no weights"):
        narrow(tmp_path / "whole.onnx", tmp_path / "narrow.onnx")


@pytest.fixture
def source(link: Link, tmp_path: Path) -> Bundle:
    return export_bundle(link, tmp_path / "bundle", commit="test").bundle


def test_tensors_that_stay_halves_are_told_by_their_size(tmp_path: Path) -> None:
    whole, packed, expected = (tmp_path / f"{name}.onnx" for name in ("whole", "packed", "expected"))
    weights = graph_of(whole)
    # Of 4,608, 2,560 and 1,280 elements only the first becomes integers.
    assert narrow(whole, packed, lambda size: 8 if size > 4_000 else AS_HALVES) == 1
    integers, scales = rounded(weights["conv"], 0, 8)
    model = onnx.load(str(whole))
    for tensor in model.graph.initializer:
        kept = weights[tensor.name].astype(np.float16).astype(np.float32)
        read = integers * scales if tensor.name == "conv" else kept
        tensor.CopyFrom(numpy_helper.from_array(read, tensor.name))
    onnx.save(model, str(expected))
    np.testing.assert_allclose(run(packed), run(expected), rtol=1e-4, atol=1e-4)


def clips(count: int) -> list[Clip]:
    rng = np.random.default_rng(0)
    return [
        Clip(
            frames_THWC=rng.integers(0, 256, (8, 72, 120, 3), dtype=np.uint8),
            pcm_S=rng.normal(0, 0.1, 64_000).astype(np.float32),
        )
        for _ in range(count)
    ]


def test_a_bundle_of_integers_for_weights_alone(
    source: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {}
    monkeypatch.setattr(quantization, "_LARGE_TOKENIZER", 1)
    for bits in (8, 6):
        folder = tmp_path / f"bundle-int{bits}"
        made[bits] = quantise_bundle(source, clips(3), folder, weights=lambda size, bits=bits: bits)
        assert load_bundle(folder) == made[bits].bundle
        assert made[bits].bundle.manifest.precision == "int8"
        assert made[bits].bundle.manifest.quantised_from == source.hash
    coarse, fine = (min(made[bits].fidelity_db.values()) for bits in (6, 8))
    assert 20 < coarse < fine
    for graph in ("visual.onnx", "audio.onnx"):
        sizes = [bundle.manifest.files[graph].bytes for bundle in (made[6].bundle, made[8].bundle, source)]
        assert sizes[0] < sizes[1] < 0.5 * sizes[2]
    assert min(check_fidelity(source, made[8].bundle, clips(1)).values()) > 30


def test_a_large_tokenizer_is_compressed_and_reads_the_same(
    source: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantization, "_LARGE_TOKENIZER", 1)
    packed = quantise_bundle(source, clips(2), tmp_path / "bundle-int8", weights=lambda size: 8).bundle
    assert packed.manifest.tokenizer == "tokenizer.json.gz"
    assert (
        packed.manifest.files["tokenizer.json.gz"].bytes < source.manifest.files["tokenizer.json"].bytes / 2
    )
    question = "Is the <answer> violin louder than the piano?"
    assert Transmitter(packed).tokenize(question) == Transmitter(source).tokenize(question)
    path = packed.folder / "tokenizer.json.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(TransmitterError, match=r"tokenizer\.json\.gz cannot be opened: is cut short"):
        Transmitter(packed).tokenize(question)
    path.write_bytes(b"no gzip")
    with pytest.raises(TransmitterError, match=r"tokenizer\.json\.gz cannot be opened"):
        Transmitter(packed).tokenize(question)
    monkeypatch.setattr("device_agent.transmitter.MAX_TOKENIZER_BYTES", 100)
    again = quantise_bundle(source, clips(2), tmp_path / "again", weights=lambda size: 8).bundle
    with pytest.raises(TransmitterError, match="of more than 100 bytes"):
        Transmitter(again).tokenize(question)
