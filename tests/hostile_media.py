"""Media that was made to do harm: small files that ask for much, and files that point elsewhere.

Each is made on the spot from the formats' own rules, so that nobody has to keep it. ``BOMBS`` are to be
refused by name of their field, at once and without memory; ``pointers`` name another file or address, which
nobody may open; ``COSTLY`` are honest files at the limits, which are answered.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import av
import numpy as np
from PIL import Image

from device_agent.media.limits import MediaLimits

Kind = Literal["image", "video", "audio"]


@dataclass(frozen=True)
class Hostile:
    """A file that a stranger may send.

    Attributes:
        kind: what it says it is.
        make: its bytes.
    """

    kind: Kind
    make: Callable[[], bytes]


def zeros(size: int) -> bytes:
    """So many zero bytes, deflated: about a thousandth of them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    mebibyte = packer.compress(bytes(2**20)) + packer.flush(
        zlib.Z_FULL_FLUSH
    )  # stands for itself: repeatable
    rest = packer.compress(bytes(size % 2**20)) + packer.flush()
    checksum = size % 65_521 << 16 | 1  # Adler-32 of zeros
    return b"\x78\xda" + mebibyte * (size // 2**20) + rest + struct.pack(">I", checksum)


def png(
    width: int, height: int, pixels: bytes, *, depth: int = 8, colour: int = 2, extra: bytes = b""
) -> bytes:
    """A PNG file around deflated pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(kind: bytes, inflated_bytes: int, times: int = 1) -> bytes:
    """A tiny PNG with a compressed text or profile."""
    extra = png_chunk(kind, b"name\0\0" + zeros(inflated_bytes)) * times
    return png(8, 6, zlib.compress(bytes(25 * 6)), extra=extra)


def picture(file_format: str, width: int, height: int, mode: str = "RGB", **options: Any) -> bytes:
    """One plain picture, as Pillow writes it."""
    file = io.BytesIO()
    Image.new(mode, (width, height)).save(file, file_format, **options)
    return file.getvalue()


@cache
def jpeg_of_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan comes so many times."""
    plain = picture("JPEG", side, side, progressive=True)
    last = plain[plain.rfind(b"\xff\xda") : -2]
    return plain[:-2] + last * scans + plain[-2:]


def gif_header(width: int, height: int) -> bytes:
    """A GIF of a few bytes that declares a canvas."""
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\0;"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF0, 0, 0) + b"\0\0\0\xff\xff\xff" + frame


def webp_header(width: int, height: int) -> bytes:
    """A lossless WebP whose header declares more than it holds."""
    data = bytearray(picture("WEBP", 16, 16, lossless=True))
    start = data.find(b"VP8L") + 9
    size = int.from_bytes(data[start : start + 4], "little") >> 28 << 28
    data[start : start + 4] = (size | height - 1 << 14 | width - 1).to_bytes(4, "little")
    return bytes(data)


def tiff_header(width: int, height: int) -> bytes:
    """A TIFF of one strip that is not there."""
    tags = ((256, width), (257, height), (258, 8), (259, 8), (262, 1), (273, 8), (278, height), (279, 100))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)


def bmp_header(width: int, height: int) -> bytes:
    """A BMP without its pixels."""
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info + bytes(100)


def wav(rate_hz: int, channels: int, samples: int, *, bits: int = 16) -> bytes:
    """Silence, whatever the header says of it."""
    block = channels * bits // 8
    sound = bytes(samples * block)
    layout = struct.pack("<IHHIIHH", 16, 1, channels, rate_hz, rate_hz * block % 2**32, block % 2**16, bits)
    head = b"RIFF" + struct.pack("<I", 36 + len(sound)) + b"WAVEfmt " + layout
    return head + b"data" + struct.pack("<I", len(sound)) + sound


@cache
def silence(file_format: str, codec: str, rate_hz: int, layout: str, seconds: float) -> bytes:
    """Encoded silence: long, and nearly nothing on the wire."""
    channels = len(av.AudioLayout(layout).channels)
    file = io.BytesIO()
    with av.open(file, "w", format=file_format) as container:
        stream = container.add_stream(codec, rate=rate_hz, layout=layout)
        for start in range(0, round(rate_hz * seconds), 16_384):
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, 16_384 * channels), np.int16), format="s16", layout=layout
            )
            frame.rate, frame.pts = rate_hz, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


@cache
def stillness(
    file_format: str, codec: str, width: int, height: int, rate_hz: int, frames: int, pixels: str = "yuv420p"
) -> bytes:
    """A video in which nothing happens: large, and nearly nothing on the wire."""
    file = io.BytesIO()
    options = {"preset": "ultrafast", "g": "10000", "refs": "16"} if codec == "libx264" else {}
    with av.open(file, "w", format=file_format) as container:
        stream = container.add_stream(codec, rate=rate_hz, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        frame = av.VideoFrame(width, height, pixels)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        for number in range(frames):
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def mjpeg_video(jpeg: bytes, width: int, height: int, frames: int) -> bytes:
    """A Motion JPEG video of one picture, taken as it is."""
    file = io.BytesIO()
    with av.open(file, "w", format="avi") as container:
        stream = container.add_stream("mjpeg", rate=8)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
        for number in range(frames):
            packet = av.Packet(jpeg)
            packet.stream, packet.pts, packet.dts = stream, number, number
            container.mux(packet)
    return file.getvalue()


def box(kind: bytes, *parts: bytes) -> bytes:
    """A box of an MP4 file."""
    content = b"".join(parts)
    return struct.pack(">I", 8 + len(content)) + kind + content


def full_box(kind: bytes, *parts: bytes) -> bytes:
    """A box with version 0 and no flags."""
    return box(kind, bytes(4), *parts)


def mov(
    samples: int,
    *,
    sample_bytes: int = 1,
    codec: bytes = b"mp4a",
    duration: int = 1024,
    tracks: int = 1,
    data_reference: bytes = box(b"url ", b"\0\0\0\1"),
    tables: bytes = b"",
    extra: bytes = b"",
) -> bytes:
    """A QuickTime file of 4,096 bytes of sound whose tables declare so many samples."""
    head = box(b"ftyp", b"qt  \0\0\0\0qt  ")
    entry = box(
        codec, bytes(6), struct.pack(">H", 1), bytes(8), struct.pack(">HHHHI", 1, 16, 0, 0, 16_000 << 16)
    )
    table = box(
        b"stbl",
        full_box(b"stsd", struct.pack(">I", 1), entry),
        full_box(b"stts", struct.pack(">III", 1, samples, duration)),
        full_box(b"stsc", struct.pack(">IIII", 1, 1, samples, 1)),
        full_box(b"stsz", struct.pack(">II", sample_bytes, samples)),
        full_box(b"stco", struct.pack(">II", 1, len(head) + 8)),
        tables,
    )
    references = box(b"dinf", full_box(b"dref", struct.pack(">I", 1), data_reference))
    media = box(
        b"mdia",
        full_box(b"mdhd", bytes(8), struct.pack(">II", 16_000, samples), bytes(4)),
        full_box(b"hdlr", b"mhlrsoun", bytes(12), b"\0"),
        box(b"minf", full_box(b"smhd", bytes(4)), references, table),
    )
    traks = [
        box(b"trak", box(b"tkhd", b"\0\0\0\1", bytes(8), struct.pack(">I", number + 1), bytes(68)), media)
        for number in range(tracks)
    ]
    rates = struct.pack(">IH", 65_536, 256) + bytes(70) + struct.pack(">I", tracks + 1)
    movie = full_box(b"mvhd", bytes(8), struct.pack(">II", 1000, 1000), rates)
    return head + box(b"mdat", bytes(4096)) + box(b"moov", movie, *traks, extra)


def fragments(samples: int) -> bytes:
    """An MP4 file with one fragment of so many samples that take no bytes in its table."""
    defaults = box(b"mvex", full_box(b"trex", struct.pack(">IIIII", 1, 1, 1, 1, 0)))
    run = box(b"trun", b"\0\0\0\1", struct.pack(">II", samples, 100))
    track = box(b"traf", box(b"tfhd", b"\0\2\0\0", struct.pack(">I", 1)), run)
    fragment = box(b"moof", full_box(b"mfhd", struct.pack(">I", 1)), track)
    return mov(0, extra=defaults) + fragment + box(b"mdat", bytes(1000))


def _ebml(number: bytes, content: bytes | int) -> bytes:
    body = content.to_bytes(4, "big") if isinstance(content, int) else content
    return number + (len(body) | 1 << 56).to_bytes(8, "big") + body


def matroska(
    blocks: list[bytes], *, rate_hz: float = 16_000.0, compressed: bool = False, tracks: int = 1
) -> bytes:
    """A Matroska file of PCM sound, its blocks deflated or not."""
    names = (
        (b"\x42\x86", 1),
        (b"\x42\xf7", 1),
        (b"\x42\xf2", 4),
        (b"\x42\xf3", 8),
        (b"\x42\x82", b"matroska"),
    )
    head = _ebml(
        b"\x1a\x45\xdf\xa3", b"".join(_ebml(*each) for each in (*names, (b"\x42\x87", 4), (b"\x42\x85", 2)))
    )
    packing = b""
    if compressed:
        method = _ebml(b"\x50\x34", _ebml(b"\x42\x54", 0))
        fields = _ebml(b"\x50\x31", 0) + _ebml(b"\x50\x32", 1) + _ebml(b"\x50\x33", 0) + method
        packing = _ebml(b"\x6d\x80", _ebml(b"\x62\x40", fields))
    sound = _ebml(b"\xb5", struct.pack(">d", rate_hz)) + _ebml(b"\x9f", 1) + _ebml(b"\x62\x64", 16)
    entries = b"".join(
        _ebml(
            b"\xae",
            _ebml(b"\xd7", number + 1)
            + _ebml(b"\x73\xc5", number + 1)
            + _ebml(b"\x83", 2)
            + _ebml(b"\x86", b"A_PCM/INT/LIT")
            + packing
            + _ebml(b"\xe1", sound),
        )
        for number in range(tracks)
    )
    info = _ebml(b"\x15\x49\xa9\x66", _ebml(b"\x2a\xd7\xb1", 1_000_000))
    cluster = _ebml(b"\xe7", 0) + b"".join(_ebml(b"\xa3", b"\x81\0\0\x80" + block) for block in blocks)
    parts = info + _ebml(b"\x16\x54\xae\x6b", entries) + _ebml(b"\x1f\x43\xb6\x75", cluster)
    return head + _ebml(b"\x18\x53\x80\x67", parts)


BOMBS: dict[str, Hostile] = {
    "PNG, 60,000 pixels a side by its header": Hostile("image", lambda: png(60_000, 60_000, bytes(1000))),
    "PNG, 20,000 pixels a side, deflated": Hostile("image", lambda: png(20_000, 20_000, zeros(2**28))),
    "PNG, text of a gigabyte": Hostile("image", lambda: png_with(b"zTXt", 2**30)),
    "PNG, colour profile of a gigabyte": Hostile("image", lambda: png_with(b"iCCP", 2**30)),
    "PNG, a thousand texts of three megabytes": Hostile("image", lambda: png_with(b"zTXt", 3 * 2**20, 1000)),
    "PNG behind a tag of an MP3": Hostile(
        "image", lambda: b"ID3\3\0\0\0\0\0\x10" + bytes(16) + png_with(b"zTXt", 2**30)
    ),
    "JPEG, two thousand scans": Hostile("image", lambda: jpeg_of_scans(2000, 2000)),
    "WebP, 16,383 pixels a side": Hostile("image", lambda: webp_header(16_383, 16_383)),
    "GIF, 60,000 pixels a side": Hostile("image", lambda: gif_header(60_000, 60_000)),
    "TIFF, 6,000 pixels a side, deflated": Hostile(
        "image", lambda: picture("TIFF", 6000, 6000, compression="tiff_adobe_deflate")
    ),
    "TIFF, 60,000 pixels a side by its header": Hostile("image", lambda: tiff_header(60_000, 60_000)),
    "BMP, 60,000 pixels a side by its header": Hostile("image", lambda: bmp_header(60_000, 60_000)),
    "PPM, 60,000 pixels a side by its header": Hostile(
        "image", lambda: b"P6\n60000 60000\n255\n" + bytes(99)
    ),
    "SVG": Hostile("image", lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="9e9" height="9e9"/>'),
    "WAV, a sample a second": Hostile("audio", lambda: wav(1, 1, 2**18)),
    "WAV, two thousand million samples a second": Hostile("audio", lambda: wav(2**31 - 1, 1, 2**18)),
    "WAV, 255 channels": Hostile("audio", lambda: wav(16_000, 255, 2**10)),
    "FLAC, eight channels at 655,350 Hz": Hostile(
        "audio", lambda: silence("flac", "flac", 655_350, "7.1", 8)
    ),
    "Matroska, sound of a sample a second": Hostile("audio", lambda: matroska([bytes(64_000)], rate_hz=1.0)),
    "Matroska, blocks deflated a thousandfold": Hostile(
        "audio", lambda: matroska([zeros(9_500_000)] * 200, compressed=True)
    ),
    "MP4, fifty million samples": Hostile("audio", lambda: mov(50_000_000)),
    "MP4, fifty million samples in a fragment": Hostile("audio", lambda: fragments(50_000_000)),
    "MP4, fifty million offsets": Hostile(
        "audio", lambda: mov(1000, tables=full_box(b"ctts", struct.pack(">III", 1, 50_000_000, 1)))
    ),
    "MP4, three thousand tracks": Hostile("audio", lambda: mov(1000, tracks=3000)),
    "AVI, Motion JPEG of three thousand scans": Hostile(
        "video", lambda: mjpeg_video(jpeg_of_scans(1400, 3000), 1400, 1400, 2)
    ),
    "AVI, a codec of a game": Hostile("video", lambda: stillness("avi", "cinepak", 64, 64, 8, 8, "rgb24")),
}
"""Name to file."""

LARGE: dict[str, Hostile] = {
    "PNG, 16 bits, 2,900 pixels a side": Hostile(
        "image", lambda: png(2900, 2900, zeros(2900 * (2900 * 8 + 1)), depth=16, colour=6)
    ),
    "JPEG, 6,000 pixels a side": Hostile("image", lambda: picture("JPEG", 6000, 6000)),
    "JPEG, progressive, 4,000 pixels a side": Hostile(
        "image", lambda: picture("JPEG", 4000, 4000, progressive=True)
    ),
    "MP4, 4,096 × 2,160 at 240 Hz": Hostile("video", lambda: stillness("mp4", "libx264", 4096, 2160, 240, 3)),
    "MP4, 1080p at 120 Hz": Hostile("video", lambda: stillness("mp4", "libx264", 1920, 1080, 120, 480)),
    "MP4, 1,000 frames a second": Hostile("video", lambda: stillness("mp4", "libx264", 64, 64, 1000, 4000)),
    "AVI, Motion JPEG of 4,000 pixels a side": Hostile(
        "video", lambda: mjpeg_video(picture("JPEG", 4000, 4000), 4000, 4000, 8)
    ),
    "Matroska, FFV1 of 3,000 pixels a side": Hostile(
        "video", lambda: stillness("matroska", "ffv1", 3000, 3000, 8, 1)
    ),
}
"""What phones and cameras make too: answered, or refused by who has set lower limits, such as these."""

LOW = MediaLimits(
    max_bytes=12 * 2**20,
    max_frame_pixels=12_000_000,
    max_frame_bytes=32 * 2**20,
    max_video_pixels=2048 * 1088,
    max_total_pixels=300_000_000,
    max_frames=2_000,
    max_decode_s=5.0,
    max_memory_bytes=256 * 2**20,
)

COSTLY: dict[str, Hostile] = {
    "an hour of silence, of which four seconds are heard": Hostile(
        "audio", lambda: silence("flac", "flac", 8_000, "mono", 3600)
    ),
    "a photo of 12 megapixels": Hostile("image", lambda: picture("JPEG", 4000, 3000)),
    "a picture in PNG at the limit": Hostile("image", lambda: picture("PNG", 2890, 2900, "RGBA")),
    "1080p at 60 Hz": Hostile("video", lambda: stillness("mp4", "libx264", 1920, 1080, 60, 240)),
}
"""Honest, and as large as it gets: answered."""


def pointers(local_file: str, address: str) -> dict[str, bytes]:
    """Files that name another file or an address.

    Args:
        local_file: absolute path of a file of this machine.
        address: such as ``http://127.0.0.1:1234``.
    """
    playlist = f"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1,\n{address}/hls.ts\n#EXT-X-ENDLIST\n"
    local_playlist = f"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1,\nfile://{local_file}\n#EXT-X-ENDLIST\n"
    dash = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
        f'bandwidth="1"><BaseURL>{address}/dash.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>'
    )
    session = (
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {address[-5:]} RTP/AVP 0\n"
    )
    svg = f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{address}/svg.png"/></svg>'
    alias = box(
        b"alis", bytes(4), bytes(150), struct.pack(">HH", 2, len(local_file)), local_file.encode() + b"\0\0"
    )
    return {
        "an HLS playlist of an address": playlist.encode(),
        "an HLS playlist of a file": local_playlist.encode(),
        "a list of files to join": f"ffconcat version 1.0\nfile '{local_file}'\n".encode(),
        "a list of addresses to join": f"ffconcat version 1.0\nfile '{address}/concat.mp4'\n".encode(),
        "a DASH manifest": dash.encode(),
        "a session description": session.encode(),
        "a picture that shows another": svg.encode(),
        "a QuickTime track kept in another file": mov(
            2048, sample_bytes=2, codec=b"sowt", duration=1, data_reference=alias
        ),
        "a QuickTime track kept at an address": mov(
            2048,
            sample_bytes=2,
            codec=b"sowt",
            duration=1,
            data_reference=full_box(b"url ", f"{address}/dref.mov\0".encode()),
        ),
    }
