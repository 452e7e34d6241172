"""A process that decodes one file after the other for another process, within limits that it cannot pass.

Started by :mod:`device_agent.media.sandbox`, as ``python -m device_agent.media.worker``. Requests come on
standard input, answers go to standard output, as :mod:`device_agent.media.messages` says.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import struct
import sys
import zlib
from typing import Any, BinaryIO, cast

import av.subtitles.stream  # noqa: F401 (PyAV does when it meets the first such track)

from device_agent.errors import MediaError
from device_agent.media.clip import Clip, MediaSpec
from device_agent.media.confinement import confine
from device_agent.media.limits import MediaLimits
from device_agent.media.loading import clip_from_bytes, clip_from_stream
from device_agent.media.messages import MAX_READ_BYTES, message_of, read_exactly, receive, send

_READ_AHEAD_BYTES = 128 * 1024
_SPARE_CPU_S = 0.5
"""On top of what the decoder counts itself: for opening a file, which it cannot look into."""
_NICENESS = 10
"""Above that of who asks: when all processors are full, questions that wait for no file go first."""


class Elsewhere(io.RawIOBase):
    """A file that the asking process holds, read through the pipes.

    Args:
        incoming: what that process sends.
        outgoing: what it receives.
        size: of the file [bytes].
    """

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO, size: int) -> None:
        super().__init__()
        self._incoming, self._outgoing, self._size = incoming, outgoing, size
        self._position = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; the new position [bytes]."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def tell(self) -> int:
        """Position [bytes]."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Ask for what comes next; how much there was [bytes]."""
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), MAX_READ_BYTES, max(self._size - self._position, 0))
        if wanted == 0:
            return 0
        send(self._outgoing, {"read": [self._position, wanted]})
        size = int(receive(self._incoming)["size"])
        view[:size] = read_exactly(self._incoming, size)
        self._position += size
        return size


def _confine(memory_bytes: int) -> tuple[str, ...]:
    """Of what this process has come to need so far, only memory grows, and that by so much [bytes].

    As far as the system can: Windows has no such limits, macOS does not say what a process has.

    Returns:
        What the kernel took away beside that, as :func:`device_agent.media.confinement.confine` says it.
    """
    try:
        import resource
    except ImportError:
        return confine()
    with contextlib.suppress(OSError), open("/proc/self/statm") as file:
        present_bytes = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (present_bytes + memory_bytes,) * 2)
    confined = confine()
    for name in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(name, (0, 0))
    # What is open stays open: the pipes. Nothing else can be opened.
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    return confined


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
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    # The kernel counts whole seconds.
    most = math.ceil(used.ru_utime + used.ru_stime + seconds + _SPARE_CPU_S)
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))


def _decode(request: dict[str, Any], file: BinaryIO) -> Clip:
    return clip_from_stream(
        file,
        request["size"],
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
    confined: tuple[str, ...] | None = None
    while True:
        try:
            request = receive(incoming)
        except EOFError:
            return
        if confined is None:
            confined = _confine(request["limits"]["max_memory_bytes"])
        _allow_cpu(request["limits"]["max_decode_s"])
        parts: list[Any] = []
        elsewhere = Elsewhere(incoming, outgoing, request["size"])
        file = cast(BinaryIO, io.BufferedReader(elsewhere, _READ_AHEAD_BYTES))
        try:
            header, parts = message_of(_decode(request, file))
        except EOFError:
            return
        except MediaError as error:
            header = {"error": type(error).__name__, "field": error.field, "message": error.message}
        except MemoryError:
            header = {"error": "MemoryError"}
        send(outgoing, {**header, "confined": confined}, *parts)
        del file, parts


if __name__ == "__main__":
    main()
