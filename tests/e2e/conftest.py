"""The shipped model, served for real: one process for all tests of this folder, on free ports."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from playwright.sync_api import Browser

from edge_server.server.config import ServerConfig
from tests.e2e.browsing import chromium

ROOT = Path(__file__).resolve().parents[2]


def load_script(path: Path) -> ModuleType:
    """A script that belongs to no package, as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def served() -> Iterator[dict[str, str]]:
    """The environment of a command that finds the server, and this environment's commands first."""
    with_server = load_script(ROOT / "deploy" / "with_server.py")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with with_server.edge_server(ROOT / ServerConfig().runtime.model) as found:
        yield os.environ | found | {"PATH": path}


@pytest.fixture(scope="module")  # no longer: its event loop would be in the way of other modules' tests
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    with chromium() as started:
        yield started
