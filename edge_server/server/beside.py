"""Several models of one server, beside one another: each is asked by its name, or by a device's bundle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from edge_server.errors import ConfigurationError
from edge_server.frontdoor.backend import Served
from edge_server.server.config import ServerConfig


def each_model(config: ServerConfig) -> Iterator[ServerConfig]:
    """The settings of each model that is served, as if it were the only one; that of ``model`` is first.

    Raises:
        ConfigurationError: there are several, and a cluster's doors and engines serve one together.
    """
    if config.runtime.beside and config.cluster.on:
        raise ConfigurationError(
            "beside: a cluster's doors and engines serve one model; another needs some of its own"
        )
    for model in (config.runtime.model, *config.runtime.beside):
        runtime = config.runtime.model_copy(update={"model": model, "beside": ()})
        yield config.model_copy(update={"runtime": runtime})


def check_beside(served: Served, others: Iterable[Served]) -> None:
    """Whether models can be told from one another.

    Raises:
        ConfigurationError: two have one name, or answer for one bundle.
    """
    seen = [served]
    for other in others:
        for each in seen:
            if each.model.name == other.model.name:
                raise ConfigurationError(
                    f"beside: two models are called {other.model.name!r}, and are asked by that"
                )
            if set(each.bundle_hashes) & set(other.bundle_hashes):
                raise ConfigurationError(
                    f"beside: {each.model.name!r} and {other.model.name!r} answer for the same device bundle"
                )
        seen.append(other)
