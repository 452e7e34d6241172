"""Engines by name: what the setting ``engine_kind`` may say.

An engine is a function from :class:`EngineParts` to an :class:`~edge_server.engine.client.EngineClient`. One
that another package brings is registered with :func:`register_engine`, or found by its entry point of the
group ``tokenlink.engines``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, TypeAlias

from edge_server.engine.calibration import Calibration
from edge_server.engine.client import EngineClient
from edge_server.engine.config import EngineConfig
from edge_server.engine.engine import Engine
from edge_server.engine.observer import EngineObserver
from edge_server.engine.ports import Model, ModelRunner
from edge_server.errors import ConfigurationError

_GROUP = "tokenlink.engines"


@dataclass(frozen=True)
class EngineParts:
    """What an engine is made of.

    Attributes:
        model: what is asked.
        config: bounds.
        runner_of: what each of its batches may compute with, by its number.
        clock: monotonic seconds.
        observer: is told what happens.
        calibration: says how sure answers are, and which are held back; None: all are told as they are.
    """

    model: Model
    config: EngineConfig
    runner_of: Callable[[int], ModelRunner[Any]]
    clock: Callable[[], float]
    observer: EngineObserver
    calibration: Calibration | None = None


BuildEngine: TypeAlias = Callable[[EngineParts], EngineClient]


def _batching(parts: EngineParts) -> EngineClient:
    return Engine(
        parts.model,
        parts.config,
        runner_of=parts.runner_of,
        clock=parts.clock,
        observer=parts.observer,
        calibration=parts.calibration,
    )


_engines: dict[str, BuildEngine] = {"batching": _batching}


def register_engine(name: str, build: BuildEngine) -> None:
    """Let an engine be asked for by name.

    Raises:
        ValueError: the name is taken by another.
    """
    if _engines.setdefault(name, build) is not build:
        raise ValueError(f"there is an engine {name!r} already")


def build_engine(name: str, parts: EngineParts) -> EngineClient:
    """The engine of a name.

    Raises:
        ConfigurationError: there is none, or its package cannot be imported.
    """
    build = _engines.get(name)
    if build is None:
        found = {each.name: each for each in entry_points(group=_GROUP)}
        if name not in found:
            allowed = ", ".join(sorted({*_engines, *found}))
            raise ConfigurationError(f"engine_kind is {name!r}; there are: {allowed}")
        try:
            build = found[name].load()
        except ImportError as error:
            raise ConfigurationError(f"engine_kind is {name!r}, which cannot be imported: {error}") from error
    return build(parts)
