from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from edge_server.model.config import AudioConfig, AudioFormat, VisualConfig, VisualFormat
from edge_server.model.preprocess import AudioFrontEnd, VisualFrontEnd, mel_filters
from edge_server.model.transmitter import AudioEncoder, VisualEncoder


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
    tall = np.einsum("rh,fhwc->frwc", triangles(size[0], 72), frames.numpy().astype(float))
    expected = np.einsum("pw,frwc->frpc", triangles(size[1], 120), tall)
    resized = VisualFrontEnd(VisualFormat()).resize(frames)
    np.testing.assert_allclose(resized.numpy(), expected, atol=2e-3)


def triangles(size: int, count: int) -> npt.NDArray[np.float64]:
    """What each of so many pixels takes of those before, [count, size]: a triangle's share."""
    wide = size / count
    centres = (np.arange(count) + 0.5) * wide
    distances = np.abs(np.arange(size) + 0.5 - centres[:, None]) / max(wide, 1.0)
    weights = np.maximum(0.0, 1.0 - distances)
    return np.asarray(weights / weights.sum(1, keepdims=True))


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


@pytest.mark.parametrize(
    "format", [AudioFormat(), AudioFormat(samples=3000, fft_size=256, hop=96, mel_bins=20)]
)
def test_a_spectrogram_is_what_a_fourier_transform_gives(format: AudioFormat) -> None:
    pcm = np.random.default_rng(0).normal(0, 0.1, format.samples + format.fft_size)
    pcm[format.samples :] = 0
    window = np.hanning(format.fft_size + 1)[:-1]
    frames = [pcm[i * format.hop :][: format.fft_size] * window for i in range(format.spectra)]
    power = np.abs(np.fft.rfft(frames)) ** 2
    expected = np.log(power @ mel_filters(format).T + 1e-4) / 8
    found = AudioFrontEnd(format)(torch.from_numpy(pcm[: format.samples]).float())
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


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
