"""Source codecs of the digital baseline: JPEG for frames, Opus for sound, at many settings.

    frames_FHWC ─▶ some of them, shrunk ─▶ JPEG ─▶ bits ─▶ enlarged, gaps filled from the nearest frame sent
    pcm_S       ─▶ its last seconds ────▶ Opus ─▶ bits ─▶ looped until they fill the clip

Sizes are bits without any header, and generous to the baseline: of a JPEG file only the entropy-coded scan
counts, without stuffed bytes, and the picture's own best Huffman tables are taken to be known at the
receiver; of Opus only the packets count, no container. What frames are sent, how far shrunk, which stretch
of sound: all agreed beforehand, for nothing. Frames are shrunk from what the encoder takes, not from the
camera's.

Shapes: F frames, H height, W width, 3 (RGB), S samples.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

Frames: TypeAlias = npt.NDArray[np.uint8]
Pcm: TypeAlias = npt.NDArray[np.int16]

SAMPLE_RATE_HZ = 16_000
_DECODER_RATE_HZ = 48_000
#: What libopus puts before the first sample [samples at 16 kHz]: its look-ahead of 6.5 ms.
_OPUS_DELAY = 104
#: The longest packets have the fewest headers [ms].
_OPUS_PACKET_MS = 120
_START_OF_SCAN = b"\xff\xda"
_STUFFED = b"\xff\x00"


@dataclass(frozen=True)
class JpegStep:
    """A setting for a clip's frames."""

    frames: int
    """Frames sent, evenly spaced."""
    shrink: int
    """Rows and columns are divided by this."""
    quality: int
    """Of the JPEG encoder, 1 to 95."""

    @property
    def name(self) -> str:
        """Short and unique."""
        return f"jpeg-f{self.frames}-s{self.shrink}-q{self.quality}"


@dataclass(frozen=True)
class OpusStep:
    """A setting for a clip's sound."""

    bitrate_bps: int
    """Asked of the encoder (variable rate); it has no setting between 2400 and what emits nothing."""
    seconds: float
    """Only the end of the clip is sent: there, everything that sounds has set in [s]."""

    @property
    def name(self) -> str:
        """Short and unique."""
        return f"opus-{self.bitrate_bps}-{self.seconds:g}s"


JPEG_STEPS: tuple[JpegStep, ...] = tuple(
    JpegStep(frames, shrink, quality)
    for frames, shrink, qualities in (
        (1, 4, (1, 10, 20, 40)),
        (1, 3, (5, 10, 20, 40)),
        (1, 2, (5, 10, 20, 40, 60)),
        (1, 1, (1, 3, 5, 7, 10, 15, 20, 40, 80)),
        (2, 2, (20, 40)),
        (2, 1, (5, 10, 20, 40)),
        (4, 2, (20, 40)),
        (4, 1, (5, 10, 20, 40, 80)),
        (8, 2, (20, 40)),
        (8, 1, (5, 10, 20, 40, 80, 95)),
    )
    for quality in qualities
)
"""From about a hundred bits to everything that the encoder sees. Closest where a codeword's bits lie: most of
these buy one frame, at its full size rather than small and fine."""

OPUS_STEPS: tuple[OpusStep, ...] = tuple(
    OpusStep(bitrate_bps, seconds)
    for seconds, bitrates in (
        (0.5, (2400, 6000)),
        (1.0, (2400, 6000, 12000)),
        (2.0, (2400, 6000, 12000)),
        (4.0, (2400, 6000, 8000, 12000, 16000, 24000, 32000, 64000)),
    )
    for bitrate_bps in bitrates
)
"""From the lowest bit rate at which Opus codes anything, for half a second, to transparent."""


def through_jpeg(frames_FHWC: Frames, step: JpegStep) -> tuple[int, Frames]:
    """Send frames as JPEG pictures, colour at half the resolution.

    Args:
        frames_FHWC: uint8 RGB, [F, H, W, 3]; ``step.frames`` must divide F.

    Returns:
        Size [bits], and what is decoded, same shape.

    Raises:
        ValueError: ``step.frames`` does not divide F.
    """
    count, height, width, _ = frames_FHWC.shape
    if count % step.frames:
        raise ValueError(f"frames is {step.frames}; must divide the clip's {count}")
    bits, decoded = 0, []
    for index in range(step.frames):
        picture = Image.fromarray(frames_FHWC[(2 * index + 1) * count // (2 * step.frames)])
        small = (max(1, width // step.shrink), max(1, height // step.shrink))
        if step.shrink > 1:
            picture = picture.resize(small, Image.Resampling.BOX)
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=step.quality, subsampling="4:2:0", optimize=True)
        bits += scan_bits(file.getvalue())
        received: Image.Image = Image.open(file)
        if step.shrink > 1:
            received = received.resize((width, height), Image.Resampling.BICUBIC)
        decoded.append(np.asarray(received))
    return bits, np.repeat(np.stack(decoded), count // step.frames, axis=0)


def scan_bits(jpeg: bytes) -> int:
    """Entropy-coded bits of a baseline JPEG file: what stands between its scan's header and its end."""
    begin = jpeg.rindex(_START_OF_SCAN)
    header = int.from_bytes(jpeg[begin + 2 : begin + 4], "big")
    scan = jpeg[begin + 2 + header : -2]
    return 8 * (len(scan) - scan.count(_STUFFED))


def through_opus(pcm_S: Pcm, step: OpusStep) -> tuple[int, Pcm]:
    """Send the end of a clip's sound as Opus packets.

    Args:
        pcm_S: int16 mono at SAMPLE_RATE_HZ, [S].

    Returns:
        Size [bits], and what is decoded, [S].
    """
    sent = pcm_S[-min(len(pcm_S), round(step.seconds * SAMPLE_RATE_HZ)) :]
    packets = _opus_packets(sent, step.bitrate_bps)
    decoder = av.CodecContext.create("libopus", "r")
    decoder.sample_rate, decoder.layout = _DECODER_RATE_HZ, "mono"
    resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE_HZ)
    sounds = [frame for packet in packets for frame in decoder.decode(av.Packet(packet))]
    parts = [part.to_ndarray()[0] for frame in [*sounds, None] for part in resampler.resample(frame)]
    received = np.concatenate(parts)[_OPUS_DELAY : _OPUS_DELAY + len(sent)]
    received = np.pad(received, (0, len(sent) - len(received)))
    loops = -(-len(pcm_S) // len(sent))
    return 8 * sum(map(len, packets)), np.tile(received, loops)[-len(pcm_S) :]


def _opus_packets(pcm_S: Pcm, bitrate_bps: int) -> list[bytes]:
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = SAMPLE_RATE_HZ, "mono", "s16"
    encoder.bit_rate = bitrate_bps
    encoder.time_base = Fraction(1, SAMPLE_RATE_HZ)
    encoder.options = {"frame_duration": str(_OPUS_PACKET_MS), "application": "audio", "vbr": "on"}
    encoder.open()
    packets = []
    for begin in range(0, len(pcm_S), encoder.frame_size):
        block = pcm_S[begin : begin + encoder.frame_size]
        # Sound goes on behind the end for as long as the decoder lags; silence costs next to nothing.
        block = np.pad(block, (0, encoder.frame_size - len(block)))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block[None]), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE_HZ, begin, encoder.time_base
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return packets + [bytes(packet) for packet in encoder.encode(None)]
