"""Malformed messages: at a running server, beside good questions; at payload codec, media, bundle loader.

A guided search of the same three, by coverage, is :mod:`tests.chaos.rows.fuzz_coverage`.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from device_agent.bundle.archive import unpack
from device_agent.bundle.bundle import MANIFEST, bundle_hash
from device_agent.errors import BundleError, MediaError
from device_agent.media.loading import clip_from_bytes
from edge_server.server.config import ServerConfig
from protos import names, payload, token_snr
from protos.metadata import FAILURE_KEY
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from protos.tokenlink.v1.tokenlink_pb2_grpc import TokenLinkStub
from tests import hostile_media
from tests.chaos.mutation import spoilt_bytes, spoilt_frame, spoilt_payload, valid_question
from tests.chaos.watched import WatchedServer
from tests.weightless import CHANNEL_DIM

HANG_S = 60.0
_PER_STREAM = 500
_GOOD_EVERY = 10

_NAMED = frozenset({"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "ALREADY_EXISTS"})
"""Refusals of what was sent: they name its field."""
_OF_THE_MOMENT = frozenset({"RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "CANCELLED"})
"""Refusals of something that is right in itself."""
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


@dataclass
class Findings:
    """What went wrong; all of it has to be 0."""

    sent: int = 0
    crashes: int = 0
    hangs: int = 0
    internal: int = 0
    unnamed: int = 0
    changed: int = 0
    examples: list[str] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)

    @property
    def wrong(self) -> int:
        """All of it."""
        return self.crashes + self.hangs + self.internal + self.unnamed + self.changed

    def note(self, what: str, example: object) -> None:
        """Count one, and keep the first few to look at."""
        setattr(self, what, getattr(self, what) + 1)
        if len(self.examples) < 20:
            self.examples.append(f"{what}: {example!r}"[:500])

    def refusal(self, code: str, field_name: str, example: object) -> None:
        """Count how a message was refused."""
        self.codes[code] += 1
        if code in _NAMED:
            if not field_name:
                self.note("unnamed", (code, example))
        elif code not in _OF_THE_MOMENT:
            self.note("internal", (code, example))


def fuzz_frames(count: int, seed: int = 0, environment: Mapping[str, str] | None = None) -> Findings:
    """Send so many malformed frames to a server process, a good question after every few.

    Args:
        count: malformed frames on ``Converse``; one for every hundred of them goes to each other method.
        seed: of what is sent.
        environment: of the server, for tests that have to find something.
    """
    findings = Findings()
    rng = random.Random(seed)
    settings = {"default_deadline_s": 20, "max_questions_in_flight": 256, "max_queue_per_user": 256}
    with WatchedServer(settings, environment=environment) as server:
        with grpc.insecure_channel(server.doors.grpc) as channel:
            stub = TokenLinkStub(channel)  # type: ignore[no-untyped-call]
            sessions = [
                stub.OpenSession(
                    pb.OpenSessionRequest(device_id=name, bundle_hash=server.doors.bundle_hash), timeout=10
                ).session_id
                for name in ("stranger", "honest")
            ]
            goods = [_good(number, sessions[1], server.doors.bundle_hash) for number in range(50)]
            alone = _ends(channel, goods, findings)
            while findings.sent < count and not findings.hangs and server.alive:
                size = min(_PER_STREAM, count - findings.sent)
                _stream(channel, rng, size, sessions, server.doors.bundle_hash, alone, findings)
                _calls(channel, rng, max(1, size // 100), sessions[0], server.doors.bundle_hash, findings)
        if not server.alive:
            findings.note("crashes", server.log[-500:])
        if "a question failed" in server.log or "Traceback" in server.log:
            findings.note("internal", server.log[:500])
    return findings


def _good(number: int, session_id: str, bundle_hash: str) -> pb.UplinkFrame:
    rng = random.Random(-1 - number)
    asked = valid_question(rng, f"good{number}", CHANNEL_DIM)
    return pb.UplinkFrame(session_id=session_id, bundle_hash=bundle_hash, question=asked)


def _ends(channel: grpc.Channel, frames: list[pb.UplinkFrame], findings: Findings) -> dict[str, str]:
    converse = TokenLinkStub(channel).Converse  # type: ignore[no-untyped-call]
    ends = {}
    for frame in converse(iter(frames), timeout=HANG_S):
        if frame.HasField("answer"):
            ends[frame.request_id] = frame.answer.text
    assert len(ends) == len(frames), "good questions were not answered even alone"
    return ends


def _stream(
    channel: grpc.Channel,
    rng: random.Random,
    size: int,
    sessions: list[str],
    bundle_hash: str,
    alone: dict[str, str],
    findings: Findings,
) -> None:
    """One stream: malformed frames, and good questions under ids of their own."""
    expected: dict[str, str] = {}

    def frames() -> Iterator[bytes]:
        for number in range(size):
            asked = valid_question(rng, f"bad{findings.sent}", CHANNEL_DIM)
            frame = pb.UplinkFrame(session_id=sessions[0], bundle_hash=bundle_hash, question=asked)
            findings.sent += 1
            yield spoilt_frame(rng, frame, CHANNEL_DIM)
            if number % _GOOD_EVERY == 0:
                good = _good(number // _GOOD_EVERY % len(alone), sessions[1], bundle_hash)
                text = alone[good.question.request_id]
                good.question.request_id += f"/{findings.sent}"
                expected[good.question.request_id] = text
                yield good.SerializeToString()

    converse: Any = channel.stream_stream("/tokenlink.v1.TokenLink/Converse")
    answered: dict[str, str] = {}
    try:
        for data in converse(frames(), timeout=HANG_S):
            end = pb.DownlinkFrame.FromString(data)
            if end.HasField("failure"):
                code = _CODES.get(end.failure.code, str(end.failure.code))
                findings.refusal(code, end.failure.field, end.failure.message)
            elif end.HasField("answer"):
                answered[end.request_id] = end.answer.text
                findings.codes["answered"] += 1
    except grpc.RpcError as error:
        findings.note("hangs" if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED else "internal", error)
        return
    for request_id, text in expected.items():
        if answered.get(request_id) != text:
            findings.note("changed", (request_id, text, answered.get(request_id)))


def _calls(
    channel: grpc.Channel,
    rng: random.Random,
    count: int,
    session_id: str,
    bundle_hash: str,
    findings: Findings,
) -> None:
    """The methods beside Converse, with messages of theirs that are spoilt in the same way."""
    messages = {
        "Ask": pb.AskRequest(
            session_id=session_id, bundle_hash=bundle_hash, question=valid_question(rng, "a", CHANNEL_DIM)
        ),
        "OpenSession": pb.OpenSessionRequest(device_id="stranger", bundle_hash=bundle_hash, snr_db=3.0),
        "CloseSession": pb.CloseSessionRequest(session_id="nobody"),
        "GetBundle": pb.GetBundleRequest(bundle_hash=bundle_hash, precision="fp32"),
    }
    for name, message in messages.items():
        for _ in range(count):
            data = spoilt_bytes(rng, message.SerializeToString())
            findings.sent += 1
            try:
                call: Any = channel.unary_stream(f"/tokenlink.v1.TokenLink/{name}")
                for _ in call(data, timeout=HANG_S):
                    pass
                findings.codes["answered"] += 1
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and "Deadline Exceeded" in str(
                    error.details()
                ):
                    findings.note("hangs", (name, data))
                    continue
                failure = pb.Failure()
                metadata: dict[str, Any] = dict(error.trailing_metadata() or ())  # type: ignore[arg-type]
                failure.ParseFromString(metadata.get(FAILURE_KEY, b""))
                findings.refusal(error.code().name, failure.field, (name, error.details(), data))


def fuzz_payloads(count: int, seed: int = 0) -> Findings:
    """Decode so many malformed token payloads: an array as it should be, or an error that names a field."""
    findings = Findings()
    rng = random.Random(seed)
    for _ in range(count):
        block = spoilt_payload(rng, CHANNEL_DIM)
        if rng.random() < 0.3:
            try:
                block = pb.TokenPayload.FromString(spoilt_bytes(rng, block.SerializeToString()))
            except Exception:  # no message any more: the transport's part, see fuzz_frames
                continue
        findings.sent += 1
        began = time.perf_counter()
        try_payload(block, findings)
        if time.perf_counter() - began > 5.0:
            findings.note("hangs", block)
    return findings


def try_payload(block: pb.TokenPayload, findings: Findings) -> None:
    """Decode one payload and note what is wrong with the outcome."""
    try:
        x_TC = payload.decode(block, max_token_length=32, channel_dim=CHANNEL_DIM)
        snr_db, of_each = payload.reported_snr_db(block), token_snr.reported(block)
    except payload.PayloadError as error:
        findings.refusal("INVALID_ARGUMENT", error.field, str(error))
        return
    except Exception as error:
        findings.note("crashes", (error, block))
        return
    findings.codes["decoded"] += 1
    told = [snr_db] if of_each is None else [snr_db, *of_each]
    sound = x_TC.dtype == np.float32 and list(x_TC.shape) == list(block.shape) and np.isfinite(x_TC).all()
    if not sound or not names.MIN_SNR_DB <= min(told) <= max(told) <= names.MAX_SNR_DB:
        findings.note("changed", block)


def fuzz_media(count: int, seed: int = 0) -> Findings:
    """Decode so many spoilt media files, of every format that is taken, as a server does."""
    findings = Findings()
    rng = random.Random(seed)
    limits = ServerConfig().media
    whole = sound_media()
    for _ in range(count):
        data = rng.choice(whole)
        # Headers are where a file says what it is.
        head = min(len(data), rng.choice((32, 256, 4096, len(data))))
        data = spoilt_bytes(rng, data[:head]) + data[head:]
        findings.sent += 1
        began = time.thread_time()
        try:
            clip_from_bytes(data, field="media[0].data", limits=limits)
            findings.codes["decoded"] += 1
        except MediaError as error:
            findings.refusal("INVALID_ARGUMENT", error.field, str(error))
        except Exception as error:
            findings.note("crashes", (error, data[:100]))
        if time.thread_time() - began > limits.max_decode_s + 1.0:
            findings.note("hangs", data[:100])
    return findings


def sound_media() -> list[bytes]:
    """A small file of each format."""
    pictures = [
        hostile_media.picture(name, 64, 48) for name in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
    ]
    videos = (
        ("mp4", "libx264"),
        ("matroska", "ffv1"),
        ("avi", "mpeg4"),
        ("mpegts", "mpeg2video"),
        ("flv", "flv"),
    )
    sounds = (
        ("flac", "flac"),
        ("mp3", "mp3"),
        ("adts", "aac"),
        ("aiff", "pcm_s16be"),
        ("mp4", "aac"),
        ("flv", "mp3"),
    )
    return [
        *pictures,
        hostile_media.png_with(b"zTXt", 1000),
        hostile_media.jpeg_of_scans(64, 3),
        hostile_media.wav(16_000, 1, 4000),
        hostile_media.fragments(10),
        hostile_media.matroska([bytes(100)], compressed=False),
        *(hostile_media.stillness(name, codec, 64, 48, 25, 25) for name, codec in videos),
        *(hostile_media.silence(name, codec, 44_100, "mono", 1.0) for name, codec in sounds),
    ]


def fuzz_bundles(count: int, seed: int = 0) -> Findings:
    """Unpack and load so many malformed bundles: refused, or, where the change means nothing, loaded."""
    findings = Findings()
    rng = random.Random(seed)
    whole = small_bundle()
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(count):
            findings.sent += 1
            data = spoilt_bytes(rng, whole) if number % 2 else small_bundle(rng)
            began = time.perf_counter()
            try_bundle(data, Path(scratch), findings)
            if time.perf_counter() - began > 5.0:
                findings.note("hangs", data[:200])
    return findings


def try_bundle(data: bytes, scratch: Path, findings: Findings) -> None:
    """Unpack one archive and note what is wrong with the outcome."""
    target = scratch / "bundle"
    try:
        unpack(data, target)
        findings.codes["loaded"] += 1
        for path in target.iterdir():
            path.unlink()
    except BundleError as error:
        findings.codes["refused"] += 1
        if not str(error):
            findings.note("unnamed", data[:100])
    except Exception as error:
        findings.note("crashes", (error, data[:100]))
    left = [path.name for path in scratch.iterdir() if path.name != "bundle"]
    if left or (target.exists() and any(target.iterdir())):
        findings.note("changed", left)


_ABSURD: tuple[Any, ...] = (
    None,
    -1,
    0,
    2**63,
    1e308,
    "",
    "x" * 10_000,
    "../x",
    [],
    {},
    [[[]]],
    True,
    "\ud800",
    {"a": {"b": []}},
)
GRAPH = b"\x08\x08\x3a\x06\x0a\x04\x22\x02id"
"""An ONNX graph of one node."""


def small_bundle(rng: random.Random | None = None) -> bytes:
    """A bundle of three small files, as an archive.

    Args:
        rng: if given, the manifest, the graph or both are spoilt, under checksums that are right.
    """
    graph = spoilt_bytes(rng, GRAPH) if rng is not None and rng.random() < 0.5 else GRAPH
    manifest = manifest_of(graph)
    if rng is not None and rng.random() < 0.8:
        _spoil(manifest, rng)
    text = signed(manifest)
    if rng is not None and rng.random() < 0.3:
        text = spoilt_bytes(rng, text)
    return archive_of(text, graph)


def manifest_of(graph: bytes) -> dict[str, object]:
    """What a small bundle with this graph says about itself, without its hash."""
    files = {"audio.onnx": graph, "tokenizer.json": _TOKENIZER}
    audio = {"graph": "audio.onnx", "modalities": ["audio"], "sample_rate_hz": 16_000, "window_s": 4.0}
    return {
        "format": 1,
        "name": "small",
        "channel_dim": 8,
        "token_lengths": [1, 2],
        "transmitters": {"audio": audio},
        "tokenizer": "tokenizer.json",
        "training_commit": "0",
        "files": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            for name, data in files.items()
        },
    }


def signed(manifest: dict[str, object]) -> bytes:
    """A manifest with its hash, as it is written."""
    return json.dumps(manifest | {"bundle_hash": _hash(manifest)}).encode()


def archive_of(manifest: bytes, graph: bytes) -> bytes:
    """The archive of a small bundle."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in ((MANIFEST, manifest), ("audio.onnx", graph), ("tokenizer.json", _TOKENIZER)):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


_TOKENIZER = b'{"version": "1.0"}'


def _hash(manifest: dict[str, object]) -> str:
    try:
        return bundle_hash(manifest)
    except ValueError:
        return "0" * 64


def _spoil(part: dict[str, object], rng: random.Random) -> None:
    """Replace, drop or add something, at any depth."""
    key = rng.choice([*part, "extra"])
    below = part.get(key)
    if isinstance(below, dict) and below and rng.random() < 0.7:
        _spoil(below, rng)
    elif rng.random() < 0.2:
        part.pop(key, None)
    else:
        part[key] = rng.choice(_ABSURD)
