"""The chain of trust from a bundle's hash to its files, and archives that try to break it."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from device_agent.bundle.archive import ArchiveLimits, install, pack, pack_bytes, unpack
from device_agent.bundle.bundle import MANIFEST, Bundle, bundle_hash, load_bundle, write_manifest
from device_agent.bundle.onnx_check import refuse_external_data
from device_agent.errors import BundleError

BundleMaker = Callable[[Path], Bundle]


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None], *, rehash: bool = True) -> None:
    """Change a manifest, and by default make its hash right again."""
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    if rehash:
        manifest["bundle_hash"] = bundle_hash(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_a_written_bundle_loads_and_says_what_media_it_wants(bundle: Bundle) -> None:
    again = load_bundle(bundle.folder)
    assert again == bundle
    assert again.hash == bundle_hash(json.loads((bundle.folder / MANIFEST).read_text()))
    assert sorted(again.manifest.files) == ["audio.onnx", "text.onnx", "tokenizer.json", "visual.onnx"]
    spec = again.media_spec()
    assert (spec.frame_rate_hz, spec.sample_rate_hz, spec.window_s, spec.max_frames) == (8.0, 16_000, 4.0, 32)


def test_the_hash_is_that_of_the_canonical_json_and_covers_everything() -> None:
    manifest = {"b": 1, "a": {"é": [1.5, None]}, "bundle_hash": "whatever"}
    canonical = b'{"a":{"\\u00e9":[1.5,null]},"b":1}'
    assert bundle_hash(manifest) == hashlib.sha256(canonical).hexdigest()
    assert bundle_hash(dict(reversed(manifest.items()))) == bundle_hash(manifest)
    assert bundle_hash(manifest | {"extra": 0}) != bundle_hash(manifest)


def test_same_files_make_the_same_hash_and_the_same_archive(make_bundle: BundleMaker, tmp_path: Path) -> None:
    first, second = make_bundle(tmp_path / "first"), make_bundle(tmp_path / "second")
    assert first.hash == second.hash
    assert pack_bytes(first.folder) == pack_bytes(second.folder)


def test_a_bundle_says_its_precision_and_what_it_was_made_from(bundle: Bundle) -> None:
    assert bundle.manifest.precision == "fp32"  # the manifest does not say: it is older than the question
    rewrite(bundle.folder, lambda manifest: manifest.update(precision="int8", quantised_from="0" * 64))
    assert load_bundle(bundle.folder).manifest.precision == "int8"
    rewrite(bundle.folder, lambda manifest: manifest.pop("quantised_from"))
    with pytest.raises(BundleError, match="quantised_from is needed"):
        load_bundle(bundle.folder)
    rewrite(bundle.folder, lambda manifest: manifest.update(precision="int2"))
    with pytest.raises(BundleError, match=r"precision: .*'fp32' or 'int8'"):
        load_bundle(bundle.folder)


def test_an_altered_file_is_noticed(bundle: Bundle) -> None:
    path = bundle.folder / "audio.onnx"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"checksum of audio\.onnx .*device-agent pull"):
        load_bundle(bundle.folder)
    path.write_bytes(data + b"x")
    with pytest.raises(BundleError, match=r"audio\.onnx has \d+ bytes"):
        load_bundle(bundle.folder)
    path.unlink()
    with pytest.raises(BundleError, match=r"audio\.onnx is missing"):
        load_bundle(bundle.folder)


@pytest.mark.parametrize(
    ("number", "complaint"),
    [(errno.ENOENT, "is missing"), (errno.EACCES, "cannot be read: Permission denied")],
)
def test_a_file_that_goes_while_it_is_looked_at_is_told_as_any_other(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, number: int, complaint: str
) -> None:
    def goes(path: Path) -> str:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr("device_agent.bundle.bundle.sha256_of", goes)
    with pytest.raises(BundleError, match=rf"\.\w+ {complaint}"):
        load_bundle(bundle.folder)


def test_an_altered_manifest_is_noticed(bundle: Bundle) -> None:
    rewrite(bundle.folder, lambda manifest: manifest.update(name="other"), rehash=False)
    with pytest.raises(BundleError, match="was altered"):
        load_bundle(bundle.folder)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda m: m.update(format=2), "format"),
        (lambda m: m.update(channel_dim=7), "channel_dim"),
        (lambda m: m.update(token_lengths=[]), "token_lengths"),
        (lambda m: m.update(token_lengths=[0]), "token_lengths"),
        (lambda m: m.pop("tokenizer"), "tokenizer"),
        (lambda m: m.update(tokenizer="other.json"), "other.json"),
        (lambda m: m["transmitters"]["audio"].update(graph="../../etc/passwd"), "not listed"),
        (lambda m: m["files"].update({"../x": {"sha256": "0" * 64, "bytes": 1}}), r"\.\./x"),
        (lambda m: m["files"].update({MANIFEST: {"sha256": "0" * 64, "bytes": 1}}), MANIFEST),
        (lambda m: m["files"]["audio.onnx"].update(bytes=-1), "bytes"),
        (lambda m: m["files"]["audio.onnx"].update(sha256="x"), "sha256"),
        (lambda m: m["transmitters"]["visual"].update(frame_rate_hz=0), "frame_rate_hz"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused_by_field(
    bundle: Bundle, change: Callable[[dict[str, Any]], None], complaint: str
) -> None:
    rewrite(bundle.folder, change)
    with pytest.raises(BundleError, match=complaint):
        load_bundle(bundle.folder)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": NaN}', "[" * 100_000, "\udcff"])
def test_a_manifest_that_is_no_json_object_is_refused(bundle: Bundle, text: str) -> None:
    (bundle.folder / MANIFEST).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BundleError, match=MANIFEST):
        load_bundle(bundle.folder)


def test_no_bundle_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="device-agent pull"):
        load_bundle(tmp_path)


def external_tensor() -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    return tensor


def model_of(nodes: list[onnx.NodeProto], initializers: list[onnx.TensorProto]) -> onnx.ModelProto:
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    return helper.make_model(helper.make_graph(nodes, "g", [], [out], initializers))


def hidden_in_an_initializer() -> onnx.ModelProto:
    return model_of([helper.make_node("Identity", ["w"], ["y"])], [external_tensor()])


def hidden_in_a_constant() -> onnx.ModelProto:
    return model_of([helper.make_node("Constant", [], ["y"], value=external_tensor())], [])


def hidden_in_a_branch() -> onnx.ModelProto:
    inner = hidden_in_a_constant().graph
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    return model_of([node], [])


def hidden_in_a_function() -> onnx.ModelProto:
    model = model_of([], [])
    constant = helper.make_node("Constant", [], ["y"], value=external_tensor())
    model.functions.append(helper.make_function("d", "f", [], ["y"], [constant], model.opset_import))
    return model


@pytest.mark.parametrize(
    "hidden", [hidden_in_an_initializer, hidden_in_a_constant, hidden_in_a_branch, hidden_in_a_function]
)
def test_a_graph_with_external_data_is_refused_wherever_it_hides(
    bundle: Bundle, hidden: Callable[[], onnx.ModelProto]
) -> None:
    (bundle.folder / "audio.onnx").write_bytes(hidden().SerializeToString())
    fields = json.loads((bundle.folder / MANIFEST).read_text())
    with pytest.raises(BundleError, match=r"audio\.onnx reads its weights from another file"):
        write_manifest(bundle.folder, fields)


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x3a\x05ab", b"\x03", b"\x80" * 20])
def test_a_graph_that_is_no_protobuf_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"x\.onnx"):
        refuse_external_data(data, "x.onnx")


def test_endless_nesting_is_refused() -> None:
    def message(number: int, body: bytes) -> bytes:
        length = bytes([len(body) & 0x7F | 0x80, len(body) >> 7])
        return bytes([number << 3 | 2]) + length + body

    graph = b""
    for _ in range(60):
        graph = message(1, message(5, message(6, graph)))  # node, its attribute, its graph
    with pytest.raises(BundleError, match="nested"):
        refuse_external_data(message(7, graph), "x.onnx")


def test_an_archive_comes_back_whole(bundle: Bundle, tmp_path: Path) -> None:
    archive = tmp_path / "bundle.tar"
    pack(bundle.folder, archive)
    unpacked = unpack(archive, tmp_path / "unpacked")
    assert unpacked.manifest == bundle.manifest
    for name in bundle.manifest.files:
        assert (unpacked.folder / name).read_bytes() == (bundle.folder / name).read_bytes()


def tar_of(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for entry, data in entries:
            entry.size = len(data) if entry.isreg() else 0
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def named(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, link
    return entry


@pytest.mark.parametrize(
    "entry",
    [
        named("../evil"),
        named("/etc/evil"),
        named("folder/evil"),
        named(".hidden"),
        named("evil", tarfile.SYMTYPE, "/etc/passwd"),
        named("evil", tarfile.LNKTYPE, "manifest.json"),
        named("evil", tarfile.DIRTYPE),
        named("evil", tarfile.FIFOTYPE),
        named("evil", tarfile.CHRTYPE),
    ],
    ids=lambda entry: f"{entry.type!r} {entry.name}",
)
def test_an_archive_that_reaches_outside_is_refused_and_leaves_nothing(
    tmp_path: Path, entry: tarfile.TarInfo
) -> None:
    target = tmp_path / "target"
    with pytest.raises(BundleError, match="the archive holds"):
        unpack(tar_of((named("good"), b"x"), (entry, b"evil")), target)
    assert list(target.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_an_archive_over_its_limits_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    archive = pack_bytes(bundle.folder)
    with pytest.raises(BundleError, match="at most 100"):
        unpack(archive, tmp_path / "a", ArchiveLimits(max_bytes=100))
    with pytest.raises(BundleError, match="more than 2 files"):
        unpack(archive, tmp_path / "b", ArchiveLimits(max_files=2))
    with pytest.raises(BundleError, match="twice"):
        unpack(tar_of((named("a"), b"1"), (named("a"), b"2")), tmp_path / "c")


@pytest.mark.parametrize("part", [0.3, 0.6])
def test_an_archive_that_was_cut_short_is_refused(bundle: Bundle, tmp_path: Path, part: float) -> None:
    archive = pack_bytes(bundle.folder)
    with pytest.raises(BundleError):
        unpack(archive[: int(len(archive) * part)], tmp_path / "a")
    with pytest.raises(BundleError, match="broken"):
        unpack(b"no archive at all", tmp_path / "b")


def test_installing_replaces_a_bundle_only_by_a_sound_one(make_bundle: BundleMaker, tmp_path: Path) -> None:
    installed = tmp_path / "share" / "bundle"
    first = make_bundle(tmp_path / "first")
    assert install(pack_bytes(first.folder), installed) == load_bundle(installed)
    rewrite(first.folder, lambda manifest: manifest.update(name="second"))
    second = load_bundle(first.folder)
    archive = pack_bytes(first.folder)
    with pytest.raises(BundleError, match="not 000"):
        install(archive, installed, expected_hash="0" * 64)
    with pytest.raises(BundleError):
        install(archive[:5000], installed)
    assert load_bundle(installed).manifest.name == "tiny"
    install(archive, installed, expected_hash=second.hash)
    assert load_bundle(installed).manifest.name == "second"
    assert [path.name for path in installed.parent.iterdir()] == ["bundle"]  # no scraps


def test_installing_leaves_alone_what_is_no_bundle(bundle: Bundle, tmp_path: Path) -> None:
    precious = tmp_path / "photos"
    precious.mkdir()
    (precious / "cat.jpg").write_bytes(b"meow")
    archive = pack_bytes(bundle.folder)
    with pytest.raises(BundleError, match="left alone"):
        install(archive, precious)
    assert (precious / "cat.jpg").read_bytes() == b"meow"
    with pytest.raises(BundleError, match="is a file"):
        install(archive, precious / "cat.jpg")
