"""A process that decodes one file after the other for another process, within limits that it cannot pass.

Started by :mod:`device_agent.media.sandbox`, as ``python -m device_agent.media.worker``. Requests come on
standard input, answers go to standard output: four bytes of length, that much JSON, and what it says follows
it. Nothing here is unpickled on either side.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import struct
import sys
import zlib
from dataclasses import asdict
from typing import Any, BinaryIO

import av.subtitles.stream  # noqa: F401 (PyAV does when it meets the first such track)
import numpy as np

from device_agent.errors import MediaError
from device_agent.media.clip import Clip, MediaSpec, Window
from device_agent.media.limits import MediaLimits
from device_agent.media.loading import clip_from_bytes

MAX_HEADER_BYTES = 64 * 1024
_LENGTH = struct.Struct(">I")
_COLOURS = 3
_SPARE_CPU_S = 0.5
"""On top of what the decoder counts itself: for opening a file, which it cannot look into."""
_NICENESS = 10
"""Above that of who asks: when all processors are full, questions that wait for no file go first."""


def send(stream: BinaryIO, header: dict[str, Any], *parts: Any) -> None:
    """Write one message: a header and the bytes that it says follow it."""
    text = json.dumps(header).encode()
    stream.write(_LENGTH.pack(len(text)) + text)
    for part in parts:
        stream.write(part)
    stream.flush()


def receive(stream: BinaryIO) -> dict[str, Any]:
    """Read the header of the next message.

    Raises:
        EOFError: the other side has gone, or breaks off.
    """
    size = _LENGTH.unpack(read_exactly(stream, _LENGTH.size))[0]
    if size > MAX_HEADER_BYTES:
        raise EOFError
    header: dict[str, Any] = json.loads(read_exactly(stream, size))
    return header


def read_exactly(stream: BinaryIO, size: int) -> bytes:
    """So many bytes.

    Raises:
        EOFError: the stream ends before.
    """
    data = stream.read(size)
    if len(data) != size:
        raise EOFError
    return data


def message_of(clip: Clip) -> tuple[dict[str, Any], list[Any]]:
    """A clip as the header and the parts of a message."""
    frames, pcm = clip.frames_THWC, clip.pcm_S
    header = {
        "frames": None if frames is None else list(frames.shape),
        "pcm": None if pcm is None else len(pcm),
        "is_image": clip.is_image,
        "window": None if clip.window is None else asdict(clip.window),
    }
    parts = [np.ascontiguousarray(part).data for part in (frames, pcm) if part is not None and part.size]
    return header, parts


def clip_of(header: dict[str, Any], stream: BinaryIO, spec: MediaSpec) -> Clip:
    """The clip of a message, which is no larger than one of that spec can be.

    Raises:
        EOFError: the stream ends before the clip does.
        ValueError: it says that it is larger.
    """
    frames, pcm = None, None
    if (shape := header["frames"]) is not None:
        count, height, width, colours = map(int, shape)
        if count > spec.max_frames or max(height, width) > spec.max_side or colours != _COLOURS:
            raise ValueError(f"frames of {shape}")
        size = count * height * width * colours
        frames = np.frombuffer(read_exactly(stream, size), np.uint8).reshape(count, height, width, colours)
    if header["pcm"] is not None:
        samples = int(header["pcm"])
        if samples > round(spec.window_s * spec.sample_rate_hz):
            raise ValueError(f"{samples} samples")
        pcm = np.frombuffer(read_exactly(stream, 4 * samples), np.float32)
    window = None if header["window"] is None else Window(**header["window"])
    return Clip(frames, pcm, header["is_image"], window=window)


def _confine(memory_bytes: int) -> None:
    """Of what this process has come to need so far, only memory grows, and that by so much [bytes]."""
    import resource  # there is none on Windows

    with open("/proc/self/statm") as file:
        present_bytes = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (present_bytes + memory_bytes,) * 2)
    for name in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(name, (0, 0))
    # What is open stays open: the pipes. Nothing else can be opened.
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))


def _warm_up() -> None:
    """Decode a little of each kind, so that nothing has to be imported once nothing can be opened."""
    sound = bytes(2 * 2 * 8_000)
    layout = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 2, 8_000, 32_000, 4, 16)
    body = b"WAVE" + layout + struct.pack("<4sI", b"data", len(sound)) + sound
    clip_from_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    pixels = zlib.compress((b"\0" + bytes(4 * 400)) * 2)
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 400, 2, 8, 6, 0, 0, 0)), (b"IDAT", pixels), (b"IEND", b""))
    png = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    clip_from_bytes(b"\x89PNG\r\n\x1a\n" + png)
    with contextlib.suppress(MediaError):
        clip_from_bytes(b"no media", field="none")


def _allow_cpu(seconds: float) -> None:
    """So much more time of the processor, then the kernel ends this process [s]."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    # The kernel counts whole seconds.
    most = math.ceil(used.ru_utime + used.ru_stime + seconds + _SPARE_CPU_S)
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))


def _decode(request: dict[str, Any], data: bytes) -> Clip:
    return clip_from_bytes(
        data,
        kind=request["kind"],
        field=request["field"],
        spec=MediaSpec(**request["spec"]),
        limits=MediaLimits(**request["limits"]),
        start_s=request["start_s"],
        length_s=request["length_s"],
    )


def main() -> None:
    """Decode until standard input ends."""
    incoming, outgoing = sys.stdin.buffer, sys.stdout.buffer
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    _warm_up()
    first = True
    while True:
        try:
            request = receive(incoming)
            data = read_exactly(incoming, request["size"])
        except EOFError:
            return
        if first:
            # The file itself and its base64 are the asking process's; what decoding takes comes on top.
            _confine(request["limits"]["max_memory_bytes"])
            first = False
        _allow_cpu(request["limits"]["max_decode_s"])
        parts: list[Any] = []
        try:
            header, parts = message_of(_decode(request, data))
        except MediaError as error:
            header = {"error": type(error).__name__, "field": error.field, "message": error.message}
        except MemoryError:
            header = {"error": "MemoryError"}
        send(outgoing, header, *parts)
        del data, parts


if __name__ == "__main__":
    main()
