"""What is fuzzed by coverage: payload codec, frames on their way to the engine, bundle loader.

Each target takes one message and raises where something is wrong with what becomes of it.
"""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import grpc
from google.protobuf.message import DecodeError

from edge_server.cell import BackendRegistry, Cell, CellConfig
from edge_server.engine import AnswerStream, Priority, Request
from edge_server.errors import EdgeServerError
from edge_server.frontdoor.metrics import Metrics
from edge_server.frontdoor.ports import LinkShape
from edge_server.frontdoor.questions import request_of
from edge_server.frontdoor.status import failure_of
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.chaos.fuzz import (
    GRAPH,
    Findings,
    archive_of,
    manifest_of,
    signed,
    small_bundle,
    try_bundle,
    try_payload,
)
from tests.chaos.mutation import valid_payload, valid_question
from tests.chaos.serve_fingerprints import MAX_TEXT_TOKENS, TOKEN_LENGTHS
from tests.weightless import BUNDLE_HASH, CHANNEL_DIM

_SESSION = "session"
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


def payloads() -> Callable[[bytes], None]:
    """Token payloads as they are on the wire."""

    def target(data: bytes) -> None:
        try:
            block = pb.TokenPayload.FromString(data)
        except DecodeError:
            return
        if len(data) % 2:
            # No search finds the checksum: half of the messages are given the right one.
            block.crc32 = zlib.crc32(block.data)
        findings = Findings()
        try_payload(block, findings)
        _check(findings)

    return target


def bundles() -> Callable[[bytes], None]:
    """Archives; a manifest after an ``m``, a graph after a ``g``."""
    scratch = Path(tempfile.mkdtemp())

    def target(data: bytes) -> None:
        findings = Findings()
        try_bundle(_archive(data), scratch, findings)
        _check(findings)

    return target


def frames() -> Callable[[bytes], None]:
    """Frames as ``Converse`` gets them: through cell and codec to a model that takes what gets through."""
    shape = LinkShape(CHANNEL_DIM, MAX_TEXT_TOKENS)
    metrics = Metrics(version="0")
    cell = Cell(BackendRegistry(_Taker()), CellConfig(max_sessions=4), new_id=lambda: _SESSION)
    cell.open("fuzz", BUNDLE_HASH, 3.0)

    def target(data: bytes) -> None:
        try:
            frame = pb.UplinkFrame.FromString(data)
        except DecodeError:
            return
        question = frame.question
        findings = Findings()
        try:
            match frame.WhichOneof("body"):
                case "cancel":
                    cell.cancel(frame.session_id, frame.cancel.request_id)
                case "acknowledge":
                    cell.acknowledge(frame.session_id, frame.acknowledge.request_ids)
                case "question":
                    cell.ask(
                        frame.session_id,
                        frame.bundle_hash,
                        question.request_id,
                        digest=lambda: hashlib.sha256(
                            question.SerializeToString(deterministic=True)
                        ).digest(),
                        size_bytes=question.ByteSize(),
                        prepare=lambda session: request_of(question, session, shape, metrics),
                    )
        except _TakenError:
            return
        except EdgeServerError as error:
            failure = failure_of(error)
            findings.refusal(_CODES[failure.code], failure.field, str(error))
        _check(findings)

    return target


TARGETS: Mapping[str, Callable[[], Callable[[bytes], None]]] = {
    "payloads": payloads,
    "frames": frames,
    "bundles": bundles,
}
"""Name to what makes it."""


def seeds(target: str) -> list[bytes]:
    """Valid messages for a target to begin with."""
    rng = random.Random(0)
    if target == "payloads":
        return [valid_payload(rng, CHANNEL_DIM).SerializeToString() for _ in range(20)]
    if target == "bundles":
        return [small_bundle(), b"g" + GRAPH, b"m" + json.dumps(manifest_of(GRAPH)).encode()]
    asked = [valid_question(rng, f"q{number}", CHANNEL_DIM) for number in range(20)]
    return [
        pb.UplinkFrame(session_id=_SESSION, bundle_hash=BUNDLE_HASH, question=each).SerializeToString()
        for each in asked
    ]


class _TakenError(Exception):
    """A question got through."""


class _Taker:
    """A model that takes every question and forgets it."""

    bundle_hashes = (BUNDLE_HASH,)
    token_lengths = TOKEN_LENGTHS
    symbols_per_token = CHANNEL_DIM
    knows_how_sure = True
    token_length = None
    retry_delay_s = 0.05

    def admit(self, user: str, priority: Priority = "interactive") -> None:
        pass

    def submit(self, request: Request) -> AnswerStream:
        raise _TakenError


def _check(findings: Findings) -> None:
    if findings.wrong:
        raise AssertionError(findings.examples)


def _archive(data: bytes) -> bytes:
    """An archive, or a manifest or a graph in one, under checksums that no search would find."""
    kind, rest = data[:1], data[1:]
    if kind == b"g":
        return archive_of(signed(manifest_of(rest)), rest)
    if kind != b"m":
        return data
    try:
        manifest = json.loads(rest)
        text = signed(manifest) if isinstance(manifest, dict) else rest
    except (ValueError, RecursionError):
        text = rest
    return archive_of(text, GRAPH)
