"""Text that people wrote, as editors and shells leave it."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device_agent.bundle.signature import BundleKey, read_keys
from device_agent.channel.trace import read_trace
from device_agent.written import written_text

CODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]


@pytest.mark.parametrize("coding", CODINGS)
def test_the_mark_of_a_coding_is_no_part_of_the_text(tmp_path: Path, coding: str) -> None:
    path = tmp_path / "text"
    mark = "\ufeff" if coding.endswith("e") else ""
    path.write_bytes((mark + "für 日本 😀\n").encode(coding))
    assert written_text(path) == "für 日本 😀\n"


def test_what_is_neither_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes("für".encode("latin-1"))
    with pytest.raises(UnicodeDecodeError):
        written_text(path)


@pytest.mark.parametrize("coding", ["utf-8-sig", "utf-16"])
def test_traces_and_keys_are_read_so(tmp_path: Path, coding: str) -> None:
    trace, keys = tmp_path / "trace.csv", tmp_path / "keys"
    trace.write_text("time_s,snr_db\r\n0,3\r\n", encoding=coding, newline="")
    assert read_trace(trace).snrs_db == (3.0,)
    key = BundleKey(Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    keys.write_text(f"{key.text}\r\n", encoding=coding, newline="")
    assert read_keys(keys) == (key,)
