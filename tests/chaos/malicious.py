"""A server that means harm, or is broken: what it does is drawn from a seed, call by call.

Everything that a server can send is in it: numbers that are none, waits without an end, answers, names and
errors of any length with what a terminal obeys in them, bytes that are no message, bundles that do not end.
"""

from __future__ import annotations

import asyncio
import io
import json
import random
import tarfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from device_agent.bundle.archive import pack_bytes
from device_agent.bundle.bundle import MANIFEST, load_bundle, write_manifest
from protos.metadata import FAILURE_KEY
from protos.tokenlink.v1 import tokenlink_pb2 as pb

SHIPPED = Path(__file__).resolve().parents[2] / "deploy" / "models" / "soundstage-small" / "bundle"
_SERVICE = pb.DESCRIPTOR.services_by_name["TokenLink"].full_name
_MODEL: Mapping[str, Any] = {"opset_imports": [helper.make_opsetid("", 17)], "ir_version": 8}
_FLOATS = (0.0, -1.0, 1e-9, 1e-300, 1e9, 1e300, float("inf"), float("-inf"), float("nan"), 1.0, 3600.0)
_COUNTS = (0, 1, 2, 16, 1000, 2**31, 2**32 - 1)
_PAINT = (
    "\x1b]0;title\x07",
    "\x1b[2J\x1b[1;1H\x1b[31mroot@device:~# ",
    "\x1b]52;c;cm0gLXJmIH4=\x07",
    "\x9b31m\x9d",
    "\u202etxt.exe\u2066",
    "over\rwritten\x08\x7f\x00",
    "\u2028\u200b\ufeff\U000e0041",
    "[bold red]markup[/]",
    "left",
    "plain words",
)


class Harm:
    """What a server does, drawn from a seed.

    Args:
        seed: another one, another server.
        archives: bundles to give, by kind.

    Attributes:
        did: what it did, in order.
        met_s: when it was called first, on the monotonic clock [s].
    """

    def __init__(self, seed: int, archives: Mapping[str, bytes]) -> None:
        self._rng = random.Random(seed)
        self._archives = archives
        self.did: list[str] = []
        self.met_s: float | None = None

    def server(self) -> tuple[grpc.aio.Server, int]:
        """A server with its port, not started yet."""
        server = grpc.aio.server(
            options=[("grpc.so_reuseport", 0), ("grpc.max_send_message_length", -1)],
            compression=grpc.Compression.Gzip if self._rng.random() < 0.2 else None,
        )
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "OpenSession": grpc.unary_unary_rpc_method_handler(self._open),
            "CloseSession": grpc.unary_unary_rpc_method_handler(self._close),
            "Converse": grpc.stream_stream_rpc_method_handler(self._converse),
            "GetBundle": grpc.unary_stream_rpc_method_handler(self._bundle),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
        return server, server.add_insecure_port("127.0.0.1:0")

    def _draw(self, *choices: str) -> str:
        if self.met_s is None:
            self.met_s = time.monotonic()
        self.did.append(self._rng.choice(choices))
        return self.did[-1]

    def _text(self, longest: int = 300_000) -> str:
        rng = self._rng
        text = "".join(rng.choices(_PAINT, k=rng.randint(1, 4)))
        return text * (rng.choice((1, 1, 1, 50, longest)) // len(text) + 1)

    def _garbage(self) -> bytes:
        return self._rng.randbytes(self._rng.choice((1, 9, 200)))

    async def _refuse(self, context: Any) -> None:
        rng = self._rng
        code = rng.choice([each for each in grpc.StatusCode if each is not grpc.StatusCode.OK])
        failure = pb.Failure(
            code=rng.choice((code.value[0], 0, 99)),
            message=self._text(1000),
            field=self._text(100),
            retry_delay_ms=rng.choice(_COUNTS),
        ).SerializeToString()
        trailing = rng.choice(((), ((FAILURE_KEY, failure[:4000]),), ((FAILURE_KEY, self._garbage()),)))
        # Details go as percent-encoded ASCII; what is too long for a header ends the stream by itself.
        await context.abort(code, self._text(2000)[:2000], trailing)

    def _grant(self) -> pb.Grant:
        rng = self._rng
        if rng.random() < 0.4:
            return pb.Grant(
                max_token_length=32,
                token_length=16,
                max_questions_in_flight=4,
                max_question_bytes=2**18,
                bandwidth_hz=1e6,
                valid_s=3600,
            )
        grant = pb.Grant(
            max_token_length=rng.choice(_COUNTS),
            token_length=rng.choice(_COUNTS),
            max_questions_in_flight=rng.choice(_COUNTS),
            max_question_bytes=rng.choice(_COUNTS),
            bandwidth_hz=rng.choice(_FLOATS),
            valid_s=rng.choice(_FLOATS),
        )
        for field in ("outage_snr_db", "tx_power_db"):
            if rng.random() < 0.5:
                setattr(grant, field, rng.choice(_FLOATS))
        return grant

    async def _open(self, request: bytes, context: Any) -> bytes:
        asked = pb.OpenSessionRequest.FromString(request)
        match self._draw(*["open"] * 6, "open: garbage", "open: hang", "open: refuse"):
            case "open: garbage":
                return self._garbage()
            case "open: hang":
                await asyncio.Event().wait()
            case "open: refuse":
                await self._refuse(context)
        response = pb.OpenSessionResponse(
            session_id=self._text() if self._rng.random() < 0.2 else "s",
            grant=self._grant(),
            server_version=self._text(),
            model_name=self._text(),
            server_time_s=self._rng.choice(_FLOATS),
            current_bundle_hash=self._rng.choice((asked.bundle_hash, "", "ab" * 32, self._text())),
        )
        return response.SerializeToString()

    async def _close(self, request: bytes, context: Any) -> bytes:
        if self._draw("close", "close: hang") == "close: hang":
            await asyncio.Event().wait()
        return b""

    async def _converse(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            frame = pb.UplinkFrame.FromString(request)
            if frame.WhichOneof("body") == "question":
                async for sent in self._answer(frame.question.request_id, context):
                    yield sent

    async def _answer(self, request_id: str, context: Any) -> AsyncIterator[bytes]:
        rng = self._rng
        for _ in range(rng.randint(0, 3)):
            frame = pb.DownlinkFrame(request_id=rng.choice((request_id, request_id, self._text(1000))))
            match self._draw("delta", "delta", "grant", "nothing"):
                case "delta":
                    frame.delta.text = self._text()
                case "grant":
                    frame.grant.grant.CopyFrom(self._grant())
            yield frame.SerializeToString()
        match self._draw(
            *["answer"] * 3,
            *("failure", "garbage", "hang", "cut", "refuse"),
            *("large deltas", "small deltas", "empty deltas", "others' answers"),
        ):
            case "answer":
                yield pb.DownlinkFrame(request_id=request_id, answer=self._whole_answer()).SerializeToString()
            case "failure":
                failure = pb.Failure(
                    code=rng.choice((0, 4, 5, 8, 9, 13, 14, 16, 99)),
                    message=self._text(),
                    field=self._text(1000),
                    retry_delay_ms=rng.choice(_COUNTS),
                )
                yield pb.DownlinkFrame(request_id=request_id, failure=failure).SerializeToString()
            case "garbage":
                yield self._garbage()
            case "hang":
                await asyncio.Event().wait()
            case "refuse":
                await self._refuse(context)
            case "cut":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "")
            case "others' answers":
                for number in range(2000):
                    yield pb.DownlinkFrame(
                        request_id=f"other{number}", answer=pb.Answer(text="x")
                    ).SerializeToString()
            case flood:
                size = {"large deltas": 3_900_000, "small deltas": 1}.get(flood, 0)
                sent = pb.DownlinkFrame(request_id=request_id, delta=pb.AnswerDelta(text="A" * size))
                while True:
                    yield sent.SerializeToString()

    def _whole_answer(self) -> pb.Answer:
        rng = self._rng
        return pb.Answer(
            text=self._text(600_000),
            finish_reason=rng.choice(("stop", self._text())),
            probability=rng.choice(_FLOATS),
            queue_s=rng.choice(_FLOATS),
            compute_s=rng.choice(_FLOATS),
            prompt_tokens=rng.choice(_COUNTS),
            answer_tokens=rng.choice(_COUNTS),
        )

    async def _bundle(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        rng = self._rng
        match self._draw(
            *["archive"] * 8, "bundle: garbage", "bundle: hang", "bundle: refuse", "huge", "dribble"
        ):
            case "bundle: garbage":
                yield self._garbage()
            case "bundle: hang":
                await asyncio.Event().wait()
            case "bundle: refuse":
                await self._refuse(context)
            case "huge":
                total = rng.choice((2**29, 2**40))
                for _ in range(2**9):
                    yield pb.BundleChunk(total_bytes=total, data=bytes(2**20)).SerializeToString()
            case "dribble":
                while True:
                    yield pb.BundleChunk(total_bytes=2**29, data=b"x").SerializeToString()
                    await asyncio.sleep(0.2)
            case _:
                archive = self._archives[self._draw(*self._archives)]
                if rng.random() < 0.2:
                    spoilt = bytearray(
                        archive[: rng.randrange(len(archive))] if rng.random() < 0.5 else archive
                    )
                    for _ in range(rng.randint(0, 20)):
                        spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
                    archive = bytes(spoilt)
                for start in range(0, len(archive), 2**18):
                    part = archive[start : start + 2**18]
                    yield pb.BundleChunk(total_bytes=len(archive), data=part).SerializeToString()


def archives(folder: Path) -> dict[str, bytes]:
    """Bundles to give: the shipped one, and ones whose checksums are right and that do harm all the same.

    Args:
        folder: for drafts.
    """
    sound = pack_bytes(SHIPPED)
    changes: Mapping[str, Callable[[Path, dict[str, Any]], None]] = {
        "a loop without an end": lambda at, _: onnx.save(_endless(), at / "audio.onnx"),
        "a constant of gigabytes": lambda at, _: onnx.save(_constant(2**28), at / "audio.onnx"),
        "a graph with a painted name": lambda at, _: onnx.save(_broken(_PAINT[1]), at / "audio.onnx"),
        "a painted name": lambda _, fields: fields.update(name="".join(_PAINT) * 100),
        "a window of hours": lambda _, fields: fields["transmitters"]["audio"].update(window_s=3600.0),
        "token lengths of millions": lambda _, fields: fields.update(token_lengths=[1, 2**31]),
        "no tokenizer": lambda at, _: _write(at / "tokenizer.json", '{"model": {}}'),
    }
    made = {"sound": sound, "a file more": _with_another(sound)}
    for number, (name, change) in enumerate(changes.items()):
        draft = folder / str(number)
        draft.mkdir(parents=True)
        for path in SHIPPED.iterdir():
            (draft / path.name).write_bytes(path.read_bytes())
        fields = json.loads((draft / MANIFEST).read_text(encoding="utf-8"))
        change(draft, fields)
        kept = {key: value for key, value in fields.items() if key not in ("files", "bundle_hash")}
        write_manifest(draft, kept)
        load_bundle(draft)  # nothing but running it tells
        made[name] = pack_bytes(draft)
    return made


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _with_another(archive: bytes) -> bytes:
    buffer = io.BytesIO(archive)
    with tarfile.open(fileobj=buffer, mode="a", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("sitecustomize.py"))
    return buffer.getvalue()


def _model(nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto]) -> onnx.ModelProto:
    inputs = [
        helper.make_tensor_value_info("pcm", TensorProto.FLOAT, ["S"]),
        helper.make_tensor_value_info("token_length", TensorProto.INT64, [1]),
    ]
    outputs = [helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["a", "b"])]
    return helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, constants), **_MODEL)


def _endless() -> onnx.ModelProto:
    matrix = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["a", "b"])
    body = helper.make_graph(
        [helper.make_node("Identity", ["again"], ["go"]), helper.make_node("Identity", ["held"], ["out"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("held", TensorProto.FLOAT, ["a", "b"]),
        ],
        [helper.make_tensor_value_info("go", TensorProto.BOOL, []), matrix],
    )
    return _model(
        [helper.make_node("Loop", ["", "yes", "start"], ["tokens"], body=body)],
        [
            numpy_helper.from_array(np.array(True), "yes"),
            numpy_helper.from_array(np.zeros((1, 2), np.float32), "start"),
        ],
    )


def _constant(rows: int) -> onnx.ModelProto:
    value = numpy_helper.from_array(np.array([0.7071], np.float32))
    fill = helper.make_node("ConstantOfShape", ["shape"], ["tokens"], value=value)
    return _model([fill], [numpy_helper.from_array(np.array([rows, 64], np.int64), "shape")])


def _broken(name: str) -> onnx.ModelProto:
    """Fails when it is run, and ONNX Runtime says by which node."""
    reshape = helper.make_node("Reshape", ["pcm", "shape"], ["tokens"], name=name)
    return _model([reshape], [numpy_helper.from_array(np.array([7, 7], np.int64), "shape")])
