"""How tests are shared out among processes (``pytest -n 3 --dist loadfile``).

A module stays together, so that what its tests share is made once. Everything that needs Docker is one
group, and the first: it takes longest, mostly waits, and one process is at it while others do the rest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.scheduling import same_scheduling

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported: each process takes its share of the cores.
    workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

DOCKER = "tests/e2e/test_compose"
"""How modules begin that need a Docker engine: they share images, and are not to be built twice at once."""


@pytest.fixture(autouse=True)
def _scheduled_as_before() -> Iterator[None]:
    """No library that a test calls may leave this process with a priority of its own: children inherit it."""
    with same_scheduling() as changed:
        yield
    assert not changed, "something called here changed how the kernel schedules this process"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Docker first, then the rest as it stands."""
    items.sort(key=lambda item: not item.nodeid.startswith(DOCKER))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Modules as groups, and those of Docker as one."""
    from xdist.scheduler import LoadScopeScheduling

    class ByModule(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "docker" if nodeid.startswith(DOCKER) else nodeid.partition("::")[0]

    return ByModule(config, log)
