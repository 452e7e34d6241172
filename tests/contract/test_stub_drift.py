"""The committed stubs are what the .proto makes: regenerate and compare."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("grpc_tools", reason="grpcio-tools is a development dependency")

ROOT = Path(__file__).resolve().parents[2]
PROTOS = tuple(
    f"protos/tokenlink/v1/{name}.proto" for name in ("tokenlink", "enrolment", "cotrain", "cluster")
)
ENDINGS = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")


def test_committed_stubs_are_what_the_proto_makes(tmp_path: Path) -> None:
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            "-I",
            ".",
            *(f"--{kind}={tmp_path}" for kind in ("python_out", "pyi_out", "grpc_python_out")),
            *PROTOS,
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=120,
    )
    for path in (Path(proto.removesuffix(".proto") + ending) for proto in PROTOS for ending in ENDINGS):
        assert (tmp_path / path).read_text() == (ROOT / path).read_text(), (
            f"{path} is stale: regenerate as CONTRIBUTING says"
        )
