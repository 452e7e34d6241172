"""Bundles from a server that means harm: a device that pulls one loads nothing of it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Callable
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from device_agent.bundle.archive import ArchiveLimits, install, unpack
from device_agent.bundle.bundle import MANIFEST, bundle_hash
from device_agent.errors import BundleError
from device_agent.uplink.uplink import Uplink
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from protos.tokenlink.v1.tokenlink_pb2_grpc import TokenLinkServicer, add_TokenLinkServicer_to_server


def graph_with_external_data(path: str) -> bytes:
    """An ONNX graph that reads its weights from a file of its reader."""
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", path
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    node = helper.make_node("Identity", ["w"], ["y"])
    return helper.make_model(helper.make_graph([node], "g", [], [out], [tensor])).SerializeToString()


def bundle_of(files: dict[str, bytes], **changes: object) -> dict[str, bytes]:
    """The files of a bundle whose checksums and hash are right."""
    manifest: dict[str, object] = {
        "format": 1,
        "name": "hostile",
        "channel_dim": 8,
        "token_lengths": [4],
        "transmitters": {
            "audio": {
                "graph": "audio.onnx",
                "modalities": ["audio"],
                "sample_rate_hz": 16_000,
                "window_s": 4.0,
            }
        },
        "tokenizer": "tokenizer.json",
        "training_commit": "0",
        "files": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            for name, data in files.items()
        },
    } | changes
    manifest["bundle_hash"] = bundle_hash(manifest)
    return {MANIFEST: json.dumps(manifest).encode()} | files


def packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def with_wrong_checksum() -> bytes:
    files = bundle_of({"audio.onnx": b"\x08\x08", "tokenizer.json": b"{}"})
    return packed(files | {"audio.onnx": b"\x08\x09"})


def sparse_archive() -> bytes:
    """GNU's sparse format: five hundred bytes that unpack to a terabyte."""
    entry = tarfile.TarInfo("audio.onnx")
    entry.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(entry.tobuf(tarfile.GNU_FORMAT))
    header[386:398] = b"00000000000\0"  # offset of the first piece
    header[398:410] = b"00000000000\0"  # its size
    header[483:495] = b"\x80" + (2**40).to_bytes(11, "big")  # of the whole
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(10_240 - 512)


def huge_entry() -> bytes:
    entry = tarfile.TarInfo("audio.onnx")
    entry.size = 2**40
    return entry.tobuf(tarfile.GNU_FORMAT) + bytes(10_240)


def linked(kind: bytes, target: str) -> bytes:
    entry = tarfile.TarInfo("tokenizer.json")
    entry.type, entry.linkname = kind, target
    return entry.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


def endless_names() -> bytes:
    """Long-name headers, each of which announces the next."""
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 512
    return (name.tobuf(tarfile.GNU_FORMAT) + b"a" * 512) * 3000 + bytes(1024)


ATTACKS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a graph that reads a file of the device": (
        lambda: packed(
            bundle_of({"audio.onnx": graph_with_external_data("/etc/passwd"), "tokenizer.json": b"{}"})
        ),
        "reads its weights from another file",
    ),
    "a graph that reads its neighbour": (
        lambda: packed(
            bundle_of({"audio.onnx": graph_with_external_data("tokenizer.json"), "tokenizer.json": b"{}"})
        ),
        "reads its weights from another file",
    ),
    "a graph under a wrong checksum": (with_wrong_checksum, "checksum of audio.onnx"),
    "a pickle for a graph": (
        lambda: packed(bundle_of({"audio.onnx": b"\x80\x04cos\nsystem\n", "tokenizer.json": b"{}"})),
        "audio.onnx is no ONNX graph",
    ),
    "a terabyte of holes": (sparse_archive, "no plain file"),
    "a terabyte announced": (huge_entry, "more than"),
    "a link to a file of the device": (lambda: linked(tarfile.SYMTYPE, "/etc/passwd"), "no plain file"),
    "a hard link": (lambda: linked(tarfile.LNKTYPE, "/etc/passwd"), "no plain file"),
    "names without end": (endless_names, "archive"),
    "a compressed archive": (lambda: __import__("gzip").compress(packed({"a": bytes(2**20)})), "broken"),
    "a file that its manifest does not list": (
        lambda: packed(
            bundle_of({"audio.onnx": b"\x08\x08", "tokenizer.json": b"{}"}) | {"extra.so": b"\x7fELF"}
        ),
        "'extra.so', which its manifest does not list",
    ),
    "media that would fill the device": (
        lambda: packed(
            bundle_of(
                {"audio.onnx": b"\x08\x08", "tokenizer.json": b"{}"},
                transmitters={
                    "audio": {
                        "graph": "audio.onnx",
                        "modalities": ["audio"],
                        "sample_rate_hz": 384_000,
                        "window_s": 3600.0,
                    }
                },
            )
        ),
        "window_s takes more than",
    ),
    "a graph of very many fields": (
        lambda: packed(bundle_of({"audio.onnx": b"\x08\x08" * 2_000_001, "tokenizer.json": b"{}"})),
        "more than 2000000 fields",
    ),
    "another bundle than was asked for": (
        lambda: packed(bundle_of({"audio.onnx": b"\x08\x08", "tokenizer.json": b"{}"})),
        "not 000",
    ),
}


class Harmful(TokenLinkServicer):
    """Gives whatever archive it was told to."""

    def __init__(self) -> None:
        self.archive = b""
        self.announced = 0

    def GetBundle(self, request: pb.GetBundleRequest, context: grpc.ServicerContext) -> object:  # noqa: N802
        total = self.announced or len(self.archive)
        for start in range(0, max(len(self.archive), 1), 2**18):
            yield pb.BundleChunk(total_bytes=total, data=self.archive[start : start + 2**18])


@pytest.fixture
async def harmful() -> AsyncIterator[tuple[Harmful, Uplink]]:
    servicer = Harmful()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    add_TokenLinkServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    async with Uplink(f"127.0.0.1:{port}", "", device_id="d", snr_db=10.0) as uplink:
        yield servicer, uplink
    await asyncio.to_thread(server.stop(0).wait)


@pytest.mark.parametrize("name", ATTACKS)
async def test_a_bundle_that_means_harm_is_refused_before_it_is_loaded(
    harmful: tuple[Harmful, Uplink], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    make, complaint = ATTACKS[name]
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_: pytest.fail("a graph was loaded"))
    servicer, uplink = harmful
    servicer.archive = make()
    archive = tmp_path / "bundle.tar"
    await uplink.fetch_bundle(archive)
    installed = tmp_path / "bundle"
    with pytest.raises(BundleError, match=complaint):
        install(archive, installed, expected_hash="0" * 64)
    assert list(tmp_path.iterdir()) == [archive]


async def test_a_bundle_that_never_ends_is_cut(harmful: tuple[Harmful, Uplink], tmp_path: Path) -> None:
    servicer, uplink = harmful
    servicer.archive = bytes(2**21)
    with pytest.raises(BundleError, match="at most 1000000 are taken"):
        await uplink.fetch_bundle(tmp_path / "a", max_bytes=1_000_000)
    servicer.archive, servicer.announced = b"x", 2**60
    with pytest.raises(BundleError, match="at most"):
        await uplink.fetch_bundle(tmp_path / "a")


def test_many_files_are_refused(tmp_path: Path) -> None:
    archive = packed({f"f{number}": b"" for number in range(10_000)})
    with pytest.raises(BundleError, match="more than 64 files"):
        unpack(archive, tmp_path / "b", ArchiveLimits())


def test_a_graph_that_reads_elsewhere_would_have_been_loaded(tmp_path: Path) -> None:
    """The bait works: ONNX Runtime itself follows such a reference."""
    (tmp_path / "weights").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    graph = onnx.load_from_string(graph_with_external_data("weights"))
    graph.ir_version = 8
    graph.opset_import[0].version = 17
    (tmp_path / "g.onnx").write_bytes(graph.SerializeToString())
    session = onnxruntime.InferenceSession(str(tmp_path / "g.onnx"))
    assert session.run(None, {})[0].tolist() == [0.0, 1.0, 2.0, 3.0]
