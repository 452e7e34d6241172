"""Tags: ID3 before sound of several kinds, comments of Ogg, elements of Matroska, tables of FLV."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Sequence

from tests.chaos.hostile_files.spoiling import log_uniform
from tests.hostile_media import Kind, matroska, silence, stillness, wav, zeros


def synchsafe(value: int) -> bytes:
    """Four bytes of seven bits (ID3v2.4, 6.2)."""
    return bytes(value >> shift & 127 for shift in (21, 14, 7, 0))


def _frame(version: int, name: bytes, content: bytes, flags: int = 0) -> bytes:
    size = synchsafe(len(content)) if version == 4 else struct.pack(">I", len(content))
    return name + size + struct.pack(">H", flags) + content


def _id3(version: int, frames: bytes, flags: int = 0) -> bytes:
    return b"ID3" + bytes([version, 0, flags]) + synchsafe(min(len(frames), 2**28 - 1)) + frames


def id3(rng: random.Random) -> bytes:
    """Sound behind a tag: many frames, or frames that are deflated a thousandfold."""
    version = rng.choice((3, 4))
    match rng.randrange(4):
        case 0:
            count = log_uniform(rng, 100, 150_000)
            frames = b"".join(_frame(version, b"TXXX", b"\3k%06d\0v" % n) for n in range(count))
        case 1:
            inflated = log_uniform(rng, 2**20, 2**26)
            flags = 0x0009 if version == 4 else 0x0080
            content = synchsafe(min(inflated, 2**28 - 1)) if version == 4 else struct.pack(">I", inflated)
            one = _frame(version, b"TXXX", content + zeros(inflated), flags)
            frames = one * max(1, min(log_uniform(rng, 1, 200), 11 * 2**20 // len(one)))
        case 2:
            picture = b"\0image/png\0\3\0" + b"\x89PNG\r\n\x1a\n" + rng.randbytes(64)
            frames = _frame(version, b"APIC", picture) * log_uniform(rng, 2, 20_000)
        case _:
            inside = _frame(version, b"TIT2", b"\3x")
            chapter = b"c\0" + bytes(16) + inside
            frames = _frame(version, b"CHAP", chapter) * log_uniform(rng, 2, 50_000)
    flags = rng.choice((0, 0, 0x80, 0x40))
    sound = rng.choice(
        (
            silence("mp3", "libmp3lame", 16_000, "mono", 1.0),
            silence("adts", "aac", 16_000, "mono", 1.0),
            silence("flac", "flac", 16_000, "mono", 1.0),
            wav(16_000, 1, 4000),
        )
    )
    tag = _id3(version, frames, flags)
    return tag * rng.choice((1, 1, 2)) + sound


def mp3(rng: random.Random) -> bytes:
    """An MP3: a header that says how many frames there are, tags behind, or many short frames."""
    made = bytearray(silence("mp3", "libmp3lame", 16_000, "mono", 1.0))
    at = max(made.find(b"Xing"), made.find(b"Info"))
    if at > 0:
        made[at + 8 : at + 16] = rng.randbytes(8)
    apev2 = b"".join(struct.pack("<II", 1, 0) + b"k%06d\0v" % n for n in range(log_uniform(rng, 1, 100_000)))
    return bytes(made) + b"APETAGEX" + struct.pack("<IIII", 2000, len(apev2) + 32, 1, 1 << 31) + apev2


def ogg(rng: random.Random) -> bytes:
    """An Ogg file: many comments, many pages, many streams at once, positions that are not."""
    plain = silence("ogg", "libopus", 48_000, "mono", 1.0)
    pages = _pages(plain)
    match rng.randrange(3):
        case 0:
            count = log_uniform(rng, 10, 100_000)
            entries = b"".join(struct.pack("<I", 9) + b"K%06d=v" % (n % 10**6) for n in range(count))
            text = b"OpusTags" + struct.pack("<I", 1) + b"x" + struct.pack("<I", count) + entries
            pages[1:2] = _paged(text, pages[1])
        case 1:
            many = [_with(pages[0], serial=rng.getrandbits(32)) for _ in range(log_uniform(rng, 2, 20_000))]
            pages[1:1] = many
        case _:
            last = pages[-1]
            positions = (rng.choice((0, 1, -1, 2**62, rng.getrandbits(40))) for _ in range(5000))
            pages[-1:] = [_with(last, position=each) for each in positions]
    return b"".join(pages)


def _pages(data: bytes) -> list[bytes]:
    found, at = [], 0
    while data[at : at + 4] == b"OggS":
        count = data[at + 26]
        size = 27 + count + sum(data[at + 27 : at + 27 + count])
        found.append(data[at : at + size])
        at += size
    return found


def _summed(page: bytes | bytearray) -> bytes:
    """With its checksum (RFC 3533, 6: CRC of 0x04c11db7, not reflected)."""
    made = bytearray(page)
    made[22:26] = bytes(4)
    crc = 0
    for byte in made:
        crc = (crc << 8 & 0xFFFFFFFF) ^ _CRC[crc >> 24 ^ byte]
    made[22:26] = crc.to_bytes(4, "little")
    return bytes(made)


def _crc_of(byte: int) -> int:
    crc = byte << 24
    for _ in range(8):
        crc = (crc << 1 ^ 0x04C11DB7 if crc >> 31 else crc << 1) & 0xFFFFFFFF
    return crc


_CRC = [_crc_of(byte) for byte in range(256)]


def _with(page: bytes, *, serial: int | None = None, position: int | None = None) -> bytes:
    made = bytearray(page)
    if serial is not None:
        made[14:18] = serial.to_bytes(4, "little")
    if position is not None:
        made[6:14] = (position % 2**64).to_bytes(8, "little")
    return _summed(made)


def _paged(packet: bytes, like: bytes) -> list[bytes]:
    """A long packet over many pages."""
    most = 255 * 255
    parts = [packet[at : at + most] for at in range(0, len(packet), most)]
    made = []
    for number, part in enumerate(parts):
        lacing = bytes([255] * (len(part) // 255))
        lacing += bytes([len(part) % 255]) if len(lacing) < 255 else b""
        head = bytearray(like[:27])
        head[5], head[26] = int(number > 0), len(lacing)
        made.append(_summed(bytes(head) + lacing + part))
    return made


def _element(number: bytes, content: bytes) -> bytes:
    return number + (len(content) | 1 << 56).to_bytes(8, "big") + content


def mkv(rng: random.Random) -> bytes:
    """Matroska: many tags, chapters, cues, attachments or tracks; blocks deflated; elements in elements."""
    count = log_uniform(rng, 10, 100_000)
    match rng.randrange(4):
        case 0:
            data = zeros(log_uniform(rng, 2**16, 2**24))
            return matroska([data] * max(1, min(count % 200, 11 * 2**20 // len(data))), compressed=True)
        case 1:
            return matroska(
                [bytes(2000)] * (count % 500 + 1), rate_hz=rng.choice((1.0, 1e9, float("nan"), -1.0))
            )
        case 2:
            return matroska([bytes(2000)], tracks=count % 5000 + 1)
        case _:
            plain = matroska([bytes(2000)] * 4)
            simple = _element(b"\x67\xc8", _element(b"\x45\xa3", b"K") + _element(b"\x44\x87", b"v"))
            many = {
                "tags": lambda: _element(b"\x12\x54\xc3\x67", _element(b"\x73\x73", simple * count)),
                "chapters": lambda: _element(
                    b"\x10\x43\xa7\x70", _element(b"\x45\xb9", _element(b"\xb6", b"\x73\xc4\x81\x01") * count)
                ),
                "cues": lambda: _element(b"\x1c\x53\xbb\x6b", _element(b"\xbb", b"\xb3\x81\x01") * count),
                "deep": lambda: _nested(count),
                "attached": lambda: _element(
                    b"\x19\x41\xa4\x69", _element(b"\x61\xa7", _element(b"\x46\x6e", b"n")) * count
                ),
            }
            return plain + many[rng.choice(list(many))]()


def _nested(count: int) -> bytes:
    inner = b""
    for _ in range(min(count, 5000)):
        inner = _element(b"\x67\xc8", inner)
    return _element(b"\x12\x54\xc3\x67", _element(b"\x73\x73", inner))


def flv(rng: random.Random) -> bytes:
    """FLV: a table of a great many keys, tables in tables, or an index that lies."""
    plain = stillness("flv", "flv", 64, 64, 8, 8)
    count = log_uniform(rng, 10, 200_000)
    match rng.randrange(3):
        case 0:
            body = b"".join(
                struct.pack(">H", 6) + b"%06d" % (n % 10**6) + b"\0" + bytes(8) for n in range(count)
            )
        case 1:
            body = (struct.pack(">H", 1) + b"a\x08" + struct.pack(">I", 1)) * min(count, 50_000)
        case _:
            body = struct.pack(">H", 9) + b"keyframes\x03" + struct.pack(">H", 5) + b"times\x0a"
            body += struct.pack(">I", 2**32 - 1) + (b"\0" + bytes(8)) * min(count, 100_000)
    script = (
        b"\x02" + struct.pack(">H", 10) + b"onMetaData\x08" + struct.pack(">I", min(count, 2**32 - 1)) + body
    )
    script = script[: 2**24 - 1]
    tag = b"\x12" + len(script).to_bytes(3, "big") + bytes(7) + script + struct.pack(">I", len(script) + 11)
    return plain[:13] + tag + plain[13:]


def deflated_anywhere(rng: random.Random) -> bytes:
    """Sound with nothing behind it that is deflated, of many kinds of heads."""
    head = rng.choice(
        (b"ID3\4\0\0", b"OggS", b"fLaC", b"RIFF", b"\x1a\x45\xdf\xa3", b"FLV\1\5", b"\0\0\1\xba")
    )
    return head + zlib.compress(bytes(log_uniform(rng, 2**16, 2**26)), 9)


MAKERS: Sequence[tuple[str, Kind, Callable[[random.Random], bytes]]] = (
    ("ID3", "audio", id3),
    ("MP3", "audio", mp3),
    ("Ogg", "audio", ogg),
    ("Matroska", "audio", mkv),
    ("FLV", "video", flv),
    ("deflated", "audio", deflated_anywhere),
)
