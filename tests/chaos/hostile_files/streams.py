"""Streams without an index (MPEG-TS, MPEG-PS, ADTS, Motion JPEG): many programs, sizes that change."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

from tests.chaos.hostile_files.spoiling import log_uniform
from tests.hostile_media import Kind, jpeg_of_scans, mjpeg_video, picture, silence, stillness

_PACKET = 188


def ts(rng: random.Random) -> bytes:
    """A transport stream: many identifiers, many programs, tables that change, cut packets."""
    plain = stillness("mpegts", "mpeg2video", 64, 64, 25, 9)
    packets = [plain[at : at + _PACKET] for at in range(0, len(plain), _PACKET)]
    count = log_uniform(rng, 100, 55_000)
    match rng.randrange(4):
        case 0:
            made = [_renumbered(packets[n % len(packets)], n % 8191) for n in range(count)]
        case 1:
            made = [_table(n, rng) for n in range(count)] + packets
        case 2:
            made = packets + [_renumbered(rng.choice(packets), rng.randrange(8192)) for _ in range(count)]
        case _:
            made = [each[: rng.choice((188, 187, 100))] for each in packets * (count // len(packets) + 1)]
    return b"".join(made)


def _renumbered(packet: bytes, identifier: int) -> bytes:
    return (
        packet[:1] + struct.pack(">H", int.from_bytes(packet[1:3], "big") & 0xE000 | identifier) + packet[3:]
    )


def _table(number: int, rng: random.Random) -> bytes:
    """A packet of identifier 0 with programs of its own."""
    programs = b"".join(
        struct.pack(">HH", rng.getrandbits(16), 0xE000 | rng.randrange(8192)) for _ in range(40)
    )
    body = struct.pack(">HBBB", number % 65_536, 0xC1 | (number % 32) << 1, 0, 0) + programs + bytes(4)
    section = b"\0" + struct.pack(">H", 0xB000 | len(body)) + body
    return (b"\x47\x40\0\x10\0" + section).ljust(_PACKET, b"\xff")


def ps(rng: random.Random) -> bytes:
    """A program stream: many packs, many stream identifiers, sizes that change midway."""
    plain = stillness("mpeg", "mpeg1video", 64, 64, 25, 9)
    if rng.random() < 0.5:
        pack = plain[:14]
        empty = b"\0\0\1" + bytes([rng.choice((0xBD, 0xBE, 0xC0, 0xE0, 0xFD))]) + b"\0\3\x80\0\0"
        return (pack + empty * 20) * log_uniform(rng, 10, 50_000) + plain
    other = stillness("mpeg", "mpeg1video", 640, 480, 25, 9)
    return (plain + other) * log_uniform(rng, 1, 400)


def resized(rng: random.Random) -> bytes:
    """A video whose pictures change their size all the time."""
    sizes = ((64, 64), (640, 480), (1280, 720), (176, 144))
    parts = [
        stillness("mpegts", "mpeg2video", *rng.choice(sizes), 25, 4) for _ in range(log_uniform(rng, 2, 400))
    ]
    return b"".join(parts)


def long_video(rng: random.Random) -> bytes:
    """A video in which nothing happens: as large and as long as it gets for its bytes."""
    codec, form = rng.choice((("libx264", "mp4"), ("mpeg4", "avi"), ("libx264", "matroska")))
    width, height = rng.choice(((1920, 1080), (1280, 720), (2048, 1088), (256, 4096), (64, 64)))
    return stillness(form, codec, width, height, rng.choice((8, 60, 240)), rng.choice((24, 120, 480)))


def motion_jpeg(rng: random.Random) -> bytes:
    """Motion JPEG of pictures that are larger, or have more scans, than their stream says."""
    side = log_uniform(rng, 64, 3000)
    still = (
        jpeg_of_scans(side, log_uniform(rng, 2, 400)) if rng.random() < 0.6 else picture("JPEG", side, side)
    )
    frames = max(1, min(log_uniform(rng, 1, 200), 11 * 2**20 // len(still)))
    return mjpeg_video(still, *rng.choice(((side, side), (64, 64))), frames)


def long_sound(rng: random.Random) -> bytes:
    """Silence, as much of it as there is room for: hours, many channels, high rates."""
    form, codec, rate_hz = rng.choice(
        (
            ("flac", "flac", 192_000),
            ("flac", "flac", 8000),
            ("ogg", "libopus", 48_000),
            ("adts", "aac", 48_000),
        )
    )
    layout = rng.choice(("mono", "stereo")) if codec == "libopus" else rng.choice(("mono", "5.1"))
    return silence(form, codec, rate_hz, layout, rng.choice((20.0, 60.0)))


def adts(rng: random.Random) -> bytes:
    """AAC without a container: frames cut, channels and rates that change."""
    made = bytearray(silence("adts", "aac", 16_000, "mono", 1.0) * log_uniform(rng, 1, 2000))
    for _ in range(log_uniform(rng, 1, 2000)):
        at = rng.randrange(len(made) - 8)
        made[at : at + 3] = rng.choice((b"\xff\xf1\x50", b"\xff\xf9\xff", rng.randbytes(3)))
    return bytes(made)


MAKERS: Sequence[tuple[str, Kind, Callable[[random.Random], bytes]]] = (
    ("MPEG-TS", "video", ts),
    ("MPEG-PS", "video", ps),
    ("sizes that change", "video", resized),
    ("long video", "video", long_video),
    ("Motion JPEG", "video", motion_jpeg),
    ("long sound", "audio", long_sound),
    ("AAC", "audio", adts),
)
