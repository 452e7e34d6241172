"""Which bundle a device is told to run: its own where it has co-trained, else that of its precision."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edge_server.cell import BackendRegistry
from edge_server.frontdoor.backend import Backends, bundle_for
from edge_server.frontdoor.ports import BundleArchive

BASE, SMALL, HALL, HALL_TWO, OLD = ("a" * 64, "b" * 64, "c" * 64, "d" * 64, "e" * 64)


def backends() -> Backends:
    path = Path("bundle.tar")
    current = (
        BundleArchive(BASE, path),
        BundleArchive(SMALL, path, "int8"),
        BundleArchive(HALL, path, personal_to="hall"),
        BundleArchive(HALL_TWO, path, personal_to="hall-2"),
    )
    made = [
        SimpleNamespace(bundle_hashes=tuple(b.bundle_hash for b in of), served=SimpleNamespace(bundles=of))
        for of in (current, (BundleArchive(OLD, path), BundleArchive("f" * 64, path, "int8")))
    ]

    found: BackendRegistry[Any] = BackendRegistry(made[1])
    found.add(made[0])
    return cast(Backends, found)


@pytest.mark.parametrize(
    ("runs", "device", "told"),
    [
        (BASE, "yard-1234", BASE),
        (BASE, "hall-1234", HALL),
        (BASE, "hall/1234", HALL),
        (HALL, "hall", HALL),
        (BASE, "hallway-1", BASE),
        (BASE, "hall-2-1234", HALL_TWO),
        (HALL, "yard-1", BASE),
        (SMALL, "hall-1", SMALL),
        (OLD, "yard-1", BASE),
        (OLD, "hall-1", HALL),
        ("f" * 64, "yard-1", SMALL),
    ],
)
def test_a_device_is_told_its_bundle(runs: str, device: str, told: str) -> None:
    assert bundle_for(backends(), runs, device) == told
