"""What a terminal is shown of text from elsewhere."""

from __future__ import annotations

import io
import logging
import os
import sys

import pytest

from device_agent.cli.printable import line_of, printable, set_up_output


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two violins, ÄÖ 音 🎻", "two violins, ÄÖ 音 🎻"),
        ("a\nb", "a\nb"),
        ("\x1b[31mred\x1b]0;title\x07", "\\x1b[31mred\\x1b]0;title\\x07"),
        ("over\rwritten\x08\t", "over\\rwritten\\x08\\t"),
        (os.fsdecode(b"caf\xe9.mp4"), "caf\\xe9.mp4"),
        ("\ud83d", "\\ud83d"),
        ("exe.\u202egpj", "exe.\\u202egpj"),
        ("\x9b31m\u2028", "\\x9b31m\\u2028"),
        ("ze\u200bro \ufeff\U000e0041", "ze\\u200bro \\ufeff\\U000e0041"),
        ("می\u200cخواهم 👩\u200d🎤", "می\u200cخواهم 👩\u200d🎤"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_instead(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_name_does_not_end_its_line() -> None:
    assert line_of("a.mp4\nb.mp4: left") == "a.mp4\\nb.mp4: left"


def test_log_lines_are_shown_escaped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    set_up_output()
    logging.getLogger("device_agent.updating").warning("cannot be had: %s", "\x1b[2J\u202e")
    assert written.getvalue() == "cannot be had: \\x1b[2J\\u202e\n"


def test_printing_does_not_fail_for_want_of_a_character(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", errors="strict"))
    set_up_output()
    print("✓ Ä \udce9", flush=True)
    assert written.getvalue() == b"\\u2713 \\xc4 \\udce9\n"
