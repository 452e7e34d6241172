"""A bundle is run once, elsewhere, before it is installed; one that does not end or fit is not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from device_agent.bundle.acceptance import Acceptance
from device_agent.bundle.archive import install, pack_bytes
from device_agent.bundle.bundle import Bundle, load_bundle, write_manifest
from device_agent.bundle.proving import ProofLimits, prove
from device_agent.errors import BundleError, TransmitterError
from device_agent.prover import run_once
from device_agent.stopping import Stop
from device_agent.transmitter import Transmitter
from tests.unit.device_agent.conftest import MANIFEST_FIELDS, MODEL_OPTIONS

Change = Callable[[Bundle], Bundle]


def constant_of(bundle: Bundle, rows: int, value: float) -> Bundle:
    """Replaces the graph of sound by one that gives a constant, made from a hundred bytes."""
    shape = numpy_helper.from_array(np.array([rows, 8], np.int64), "shape")
    fill = helper.make_node(
        "ConstantOfShape", ["shape"], ["tokens"], value=numpy_helper.from_array(np.array([value], np.float32))
    )
    inputs = [
        helper.make_tensor_value_info("pcm", TensorProto.FLOAT, ["S"]),
        helper.make_tensor_value_info("token_length", TensorProto.INT64, [1]),
    ]
    outputs = [helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["a", "b"])]
    model = helper.make_model(helper.make_graph([fill], "g", inputs, outputs, [shape]), **MODEL_OPTIONS)
    onnx.save(model, bundle.folder / "audio.onnx")
    return write_manifest(bundle.folder, MANIFEST_FIELDS)


def test_a_sound_bundle_is_proved(bundle: Bundle) -> None:
    prove(bundle.folder, ProofLimits())


def test_what_takes_more_memory_than_its_size_warrants_is_refused(bundle: Bundle) -> None:
    greedy = constant_of(bundle, 2**27, 0.7071)  # 4 GiB
    with pytest.raises(BundleError, match=r"not installed: .*(memory|allocat)"):
        prove(greedy.folder, ProofLimits())


def test_what_returns_something_else_than_its_manifest_says_is_refused(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"not installed: audio.onnx returned"):
        prove(constant_of(bundle, 3, 0.7071).folder, ProofLimits())


def test_what_does_not_end_is_refused_and_the_old_bundle_stays(
    make_bundle: Callable[[Path], Bundle], make_endless: Change, bundle: Bundle, tmp_path: Path
) -> None:
    endless = make_endless(make_bundle(tmp_path / "endless"))
    with pytest.raises(BundleError, match=r"do not end within 0.5 s .*bundle_proof_s"):
        install(
            pack_bytes(endless.folder), bundle.folder, acceptance=Acceptance(proof=ProofLimits(cpu_s=0.5))
        )
    assert load_bundle(bundle.folder).hash == bundle.hash


async def test_whoever_gives_up_ends_the_process(bundle: Bundle, make_endless: Change) -> None:
    stop = Stop()
    proving = asyncio.create_task(asyncio.to_thread(prove, make_endless(bundle).folder, ProofLimits(), stop))
    stop()
    with pytest.raises(BundleError, match="do not end"):
        await proving


def test_a_graph_is_ended_from_another_thread(bundle: Bundle, make_endless: Change) -> None:
    transmitter, stop = Transmitter(make_endless(bundle)), Stop()
    timer = threading.Timer(0.3, stop)
    timer.start()
    with pytest.raises(TransmitterError, match=r"audio.onnx .*: it took too long"):
        transmitter.encode_audio(np.zeros(1000, np.float32), 4, stop=stop)
    timer.join()


def test_every_graph_and_the_tokenizer_are_tried(bundle: Bundle) -> None:
    run_once(bundle)
    for name in (*bundle.manifest.graphs, bundle.manifest.tokenizer):
        kept = (bundle.folder / name).read_bytes()
        (bundle.folder / name).write_bytes(b"{}")
        with pytest.raises(TransmitterError, match=name):
            run_once(bundle)
        (bundle.folder / name).write_bytes(kept)
