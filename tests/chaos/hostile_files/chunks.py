"""Files of chunks (RIFF: WAV, AVI, WebP; AIFF, CAF, FLAC): many, in one another, with sizes that lie."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

from tests.chaos.hostile_files.spoiling import log_uniform
from tests.hostile_media import Kind, silence, stillness, wav, webp_header

_SIZES = (0, 1, 2**16, 2**31 - 1, 2**32 - 1)


def chunk(name: bytes, content: bytes, layout: str = "<4sI") -> bytes:
    """A chunk, padded to an even size."""
    return struct.pack(layout, name, len(content)) + content + bytes(len(content) % 2)


def riff(form: bytes, content: bytes) -> bytes:
    """A RIFF file."""
    return b"RIFF" + struct.pack("<I", min(4 + len(content), 2**32 - 1)) + form + content


def _name(number: int) -> bytes:
    return bytes(65 + number // 26**place % 26 for place in range(4))


def _info(rng: random.Random, most: int = 100_000) -> bytes:
    entries = (chunk(_name(number), b"v\0") for number in range(log_uniform(rng, 100, most)))
    return chunk(b"LIST", b"INFO" + b"".join(entries))


def wav_info(rng: random.Random) -> bytes:
    """A WAV whose titles are many."""
    plain = wav(16_000, 1, 4000)
    return riff(b"WAVE", _info(rng) + plain[12:])


def wav_sizes(rng: random.Random) -> bytes:
    """A WAV of rates, channels and bits that are not."""
    made = bytearray(wav(16_000, 1, log_uniform(rng, 10, 100_000)))
    at = rng.choice((20, 22, 24, 28, 32, 34, 40))
    made[at : at + 4] = rng.choice(_SIZES).to_bytes(4, "little")
    made[20:22] = struct.pack("<H", rng.choice((1, 1, 2, 3, 6, 7, 0x11, 0x55, 0xFFFE)))
    return bytes(made)


def wav_chunks(rng: random.Random) -> bytes:
    """A WAV with a great many chunks before its sound: cues, lists, broadcasts, ID3 tags."""
    name = rng.choice((b"cue ", b"LIST", b"bext", b"id3 ", b"iXML", b"smpl", b"junk", b"XMP "))
    many = chunk(name, rng.randbytes(rng.randrange(80))) * log_uniform(rng, 10, 50_000)
    return riff(b"WAVE", many + wav(16_000, 1, 4000)[12:])


def avi(rng: random.Random) -> bytes:
    """An AVI: many titles, many streams, an index of entries that are not, or lists in lists."""
    plain = stillness("avi", "mpeg4", 64, 64, 8, 4)
    match rng.randrange(4):
        case 0:
            return riff(b"AVI ", _info(rng) + plain[12:])
        case 1:
            entry = struct.pack("<4sIII", b"00dc", 16, log_uniform(rng, 1, 2**31), rng.choice(_SIZES))
            return plain + chunk(b"idx1", entry * log_uniform(rng, 100, 200_000))
        case 2:
            at = plain.index(b"strl") - 8
            size = int.from_bytes(plain[at + 4 : at + 8], "little") + 8
            return plain[:at] + plain[at : at + size] * log_uniform(rng, 2, 3000) + plain[at:]
        case _:
            inner = b""
            for _ in range(log_uniform(rng, 10, 5000)):
                inner = chunk(b"LIST", rng.choice((b"hdrl", b"strl", b"movi", b"rec ", b"odml")) + inner)
            return riff(b"AVI ", inner + plain[12:])


def webp(rng: random.Random) -> bytes:
    """A WebP: an animation of many frames on a canvas, odd sizes, many chunks."""
    still = webp_header(log_uniform(rng, 16, 16_383), log_uniform(rng, 16, 16_383))
    if rng.random() < 0.3:
        return still
    side = log_uniform(rng, 16, 2**24) - 1
    canvas = chunk(b"VP8X", bytes([2, 0, 0, 0]) + side.to_bytes(3, "little") * 2)
    frame = chunk(b"ANMF", bytes(6) + side.to_bytes(3, "little") * 2 + bytes(4) + still[12:])
    more = chunk(rng.choice((b"ICCP", b"EXIF", b"XMP ", b"ALPH")), rng.randbytes(20)) * log_uniform(
        rng, 1, 50_000
    )
    frames = frame * log_uniform(rng, 1, 3000)
    return riff(
        b"WEBP", canvas + chunk(b"ANIM", bytes(6)) + rng.choice((frames, more + frames, frames + more))
    )


def aiff(rng: random.Random) -> bytes:
    """An AIFF with many names, markers and comments."""
    plain = silence("aiff", "pcm_s16be", 16_000, "mono", 0.5)
    name = rng.choice((b"NAME", b"ANNO", b"MARK", b"COMT", b"AUTH", b"ID3 ", b"INST"))
    many = b"".join(chunk(name, b"%08d" % number, ">4sI") for number in range(log_uniform(rng, 10, 100_000)))
    return b"FORM" + struct.pack(">I", len(many) + len(plain) - 8) + plain[8:12] + many + plain[12:]


def caf(rng: random.Random) -> bytes:
    """A CAF with much information, or packets that are not."""
    plain = silence("caf", "pcm_s16le", 16_000, "mono", 0.5)
    count = log_uniform(rng, 10, 200_000)
    if rng.random() < 0.5:
        strings = b"".join(b"k%d\0v\0" % number for number in range(count))
        extra = struct.pack(">4sQ", b"info", 4 + len(strings)) + struct.pack(">I", count) + strings
    else:
        table = struct.pack(">QQII", 2**40 + count, 2**40, 0, 0) + b"\x01" * min(count, 1000)
        extra = struct.pack(">4sQ", b"pakt", len(table)) + table
    return plain[:52] + extra + plain[52:]


def w64(rng: random.Random) -> bytes:
    """A W64 whose chunks say that they are larger than any file."""
    made = bytearray(silence("w64", "pcm_s16le", 16_000, "mono", 0.5))
    at = rng.choice((16, 40, 56, 64, 96))
    made[at : at + 8] = rng.choice((0, 24, 2**63, 2**63 - 1, 2**64 - 1, 2**40)).to_bytes(8, "little")
    return bytes(made)


def flac(rng: random.Random) -> bytes:
    """A FLAC: comments, pictures, cue sheets, seek tables; a rate and channels that are not."""
    plain = silence("flac", "flac", 16_000, "mono", 1.0)
    count = log_uniform(rng, 10, 200_000)

    def block(kind: int, content: bytes) -> bytes:
        content = content[: 2**24 - 1]
        return bytes([kind]) + len(content).to_bytes(3, "big") + content

    match rng.randrange(4):
        case 0:
            entries = b"".join(
                struct.pack("<I", 9) + b"K%06d=v" % (number % 10**6) for number in range(count)
            )
            extra = block(4, struct.pack("<I", 1) + b"x" + struct.pack("<I", count) + entries)
        case 1:
            head = struct.pack(">II", 3, 9) + b"image/png" + struct.pack(">6I", 0, 2**30, 2**30, 32, 0, 8)
            extra = block(6, head + bytes(8)) * min(count, 20_000)
        case 2:
            extra = block(5, bytes(395) + b"\xff" + b"\x01" * min(36 * count, 2**23))
        case _:
            extra = block(3, struct.pack(">QQH", 0, 0, 4096) * min(count, 500_000))
    made = bytearray(plain[:42] + extra + plain[42:])
    made[4] &= 127  # not the last block
    if rng.random() < 0.3:
        made[18:21] = rng.randbytes(3)
    return bytes(made)


MAKERS: Sequence[tuple[str, Kind, Callable[[random.Random], bytes]]] = (
    ("WAV, titles", "audio", wav_info),
    ("WAV, sizes", "audio", wav_sizes),
    ("WAV, chunks", "audio", wav_chunks),
    ("AVI", "video", avi),
    ("WebP", "image", webp),
    ("AIFF", "audio", aiff),
    ("CAF", "audio", caf),
    ("W64", "audio", w64),
    ("FLAC", "audio", flac),
)
