from __future__ import annotations

import numpy as np
import pytest
import torch

from device_agent.channel import to_symbols
from edge_server.model.preprocess import AudioFormat, AudioFrontEnd, VisualFormat, VisualFrontEnd
from edge_server.model.transmitter import (
    TOKEN_LENGTHS,
    AudioConfig,
    AudioEncoder,
    TextHead,
    TransmitterHead,
    VisualConfig,
    VisualEncoder,
    WindowPooling,
    normalise_power,
    pooling_matrix,
)


@pytest.mark.parametrize("length", TOKEN_LENGTHS)
@pytest.mark.parametrize("patches", [96, 120, 50])
def test_pooling_windows_cover_every_patch_alike(patches: int, length: int) -> None:
    matrix = pooling_matrix(patches, length)
    torch.testing.assert_close(matrix.sum(1), torch.ones(length))
    torch.testing.assert_close(matrix.sum(0), torch.full((patches,), length / patches))


def test_pooling_equals_reshape_where_the_length_is_a_factor() -> None:
    x = torch.randn(2, 120, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(WindowPooling(120)(x, 8), x.reshape(2, 8, 15, 5).mean(2))


@pytest.mark.parametrize("length", TOKEN_LENGTHS)
def test_a_length_in_a_tensor_pools_as_the_number_does(length: int) -> None:
    pooling = WindowPooling(96)
    assert torch.equal(pooling.matrix(torch.tensor([length])), pooling.matrix(length))


@pytest.mark.parametrize("length", TOKEN_LENGTHS)
def test_every_codeword_has_unit_energy_per_complex_symbol(length: int) -> None:
    torch.manual_seed(0)
    head = TransmitterHead(96, 16, 32)
    sent = head(7 * torch.randn(3, 96, 16), length)
    assert sent.shape == (3, length, 32)
    symbols = to_symbols(sent)
    torch.testing.assert_close(symbols.abs().square().mean((1, 2)), torch.ones(3), atol=1e-4, rtol=0)


def test_text_goes_with_unit_energy_too() -> None:
    torch.manual_seed(0)
    sent = TextHead(16, 8)(torch.randn(2, 5, 16))
    torch.testing.assert_close(sent.square().mean((1, 2)), torch.full((2,), 0.5), atol=1e-4, rtol=0)


def test_nothing_to_send_is_not_infinite() -> None:
    assert torch.isfinite(normalise_power(torch.zeros(1, 4, 8))).all()


def test_resizing_keeps_a_flat_picture_flat_and_its_mean() -> None:
    front_end = VisualFrontEnd(VisualFormat(frames=2, height=10, width=15))
    flat = front_end.resize(torch.full((3, 33, 70, 3), 91, dtype=torch.uint8))
    torch.testing.assert_close(flat, torch.full((2, 10, 15, 3), 91.0))
    noise = torch.randint(
        0, 256, (2, 40, 60, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    assert float(front_end.resize(noise).mean()) == pytest.approx(float(noise.float().mean()), abs=2.0)


@pytest.mark.parametrize("size", [(144, 256), (36, 60), (72, 120)])
def test_resizing_is_bilinear_with_antialiasing(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (8, *size, 3), dtype=torch.uint8, generator=generator)
    expected = torch.nn.functional.interpolate(
        frames.permute(0, 3, 1, 2).float(), (72, 120), mode="bilinear", antialias=True
    ).permute(0, 2, 3, 1)
    torch.testing.assert_close(VisualFrontEnd(VisualFormat()).resize(frames), expected, atol=0.5, rtol=0)


def test_frames_are_picked_evenly_and_an_image_fills_the_clip() -> None:
    front_end = VisualFrontEnd(VisualFormat(frames=4, height=2, width=2))
    clip = torch.arange(8, dtype=torch.uint8)[:, None, None, None].expand(8, 2, 2, 3)
    assert front_end.resize(clip)[:, 0, 0, 0].tolist() == [1, 3, 5, 7]
    assert front_end.resize(clip[5:6])[:, 0, 0, 0].tolist() == [5, 5, 5, 5]


def test_a_tone_lights_up_its_mel_band() -> None:
    format = AudioFormat()
    front_end = AudioFrontEnd(format)
    time_s = np.arange(format.samples) / format.sample_rate_hz
    mel = {hz: front_end(torch.from_numpy(np.sin(2 * np.pi * hz * time_s)).float()) for hz in (300.0, 3000.0)}
    assert mel[300.0].shape == (format.spectra, format.mel_bins)
    assert int(mel[300.0].mean(0).argmax()) < int(mel[3000.0].mean(0).argmax())

    def to_mel(hz: float) -> float:
        return 2595 * np.log10(1 + hz / 700)

    place = (to_mel(3000) - to_mel(50)) / (to_mel(8000) - to_mel(50)) * (format.mel_bins + 1) - 1
    assert int(mel[3000.0].mean(0).argmax()) == pytest.approx(place, abs=1.0)


def test_short_sound_is_padded_and_long_sound_cut() -> None:
    front_end = AudioFrontEnd(AudioFormat())
    pcm = torch.randn(100_000, generator=torch.Generator().manual_seed(0)) * 0.1
    assert torch.equal(front_end(pcm), front_end(torch.cat([pcm[:64_000], torch.zeros(5)])))
    padded = torch.cat([pcm[:1000], torch.zeros(63_000)])
    assert torch.equal(front_end(pcm[:1000]), front_end(padded))
    assert front_end(torch.zeros(0)).shape == (200, 64)


def test_visual_tokens_run_from_left_to_right() -> None:
    """A change in the right third moves the tokens of the right third most, before attention mixes them."""
    torch.manual_seed(0)
    encoder = VisualEncoder(VisualConfig())
    embeddings = encoder.encoder.embeddings
    maps = torch.zeros_like(encoder.maps(torch.zeros(1, 8, 3, 72, 120)))
    changed = maps.clone()
    changed[..., maps.shape[-1] * 2 // 3 :] = 1.0
    with torch.no_grad():
        difference = (embeddings(changed) - embeddings(maps))[:, 1:].abs().sum(-1)
    ordered = difference.unflatten(1, encoder.grid).permute(0, 3, 1, 2).flatten(1)[0]
    assert ordered[: len(ordered) // 2].max() == 0
    assert ordered[-len(ordered) // 4 :].min() > 0


def test_audio_tokens_run_in_time() -> None:
    torch.manual_seed(0)
    encoder = AudioEncoder(AudioConfig())
    assert encoder(torch.zeros(2, 200, 64)).shape == (2, encoder.patches, 128)
    bands, times = encoder.grid
    # Each token hears the whole spectrum, 80 ms of it.
    assert (bands, times) == (1, 50)
    assert encoder.patches == 50
