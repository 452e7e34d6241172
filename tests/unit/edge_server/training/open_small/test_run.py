"""The recipe of open-small from nothing, at its smallest: trained, made into a model, asked."""

from __future__ import annotations

import importlib
import json
import wave
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import LlamaConfig, LlamaForCausalLM

from device_agent.bundle.bundle import load_bundle
from device_agent.channel import ChannelConfig
from device_agent.media.clip import Clip
from device_agent.transmitter import Transmitter
from edge_server.evaluation.named import NamedFolder, read_named
from edge_server.evaluation.text_kept import general_questions, text_kept
from edge_server.model.link import Link
from edge_server.model.memory import MemoryReceiver
from edge_server.model.published.config import LiteVisual
from edge_server.model.published.lite import LiteEncoder
from edge_server.training.loop import Schedule
from edge_server.training.open_small import run as running
from edge_server.training.open_small.hearing import Hearing, HearingTraining
from edge_server.training.open_small.reading import ReadingTraining
from edge_server.training.open_small.recipe import OpenRecipe
from edge_server.weights import assemble
from edge_server.weights.names import LEMMAS, SYNSETS
from edge_server.weights.open_small import CLASSES, HEARD, SEEN
from edge_server.weights.sound_names import ENVIRONMENT, SOUNDS

pytest.importorskip("gguf")
write_gguf = importlib.import_module("tests.unit.edge_server.weights.gguf_writer").write_gguf

_RECIPE = OpenRecipe(
    "open-small",
    HearingTraining(Schedule(2, 1e-3), recordings=4, notes=2, spoken=1, silent=1),
    ReadingTraining(Schedule(2, 1e-3), photos=1, questions=2),
)


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What would be fetched: a tiny foundation, an encoder that was never trained, names of classes."""
    folder = tmp_path_factory.mktemp("downloads")
    torch.manual_seed(0)
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(ByteLevel.alphabet()), "th"]
    network = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokens),
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=2048,
            rope_parameters={"rope_type": "default", "rope_theta": 1e4},
            tie_word_embeddings=True,
        )
    )
    write_gguf(network.eval(), folder / "foundation.gguf", tokens, control=3, merges=["t h"])
    encoder = LiteEncoder(LiteVisual(CLASSES)).network
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.bias, std=0.1)  # as no two layers are alike
    torch.save(encoder.state_dict(), folder / "encoder.pth")
    synsets = [f"n{number:08d}" for number in range(CLASSES)]
    (folder / SYNSETS).write_text("\n".join(synsets))
    (folder / LEMMAS).write_text("\n".join(f"{synset}\tthing {synset[-3:]}" for synset in synsets))
    return folder


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    rng = np.random.default_rng(0)
    for sound in ENVIRONMENT:
        name = f"{sound.name.replace(' ', '-')}_1-{rng.integers(1000)}-A.wav"
        with wave.open(str(folder / name), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes((rng.normal(0, 3000, 8000)).astype("<i2").tobytes())
    return folder


@pytest.fixture(scope="module")
def patched(fetched: Path) -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        files = fetched / "foundation.gguf", fetched / "encoder.pth"
        for module in (running, assemble):
            patch.setattr(module, "fetch", lambda members, folder: files)
            patch.setattr(module, "downloads", lambda: fetched)
        patch.setattr(assemble, "_CLIPS", 3)
        # Weights that were never trained say nothing, in int8 less.
        patch.setattr(assemble, "_LEAST_DB", -99.0)
        yield patch


@pytest.fixture(scope="module")
def trained(patched: pytest.MonkeyPatch, recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = running.OpenRun(_RECIPE, 3, tmp_path_factory.mktemp("run"), recorded)
    return run.all()


def test_a_run_that_was_cut_ends_with_the_same_weights(trained: Path, recorded: Path, tmp_path: Path) -> None:
    cut = replace(_RECIPE.hearing, schedule=replace(_RECIPE.hearing.schedule, checkpoint_every=1))

    class Cut(Hearing):
        def loss(self, step: int) -> tuple[torch.Tensor, dict[str, float]]:
            if step == 1:
                raise KeyboardInterrupt
            return super().loss(step)

    run = running.OpenRun(replace(_RECIPE, hearing=cut), 3, tmp_path, recorded)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "Hearing", Cut)
        with pytest.raises(KeyboardInterrupt):
            run.hear()
    run.hear()
    found, expected = (assemble.load_listener(folder) for folder in (run.model, trained))
    assert found is not None
    assert expected is not None
    for name, weight in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], weight, msg=name)


def test_the_card_says_what_made_it(trained: Path) -> None:
    card = json.loads((trained / "training.json").read_text())
    assert card["command"] == "edge-server train open-small --seed 3 --sounds DIR"
    assert {stage: told["steps"] for stage, told in card["stages"].items()} == {"hearing": 2, "reading": 2}
    assert set(card["trained_sha256"]) == {"listener.safetensors", "lora.safetensors"}
    assert "CC BY 3.0" in (trained / "README.md").read_text()


def test_it_becomes_a_model_that_sees_and_hears(trained: Path, recorded: Path, tmp_path: Path) -> None:
    folder = assemble.get_open_small(trained, tmp_path / "model")
    link = Link.load(folder)
    assert link.slots == (SEEN, HEARD)
    clip = Clip(
        frames_THWC=np.full((1, 60, 80, 3), (200, 30, 30), np.uint8), pcm_S=np.zeros(16_000, np.float32)
    )
    whole, small = (load_bundle(folder / name) for name in ("bundle", "bundle-int8"))
    assert small.manifest.quantised_from == whole.hash
    sizes = [sum(file.bytes for file in each.manifest.files.values()) for each in (whole, small)]
    assert sizes[0] < 20e6
    assert sizes[1] < 0.45 * sizes[0]
    said = []
    for bundle in (whole, small):
        tokens = Transmitter(bundle).encode(clip, 16).tokens
        with torch.inference_mode():
            receiver = link.receiver(SEEN)
            assert isinstance(receiver, MemoryReceiver)
            words = receiver.recall(torch.from_numpy(tokens["video"]))
        said.append(link.tokenizer.decode(words.tolist()))
    assert all("a photo of a" in each for each in said)
    files = read_named(recorded, HEARD, {})
    score = NamedFolder(link, HEARD, files).ask(ChannelConfig(snr_db=10.0), 16)
    assert (score.asked, score.encoder is not None) == (len(ENVIRONMENT), True)
    # Loaded anew: serving has merged the LoRA of the other.
    kept = text_kept(Link.load(folder), general_questions()[:3])
    assert kept["questions"] == 3
    assert 0 <= kept["agreement"] <= 1
    made = folder / "made_of.json"
    before = made.stat().st_mtime_ns
    assert assemble.get_open_small(trained, folder) == folder
    assert made.stat().st_mtime_ns == before, "what is there and made of the same is left"


def test_classes_have_names_of_their_own() -> None:
    names = [name for sound in SOUNDS for name in sound.names]
    assert len(set(names)) == len(names)
    assert len(general_questions()) == 200
    assert all(len(set(each.answers)) == 4 for each in general_questions())
