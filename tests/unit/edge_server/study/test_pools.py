"""Where trainings run: processes here, or a Ray cluster."""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable
from typing import Any

import pytest

from edge_server.errors import ConfigurationError
from edge_server.study.pools import LOCAL, processes, ray_cluster


def process_id() -> int:
    return os.getpid()


def fail() -> None:
    raise ValueError("a training that failed")


def test_processes_run_what_they_are_given() -> None:
    with processes(1) as pool:
        assert pool.submit(process_id).result() != os.getpid()
        with pytest.raises(ValueError, match="that failed"):
            pool.submit(fail).result()


def test_a_ray_cluster_runs_what_it_is_given_and_tells_failures() -> None:
    pytest.importorskip("ray", reason="ray (the extra ray) is not installed")
    with ray_cluster(LOCAL) as (pool, there):
        assert there >= 1
        assert pool.submit(process_id).result() != os.getpid()
        with pytest.raises(ValueError, match="that failed"):
            pool.submit(fail).result()


def test_without_ray_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., Any] = builtins.__import__

    def missing(name: str, *more: Any, **named: Any) -> Any:
        if name == "ray":
            raise ImportError(name="ray")
        return real(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ConfigurationError, match=r"pip install '.\[ray\]'"), ray_cluster("head:6379"):
        pass
