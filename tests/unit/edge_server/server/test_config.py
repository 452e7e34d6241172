from __future__ import annotations

import json
import logging
import sys

import pytest
from pydantic import ValidationError

from edge_server.server.config import ServerConfig
from edge_server.server.logs import JsonFormatter


def test_flags_win_over_the_environment_which_wins_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENLINK_SERVER_MAX_BATCH", "64")
    monkeypatch.setenv("TOKENLINK_SERVER_MAX_QUEUE", "99")
    config = ServerConfig(max_queue=7)
    assert (config.engine.max_batch, config.engine.max_queue, config.grpc.port) == (64, 7, 50_051)
    assert config.engine.max_batch == 64


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"max_batch": 0}, "max_batch"),
        ({"grpc_port": 70_000}, r"grpc\.port"),
        ({"max_bacth": 1}, "max_bacth"),
    ],
)
def test_settings_that_cannot_be_are_refused(setting: dict[str, int], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        ServerConfig(**setting)  # type: ignore[arg-type]


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValidationError, match="default_new_tokens"):
        ServerConfig(default_new_tokens=100, max_new_tokens=10)


def test_a_log_line_is_one_json_object_with_its_fields() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.getLogger("x").makeRecord(
            "x", logging.ERROR, "f", 1, "hello %s", ("you",), sys.exc_info(), extra={"request_id": "q1"}
        )
    line = JsonFormatter().format(record)
    assert "\n" not in line
    fields = json.loads(line)
    assert (fields["message"], fields["level"], fields["request_id"]) == ("hello you", "ERROR", "q1")
    assert "ValueError" in fields["traceback"]
