"""Clips to tokens, through real ONNX Runtime sessions."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from device_agent.bundle.bundle import Bundle
from device_agent.errors import ConfigurationError, MediaError, TransmitterError
from device_agent.media.clip import Clip
from device_agent.media.loading import clip_from_file
from device_agent.transmitter import Transmitter

FRAMES = np.full((5, 6, 7, 3), 100, np.uint8)
PCM = np.linspace(-1.0, 1.0, 1000, dtype=np.float32)


def mean_square(x: np.ndarray) -> float:
    return float(np.mean(np.square(x, dtype=np.float64)))


@pytest.mark.parametrize("token_length", [1, 2, 4, 8, 16, 32])
def test_every_modality_has_the_granted_length_and_unit_symbol_energy(
    bundle: Bundle, token_length: int
) -> None:
    transmitter = Transmitter(bundle)
    for x_TC in (
        transmitter.encode_visual(FRAMES, token_length),
        transmitter.encode_visual(FRAMES[:1], token_length, is_image=True),
        transmitter.encode_audio(PCM, token_length),
    ):
        assert x_TC.shape == (token_length, bundle.manifest.channel_dim)
        assert x_TC.dtype == np.float32
        assert mean_square(x_TC) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processors are given on Linux alone")
def test_a_process_that_may_use_one_processor_is_told_nothing_of_others(bundle: Bundle) -> None:
    """As in a container whose processors are a few of the machine's."""
    program = (
        "import os, sys\n"
        "os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})\n"
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from device_agent.bundle.bundle import load_bundle\n"
        "from device_agent.transmitter import Transmitter\n"
        "made = Transmitter(load_bundle(Path(sys.argv[1])), threads=4)\n"
        "print(made.encode_audio(np.zeros(1000, np.float32), 4).shape[0])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(bundle.folder)], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "4\n", "")


def test_a_clip_gives_each_of_its_modalities_and_the_time_it_took(bundle: Bundle, clip_file: Path) -> None:
    ticks = iter((10.0, 10.25, 20.0, 20.5, 30.0, 30.5))
    transmitter = Transmitter(bundle, clock=lambda: next(ticks))
    clip = clip_from_file(clip_file, spec=bundle.media_spec())
    encoded = transmitter.encode(clip, 4)
    assert list(encoded.tokens) == ["video", "audio"]
    assert encoded.encode_s == pytest.approx(0.25)
    assert list(transmitter.encode(replace(clip, is_image=True), 4).tokens) == ["image", "audio"]
    assert list(transmitter.encode(replace(clip, frames_THWC=None), 4).tokens) == ["audio"]


def test_text_goes_as_ids_and_as_tokens(bundle: Bundle) -> None:
    transmitter = Transmitter(bundle)
    ids = transmitter.tokenize("what plays on the left ?")
    assert ids == [1, 2, 3, 4, 5, 9]
    x_TC = transmitter.encode_text(ids)
    assert x_TC.shape == (6, bundle.manifest.channel_dim)
    assert mean_square(x_TC) == pytest.approx(0.5, rel=1e-4)


def test_text_that_spells_a_special_token_is_text(bundle: Bundle) -> None:
    unknown = 0
    assert Transmitter(bundle).tokenize("<unk>") == [unknown] * 3  # "<", "unk", ">"


@pytest.mark.parametrize("ids", [[], [1] * 97])
def test_text_beyond_what_the_graph_takes_is_refused(bundle: Bundle, ids: list[int]) -> None:
    with pytest.raises(ConfigurationError, match="1 to 96"):
        Transmitter(bundle).encode_text(ids)


def test_text_that_is_no_unicode_is_refused(bundle: Bundle) -> None:
    with pytest.raises(ConfigurationError, match="UTF-8"):
        Transmitter(bundle).tokenize("violin \udcff")


def test_a_token_length_that_was_not_trained_is_refused_with_those_that_were(bundle: Bundle) -> None:
    with pytest.raises(ConfigurationError, match=r"token_length is 3; .* 1, 2, 4, 8, 16, 32"):
        Transmitter(bundle).encode_audio(PCM, 3)


def test_arrays_of_the_wrong_kind_are_refused(bundle: Bundle) -> None:
    transmitter = Transmitter(bundle)
    with pytest.raises(TransmitterError, match="float64"):
        transmitter.encode_audio(PCM.astype(np.float64), 4)  # type: ignore[arg-type]
    with pytest.raises(TransmitterError, match="uint8"):
        transmitter.encode_visual(FRAMES[0], 4)


def test_a_modality_without_a_transmitter_is_refused(bundle: Bundle) -> None:
    manifest = bundle.manifest
    deaf = manifest.model_copy(
        update={"transmitters": manifest.transmitters.model_copy(update={"audio": None, "text": None})}
    )
    transmitter = Transmitter(replace(bundle, manifest=deaf))
    with pytest.raises(MediaError, match="audio: cannot be sent"):
        transmitter.encode(Clip(pcm_S=PCM), 4)
    with pytest.raises(ConfigurationError, match="use ids"):
        transmitter.encode_text([1])


def test_a_graph_whose_power_is_off_is_refused(bundle: Bundle) -> None:
    path = bundle.folder / "audio.onnx"
    model = onnx.load(path)
    for constant in model.graph.initializer:
        if constant.name == "root_half":
            constant.CopyFrom(onnx.numpy_helper.from_array(np.float32(1.0), "root_half"))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(TransmitterError, match="mean square 1"):
        Transmitter(bundle).encode_audio(PCM, 4)


def test_a_graph_with_another_width_is_refused(bundle: Bundle) -> None:
    wider = replace(bundle, manifest=bundle.manifest.model_copy(update={"channel_dim": 10}))
    with pytest.raises(TransmitterError, match=r"\(4, 8\); float32 \(4, 10\)"):
        Transmitter(wider).encode_audio(PCM, 4)


def test_a_graph_that_cannot_be_opened_or_fails_is_named(bundle: Bundle) -> None:
    (bundle.folder / "visual.onnx").write_bytes(b"no graph")
    with pytest.raises(TransmitterError, match=r"visual\.onnx cannot be opened"):
        Transmitter(bundle).encode_visual(FRAMES, 4)
    (bundle.folder / "tokenizer.json").write_text("{}")
    with pytest.raises(TransmitterError, match=r"tokenizer\.json cannot be opened"):
        Transmitter(bundle).tokenize("what")
    with pytest.raises(TransmitterError, match=r"text\.onnx failed"):
        Transmitter(bundle).encode_text([999])


def test_no_threads_is_refused(bundle: Bundle) -> None:
    with pytest.raises(ConfigurationError, match="threads"):
        Transmitter(bundle, threads=0)
