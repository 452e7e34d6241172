"""Decoding elsewhere: the same clips and errors, and limits that the kernel keeps."""

from __future__ import annotations

import functools
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from device_agent.errors import MediaError, MediaLimitError, WindowError
from device_agent.media import sandbox
from device_agent.media.clip import MediaSpec
from device_agent.media.limits import MediaLimits
from device_agent.media.loading import clip_from_bytes
from device_agent.media.messages import clip_of, message_of, receive, send
from device_agent.media.sandbox import MediaPool
from tests import hostile_media as hostile
from tests.heif_files import coded, heif
from tests.waiting import until_true

LIMITS = MediaLimits(max_memory_bytes=256 * 2**20, max_decode_s=5.0)


@functools.cache
def confinement_here() -> tuple[str, ...]:
    """What this kernel has."""
    code = "from device_agent.media.confinement import confine; print(*confine())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return tuple(done.stdout.split())


OTHERS: set[int] = set()
"""Workers of servers that other modules' tests keep in this process."""


@pytest.fixture(scope="module", autouse=True)
def of_others() -> None:
    OTHERS.update(child.pid for child in psutil.Process().children(recursive=True))


@pytest.fixture(scope="module")
def pool(of_others: None) -> Iterator[MediaPool]:
    made = MediaPool(1)
    yield made
    made.close()


def workers() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if child.pid not in OTHERS and "device_agent.media.worker" in " ".join(child.cmdline())
    ]


def only_worker_beside(others: set[int]) -> psutil.Process:
    """The worker that was started; for a moment, the kernel knows no command line of a new program."""
    until_true(lambda: any(worker.pid not in others for worker in workers()))
    (worker,) = [worker for worker in workers() if worker.pid not in others]
    return worker


def test_what_is_decoded_elsewhere_is_the_same(pool: MediaPool, clip_file: Path) -> None:
    green = coded(np.full((64, 64, 3), (20, 200, 20), np.uint8), "hevc")
    for data, kind in (
        (clip_file.read_bytes(), None),
        (hostile.silence("flac", "flac", 44_100, "stereo", 9), "audio"),
        (hostile.picture("JPEG", 4000, 3000), "image"),
        (hostile.picture("PNG", 64, 48, "RGBA"), "image"),
        (hostile.picture("AVIF", 64, 48), "image"),
        (hostile.picture("WEBP", 64, 48, "RGBA"), "image"),
        (hostile.picture("GIF", 64, 48), "image"),
        (hostile.picture("TIFF", 64, 48, compression="tiff_lzw"), "image"),
        (hostile.stillness("mpegts", "mpeg2video", 64, 48, 25, 25), "video"),
        (hostile.stillness("matroska", "ffv1", 64, 48, 25, 25), "video"),
        (hostile.silence("ogg", "libopus", 48_000, "7.1", 2), "audio"),
        (hostile.wav(16_000, 9, 16_000), "audio"),
        (heif([green], (64, 64)), "image"),
        (hostile.stillness("mp4", "libx264", 1920, 1080, 60, 30), "video"),
    ):
        here = clip_from_bytes(data, kind=kind)  # type: ignore[arg-type]
        there = pool.clip_from_bytes(data, kind=kind, limits=LIMITS)  # type: ignore[arg-type]
        assert (there.modalities, there.is_image, there.window) == (
            here.modalities,
            here.is_image,
            here.window,
        )
        for ours, theirs in ((here.frames_THWC, there.frames_THWC), (here.pcm_S, there.pcm_S)):
            if ours is None:
                assert theirs is None
            else:
                np.testing.assert_array_equal(theirs, ours)
    (worker,) = workers()
    assert worker.is_running()


def test_a_window_is_asked_for_elsewhere(pool: MediaPool) -> None:
    data = hostile.silence("flac", "flac", 16_000, "mono", 9)
    clip = pool.clip_from_bytes(data, spec=MediaSpec(window_s=2.0), start_s=3.0, length_s=1.5)
    assert clip.window is not None
    assert (clip.window.start_s, clip.window.end_s) == (3.0, 4.5)
    with pytest.raises(WindowError, match=r"sound: holds nothing from 30 s on"):
        pool.clip_from_bytes(data, kind="audio", field="sound", start_s=30.0)


@pytest.mark.parametrize(
    ("data", "limits", "kind", "complaint"),
    [
        (b"hello", LIMITS, MediaError, "no usable"),
        (b"", LIMITS, MediaError, "is empty"),
        (bytes(200), replace(LIMITS, max_bytes=100), MediaLimitError, "more than 100 bytes"),
        (hostile.mov(50_000_000), LIMITS, MediaLimitError, "50000000 samples"),
    ],
)
def test_errors_come_back_by_their_field(
    pool: MediaPool, data: bytes, limits: MediaLimits, kind: type[MediaError], complaint: str
) -> None:
    with pytest.raises(kind, match=complaint) as refusal:
        pool.clip_from_bytes(data, field="media[0].data", limits=limits)
    assert refusal.value.field == "media[0].data"


def test_what_takes_too_much_memory_is_ended_and_the_next_is_decoded(clip_file: Path) -> None:
    pool = MediaPool(1)
    try:
        large = hostile.picture("PNG", 6000, 6000)
        limits = MediaLimits(max_memory_bytes=64 * 2**20)
        with pytest.raises(MediaLimitError, match="max_memory_bytes"):
            pool.clip_from_bytes(large, kind="image", limits=limits)
        assert pool.clip_from_bytes(clip_file.read_bytes(), limits=LIMITS).modalities == ("video", "audio")
        assert len(workers()) <= 2
    finally:
        pool.close()


def endless() -> bytes:
    """A film with so many titles that looking it over takes a while."""
    titles = b"".join(
        b"\x67\xc8\x8d\x45\xa3\x86" + b"%06x" % number + b"\x44\x87\x81v" for number in range(200_000)
    )
    tags = b"\x12\x54\xc3\x67" + (len(titles) + 12 | 1 << 56).to_bytes(8, "big")
    tags += b"\x73\x73" + (len(titles) | 1 << 56).to_bytes(8, "big") + titles
    film = hostile.stillness("matroska", "mpeg4", 64, 48, 8, 8)
    segment = film.index(b"\x18\x53\x80\x67")
    return film[: segment + 4] + b"\x01" + b"\xff" * 7 + tags + film[segment + 12 :]


def test_the_kernel_ends_what_computes_for_too_long() -> None:
    loop = "from device_agent.media.worker import _allow_cpu\n_allow_cpu(0.0)\nwhile True: pass"
    done = subprocess.run([sys.executable, "-c", loop], check=False)
    assert done.returncode == -signal.SIGXCPU


def test_what_the_kernel_ended_is_told_by_its_limit_and_the_next_is_decoded(clip_file: Path) -> None:
    data = clip_file.read_bytes()
    pool = MediaPool(1)
    before = {worker.pid for worker in workers()}
    try:
        pool.start()
        first = only_worker_beside(before)
        os.kill(first.pid, signal.SIGXCPU)
        with pytest.raises(
            MediaLimitError, match=r"film: takes more than 5 s to decode \(media.max_decode_s\)"
        ):
            pool.clip_from_bytes(data, field="film", limits=LIMITS)
        assert pool.clip_from_bytes(data, limits=LIMITS).modalities == ("video", "audio")
    finally:
        pool.close()


def test_a_worker_that_is_killed_is_replaced(clip_file: Path) -> None:
    data = clip_file.read_bytes()
    pool = MediaPool(1)
    before = {worker.pid for worker in workers()}
    try:
        pool.start()
        first = only_worker_beside(before)
        os.kill(first.pid, signal.SIGSEGV)
        with pytest.raises(MediaError, match=r"decoder broke|memory"):
            pool.clip_from_bytes(data, limits=LIMITS)
        assert pool.clip_from_bytes(data, limits=LIMITS).modalities == ("video", "audio")
    finally:
        pool.close()
    assert {worker.pid for worker in workers()} <= before


def test_closing_frees_who_waits() -> None:
    pool = MediaPool(1)
    busy = threading.Event()

    def decode(data: bytes) -> None:
        busy.set()
        with pytest.raises(MediaError):
            pool.clip_from_bytes(data, limits=replace(LIMITS, max_decode_s=300.0))

    with ThreadPoolExecutor(2) as threads:
        jobs = [threads.submit(decode, endless()) for _ in range(2)]
        busy.wait()
        pool.close()
        for job in jobs:
            job.result(30)


def test_many_threads_share_few_workers(clip_file: Path) -> None:
    pool = MediaPool(2)
    data = clip_file.read_bytes()
    try:
        with ThreadPoolExecutor(6) as threads:
            clips = list(threads.map(lambda _: pool.clip_from_bytes(data, limits=LIMITS), range(12)))
    finally:
        pool.close()
    assert {clip.modalities for clip in clips} == {("video", "audio")}


def test_a_worker_gets_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "of this process")
    before = {worker.pid for worker in workers()}
    pool = MediaPool(1)
    try:
        assert pool.clip_from_bytes(hostile.picture("PNG", 8, 8), limits=LIMITS).is_image
        (worker,) = [worker for worker in workers() if worker.pid not in before]
        assert "A_SECRET" not in worker.environ()
        assert worker.rlimit(psutil.RLIMIT_NOFILE)[0] == 3
        assert worker.rlimit(psutil.RLIMIT_FSIZE)[0] == 0
    finally:
        pool.close()


@pytest.mark.skipif(not confinement_here(), reason="this kernel has neither Landlock nor seccomp")
def test_a_worker_is_confined_and_that_is_told_once(
    clip_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox._tell.cache_clear()
    with caplog.at_level("INFO"), MediaPool(2) as pool:
        for _ in range(2):
            pool.clip_from_bytes(clip_file.read_bytes(), limits=LIMITS)
        status = Path(f"/proc/{workers()[-1].pid}/status").read_text()
    # Of the kernel: no privileges can be gained, and a filter stands before each system call.
    assert "NoNewPrivs:\t1" in status
    assert ("Seccomp:\t2" in status) == ("seccomp" in confinement_here())
    told = [record.message for record in caplog.records if "confined" in record.message]
    assert told == [f"files are decoded by processes confined by {' and '.join(confinement_here())}"]


def test_a_worker_cannot_send_more_than_a_clip() -> None:
    spec = MediaSpec()
    header, parts = message_of(clip_from_bytes(hostile.picture("PNG", 40, 30)))
    stream = io.BytesIO()
    send(stream, header, *parts)
    stream.seek(0)
    clip = clip_of(receive(stream), stream, spec)
    assert clip.frames_THWC is not None
    assert clip.frames_THWC.shape == (1, 30, 40, 3)
    lies = ({"frames": [10**6, 320, 320, 3]}, {"frames": [1, 10**6, 1, 3]}, {"frames": None, "pcm": 10**9})
    for lie in lies:
        with pytest.raises(ValueError, match=r"\d"):
            clip_of({**header, "pcm": None, **lie}, io.BytesIO(bytes(100)), spec)
    with pytest.raises(EOFError):
        receive(io.BytesIO(b"\xff\xff\xff\xff"))
