"""Settings of several models of one server."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_server.errors import ConfigurationError
from edge_server.server.beside import each_model
from edge_server.server.config import ServerConfig


def config(**given: object) -> ServerConfig:
    return ServerConfig.model_validate({"model": "a", "beside": ["b", "c"], **given})


def test_each_model_has_settings_of_its_own_the_first_one_first() -> None:
    found = list(each_model(config(max_batch=7)))
    assert [each.runtime.model for each in found] == [Path("a"), Path("b"), Path("c")]
    assert [each.runtime.beside for each in found] == [()] * 3
    assert {each.engine.max_batch for each in found} == {7}


def test_a_cluster_serves_one() -> None:
    with pytest.raises(ConfigurationError, match="beside: a cluster"):
        next(each_model(config(cluster="nats://127.0.0.1:4222")))
