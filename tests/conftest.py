"""How tests are shared out among processes (``pytest -n 2 --dist loadgroup``).

A module stays together, so that what its tests share is made once. Everything that needs Docker is one
group, and the first: it takes longest, mostly waits, and one process is at it while others do the rest.
"""

from __future__ import annotations

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported: each process takes its share of the cores.
    workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Docker first, then what is marked slow, then the rest as it stands; each item in its group."""
    items.sort(key=lambda item: (not is_docker(item), item.get_closest_marker("slow") is None))
    for item in items:
        group = "docker" if is_docker(item) else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))


def is_docker(item: pytest.Item) -> bool:
    """Whether an item needs a Docker engine."""
    return item.get_closest_marker("docker") is not None
