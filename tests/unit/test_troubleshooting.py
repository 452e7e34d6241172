"""docs/troubleshooting.md quotes what the programs say: messages are provoked, and exit codes compared."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from device_agent.cli.main import main
from device_agent.errors import BundleMismatchError as DevicesBundleMismatchError
from device_agent.errors import ServerUnreachableError
from device_agent.uplink.status import TryAgainError, error_of_call
from edge_server.errors import BundleMismatchError
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "deploy" / "models" / "soundstage-small" / "bundle"
CLIP = ROOT / "deploy" / "demo" / "clips" / "soundstage_test_000016.mp4"
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(.+?)` \| (\d+) \|", re.MULTILINE)
QUOTED = {said: int(code) for said, code in ROW.findall(PAGE)}
#: What it takes to have the device agent say it: arguments, environment.
DEVICE: Mapping[str, tuple[list[str], dict[str, str]]] = {
    "no connection to …Connection refused": ([str(CLIP), "Where?"], {}),
    "no device bundle at …": (["Where?"], {"TOKENLINK_DEVICE_BUNDLE": "nowhere"}),
    "…does not exist": (["nothing-here.mp4", "Where?"], {}),
    "…looks like a file that is not there": (["nothing-here.mp4"], {}),
    "…is no usable picture, video or sound": ([str(ROOT / "README.md"), "Where?"], {}),
    "…holds nothing from … s on": ([str(CLIP), "Where?", "--window", "100..104"], {}),
    "…no such setting (TOKENLINK_DEVICE_…); did you mean …": (["Where?"], {"TOKENLINK_DEVICE_SEVER": "a"}),
    "snr_db …is nan": ([str(CLIP), "Where?", "--snr-db", "nan"], {}),
}
SERVER: Mapping[str, tuple[list[str], dict[str, str]]] = {
    "model: there is no folder …": (["--model", "nowhere"], {}),
    "TOKENLINK_SERVER_…: …no such setting; did you mean …": ([], {"TOKENLINK_SERVER_MODLE": "a"}),
}
#: What broke a handshake, in gRPC's words.
HANDSHAKE = {
    "no connection to …The server does not speak TLS there": "WRONG_VERSION_NUMBER",
    "no connection to …certificate is not one that this device trusts": "CERTIFICATE_VERIFY_FAILED",
}
MISMATCH = "bundle_hash: the device runs bundle …, this server answers for …"
#: Provoked elsewhere in the tests: here only that the words stand in the program.
WORDS = {
    "encoding takes longer than … s (deadline_s)": (" takes longer than ", "device_agent/deadline.py"),
    "sending takes longer than … s (deadline_s)": (" takes longer than ", "device_agent/deadline.py"),
    "no answer from … within … s": ("no answer from ", "device_agent/agent.py"),
    "edge-server …needs …, which is not installed": ("which is not installed", "edge_server/cli.py"),
    "…needs a folder for temporary files …": (
        "needs a folder for temporary files",
        "edge_server/server/loading.py",
    ),
    "model: …cannot be copied to …": ("cannot be copied to", "edge_server/runtime/snapshot.py"),
    "ready_file: …cannot be written…": ("cannot be written", "edge_server/server/ready.py"),
    "grpc_port: cannot listen on …": ("grpc_port: cannot listen on", "edge_server/frontdoor/grpc/server.py"),
}


def is_said(quoted: str, found: str) -> bool:
    parts = [re.escape(part) for part in quoted.split("…")]
    return re.search(".*".join(parts), " ".join(found.split())) is not None


def test_every_message_of_the_page_is_looked_for() -> None:
    assert set(QUOTED) == {*DEVICE, *SERVER, *HANDSHAKE, MISMATCH, *WORDS}


@pytest.mark.parametrize("said", DEVICE)
def test_the_device_agent_says_so(
    said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, environment = DEVICE[said]
    settings = {"BUNDLE": str(BUNDLE), "SERVER": f"127.0.0.1:{free_port()}", "RETRIES": "0", "TLS": "false"}
    for name, value in settings.items():
        monkeypatch.setenv(f"TOKENLINK_DEVICE_{name}", value)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["device-agent", "ask", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert is_said(said, capsys.readouterr().err)
    assert ended.value.code == QUOTED[said]


@pytest.mark.parametrize("said", HANDSHAKE)
def test_a_broken_handshake_is_explained_so(said: str) -> None:
    error = AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata(), HANDSHAKE[said])
    told = error_of_call(error, "edge:50051")
    assert isinstance(told, TryAgainError)
    assert is_said(said, str(told))
    assert QUOTED[said] == ServerUnreachableError.exit_code


def test_two_bundles_are_told_apart_so() -> None:
    assert is_said(MISMATCH, str(BundleMismatchError("aa", ["bb"])))
    assert QUOTED[MISMATCH] == DevicesBundleMismatchError.exit_code


@pytest.mark.parametrize("said", SERVER)
def test_the_server_says_so(said: str) -> None:
    arguments, environment = SERVER[said]
    done = subprocess.run(
        [sys.executable, "-c", "from edge_server.cli import main; main()", "serve", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert is_said(said, done.stderr)
    assert done.returncode == QUOTED[said]


@pytest.mark.parametrize("said", WORDS)
def test_the_words_stand_in_the_program(said: str) -> None:
    words, module = WORDS[said]
    assert words in said
    assert words in (ROOT / module).read_text(encoding="utf-8")
