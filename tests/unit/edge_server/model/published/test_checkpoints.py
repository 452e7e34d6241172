"""Published checkpoints: their own preprocessing, their own tokenizer, whatever is missing named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    Qwen2ForCausalLM,
    VivitConfig,
    VivitImageProcessor,
    VivitModel,
)

from edge_server.errors import ModelError
from edge_server.model import tokenizer as tk
from edge_server.model.published.config import FilterBankFormat, PictureFormat
from edge_server.model.published.encoders import audio_from, visual_from
from edge_server.model.published.foundation import foundation_from
from edge_server.model.published.front_ends import FilterBankFrontEnd, PictureFrontEnd
from edge_server.model.selection import pooling_matrix
from edge_server.training.paper import Checkpoints
from tests.tiny_checkpoints import END, ROWS, write_checkpoints, write_foundation


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return write_checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def published() -> ASTFeatureExtractor:
    """With the numbers of the published AST."""
    with pytest.warns(UserWarning, match="At least one mel filter"):
        return ASTFeatureExtractor()


@pytest.mark.parametrize("samples", [400, 559, 16_000, 64_000, 164_080, 200_000])
def test_the_filter_bank_is_the_published_one(published: ASTFeatureExtractor, samples: int) -> None:
    rng = np.random.default_rng(samples)
    time_s = np.arange(samples) / 16_000
    pcm = 0.3 * np.sin(2 * np.pi * 440 * time_s) + 0.02 * rng.standard_normal(samples) + 0.01
    expected = published(pcm.astype(np.float32), sampling_rate=16_000, return_tensors="np")["input_values"][0]
    front_end = FilterBankFrontEnd(FilterBankFormat(16_000, 1024, 128, published.mean, published.std))
    found = front_end(torch.from_numpy(pcm.astype(np.float32))).numpy()
    np.testing.assert_allclose(found, expected, atol=5e-4)
    # Most of it has to differ from what is padded with, or the comparison would say little.
    assert (found != found[-1]).mean() > 0.5 or samples < 160_000


def test_no_sound_is_what_the_published_extractor_pads_with(published: ASTFeatureExtractor) -> None:
    front_end = FilterBankFrontEnd(FilterBankFormat(16_000, 1024, 128, published.mean, published.std))
    expected = torch.full((1024, 128), -published.mean / (2 * published.std))
    torch.testing.assert_close(front_end(torch.zeros(0)), expected)


@pytest.mark.parametrize("size", [(144, 256), (320, 240), (256, 256), (40, 500)])
def test_pictures_are_what_the_published_processor_makes(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    small = (rng.random((8, 8, 3)) * 255).astype(np.uint8)
    frame = np.asarray(Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC))
    processor = VivitImageProcessor(image_mean=[0.5, 0.4, 0.3], image_std=[0.5, 0.6, 0.7])
    expected = processor([frame, frame], return_tensors="np")["pixel_values"][0]
    format = PictureFormat(
        frames=2,
        crop=(224, 224),
        resize=256,
        scale=tuple(processor.rescale_factor / d for d in processor.image_std),  # type: ignore[arg-type]
        shift=tuple(  # type: ignore[arg-type]
            (-1 - m) / d for m, d in zip(processor.image_mean, processor.image_std, strict=True)
        ),
    )
    found = PictureFrontEnd(format)(torch.from_numpy(np.stack([frame, frame]))).numpy()
    assert found.shape == expected.shape
    # The published one rounds to bytes after resizing: a level is scale wide.
    np.testing.assert_allclose(found, expected, atol=1.1 * max(format.scale))
    assert np.abs(found - expected).mean() < 0.5 * max(format.scale)


def test_encoders_are_those_of_the_checkpoint(folders: Checkpoints) -> None:
    for windows in (None, 16):
        visual, audio = visual_from(folders.visual, windows), audio_from(folders.audio, windows)
        assert visual.grid == (4, 4, 4)
        assert audio.grid == (4, 16)
        assert visual.patches == audio.patches == (windows or 64)
    assert visual.config.max_side == 72
    assert visual.config.frame_rate_hz * visual.config.window_s == 8
    pixels = torch.randn(1, 8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    published = VivitModel.from_pretrained(folders.visual, add_pooling_layer=False)
    with torch.no_grad():
        expected = published(pixel_values=pixels).last_hidden_state[:, 1:]
        torch.testing.assert_close(visual_from(folders.visual, None)(pixels), expected)
        torch.testing.assert_close(visual(pixels), pooling_matrix(64, 16) @ expected)


def test_windows_of_windows_are_windows() -> None:
    torch.testing.assert_close(
        pooling_matrix(128, 16) @ pooling_matrix(3136, 128), pooling_matrix(3136, 16), atol=1e-7, rtol=1e-4
    )


def test_audio_tokens_run_in_time(folders: Checkpoints) -> None:
    encoder = audio_from(folders.audio, None)
    quiet = torch.zeros(1, 256, 64)
    late = quiet.clone()
    late[:, 192:] = 3.0
    with torch.no_grad():
        changed = encoder.encoder.embeddings(late) - encoder.encoder.embeddings(quiet)
    moved = changed[:, 2:].abs().sum(-1).reshape(4, 16).T.flatten()
    assert moved[:48].max() == 0
    assert moved[48:].min() > 0


def test_special_tokens_are_added_where_they_lack(folders: Checkpoints) -> None:
    config, model, tokenizer = foundation_from(folders.foundation, "float32", 512)
    original = Tokenizer.from_file(str(folders.foundation / "tokenizer.json"))
    size = original.get_vocab_size()
    assert config.special.eos == config.special.pad == original.token_to_id(END)
    marks = {name: i for name, i in vars(config.special).items() if isinstance(i, int)}
    added = {name: i for name, i in marks.items() if name not in ("eos", "pad")}
    assert sorted(added.values()) == list(range(size, size + len(added)))
    # They fit into rows that the embedding has to spare, as those of Qwen2.5 do.
    assert model.get_input_embeddings().num_embeddings == ROWS
    weight = model.get_input_embeddings().weight
    words = tk.encode(tokenizer, "question")
    torch.testing.assert_close(weight[config.special.question], weight[words].mean(0))
    assert not torch.equal(weight[config.special.visual], weight[config.special.visual_end])
    published = Qwen2ForCausalLM.from_pretrained(folders.foundation)
    assert torch.equal(weight[:size], published.get_input_embeddings().weight[:size])


@pytest.mark.parametrize("text", ["what is <answer> ?", END, "</visual><audio>", "Größe, 猫"])
def test_text_that_spells_a_special_token_stays_text(folders: Checkpoints, text: str, tmp_path: Path) -> None:
    tokenizer = foundation_from(folders.foundation, "float32", 512)[2]
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    for read in (tokenizer, tk.load_tokenizer(tmp_path / "tokenizer.json")):
        ids = tk.encode(read, text)
        assert not set(ids) & tk.special_ids_of(read)
        assert tk.decode(read, ids) == text


@pytest.mark.parametrize("tied", [True, False])
def test_an_embedding_without_rows_to_spare_grows(tmp_path: Path, tied: bool) -> None:
    write_foundation(tmp_path, rows=580, tied=tied)
    config, model, tokenizer = foundation_from(tmp_path, "float32", 512)
    rows = tokenizer.get_vocab_size()
    assert rows > 580
    for table in (model.get_input_embeddings(), model.get_output_embeddings()):
        weight = table.weight
        assert len(weight) == rows
        words = tk.encode(tokenizer, "answer")
        torch.testing.assert_close(weight[config.special.answer], weight[words].mean(0))
    assert config.architecture["vocab_size"] == rows


def test_what_is_no_checkpoint_is_named(folders: Checkpoints, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere/config\.json: no Hugging Face checkpoint"):
        visual_from(tmp_path / "nowhere", 16)
    with pytest.raises(ModelError, match="model_type is 'vivit'; there are: llama, mistral, qwen2, qwen3"):
        foundation_from(folders.visual, "float32", 512)
    with pytest.raises(ModelError, match="model_type is 'qwen2'; 'audio-spectrogram-transformer' is needed"):
        audio_from(folders.foundation, 16)
    for name, kind in (("config.json", VivitConfig), ("config.json", ASTConfig)):
        kind().save_pretrained(tmp_path / kind.__name__)
        assert (tmp_path / kind.__name__ / name).is_file()
    with pytest.raises(ModelError, match="VivitModel cannot be read"):
        visual_from(tmp_path / "VivitConfig", 16)


def test_a_checkpoint_that_lacks_weights_is_refused(folders: Checkpoints, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders.audio, tmp_path / "ast"))
    weights = load_file(folder / "model.safetensors")
    del weights["layernorm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"ASTModel lacks 1 weights, layernorm\.weight first"):
        audio_from(folder, 16)


def test_preprocessing_that_does_not_fit_its_model_is_refused(folders: Checkpoints, tmp_path: Path) -> None:
    visual = Path(shutil.copytree(folders.visual, tmp_path / "vivit"))
    settings = json.loads((visual / "preprocessor_config.json").read_text())
    wrong = settings | {"crop_size": {"height": 24, "width": 24}}
    (visual / "preprocessor_config.json").write_text(json.dumps(wrong))
    with pytest.raises(ModelError, match=r"crops to \(24, 24\), the model takes 32"):
        visual_from(visual, 16)
    audio = Path(shutil.copytree(folders.audio, tmp_path / "ast"))
    settings = json.loads((audio / "preprocessor_config.json").read_text())
    (audio / "preprocessor_config.json").write_text(json.dumps(settings | {"max_length": 128}))
    with pytest.raises(ModelError, match="gives 128 spectra of 64 bands, the model takes 256 of 64"):
        audio_from(audio, 16)
    with pytest.raises(ValueError, match="windows: 65; 1 to 64"):
        visual_from(folders.visual, 65)
