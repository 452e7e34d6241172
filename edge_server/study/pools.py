"""Where trainings of a study run: processes of this machine, or a Ray cluster.

Both take a function and what it is called with, and give a future. On a Ray cluster every machine has to see
the folders of runs, data and records under the same paths (a network file system): a training that is begun
again elsewhere, because its machine died, goes on from its checkpoint.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, Protocol

from edge_server.errors import ConfigurationError

LOCAL = "local"
_TIMES_MORE = 3
"""A training whose machine died is begun again so often."""


class Pool(Protocol):
    """Runs functions beside one another."""

    def submit(self, call: Callable[..., Any], /, *told: Any) -> Future[Any]:
        """Run a function soon."""


@contextlib.contextmanager
def processes(jobs: int) -> Iterator[Pool]:
    """Processes of this machine.

    Args:
        jobs: so many.
    """
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


class _RayPool:
    """A Ray cluster that is joined."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def submit(self, call: Callable[..., Any], /, *told: Any) -> Future[Any]:
        """See :class:`Pool`; each has a core of its own."""
        task = self._ray.remote(num_cpus=1, max_retries=_TIMES_MORE)(call)
        future: Future[Any] = task.remote(*told).future()
        return future


@contextlib.contextmanager
def ray_cluster(address: str) -> Iterator[tuple[Pool, int]]:
    """A Ray cluster, joined while the context lasts, and how many cores it has.

    Args:
        address: as ``ray.init`` takes it, such as ``head:6379`` on a machine of the cluster, ``ray://head:10001``
            elsewhere; :data:`LOCAL`: one that is started here, on all cores.

    Raises:
        ConfigurationError: Ray is not installed, or there is no cluster.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigurationError(
            "ray: trainings on a Ray cluster need ray, which is not installed; in a clone of the repository: "
            "pip install '.[ray]'"
        ) from error
    try:
        ray.init(
            address=None if address == LOCAL else address,
            include_dashboard=False if address == LOCAL else None,
            log_to_driver=False,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigurationError(f"ray: {address} cannot be joined: {error}") from error
    try:
        yield _RayPool(ray), max(int(ray.cluster_resources().get("CPU", 1)), 1)
    finally:
        ray.shutdown()
