"""The committed stubs are what the .proto makes: regenerate and compare."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("grpc_tools", reason="grpcio-tools is a development dependency")

ROOT = Path(__file__).resolve().parents[2]
PROTO = "protos/tokenlink/v1/tokenlink.proto"
STUBS = ("tokenlink_pb2.py", "tokenlink_pb2.pyi", "tokenlink_pb2_grpc.py")


def test_committed_stubs_are_what_the_proto_makes(tmp_path: Path) -> None:
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            "-I",
            ".",
            *(f"--{kind}={tmp_path}" for kind in ("python_out", "pyi_out", "grpc_python_out")),
            PROTO,
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=120,
    )
    for stub in STUBS:
        path = Path(PROTO).with_name(stub)
        assert (tmp_path / path).read_text() == (ROOT / path).read_text(), (
            f"{path} is stale: regenerate as CONTRIBUTING says"
        )
