"""Whose scenes a device or an API key may see beside its own: grants in the access file."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from edge_server.access.store import connect, transaction
from edge_server.errors import ConfigurationError

# Made with the first grant: files of servers before there were scenes are read as they are.
_TABLE = """
CREATE TABLE IF NOT EXISTS scene_grants (
    name TEXT NOT NULL,            -- of a device, or of an API key after "key:"
    devices TEXT NOT NULL,         -- whose scenes, * for anything
    granted_s REAL NOT NULL,
    PRIMARY KEY (name, devices)
) STRICT
"""
_GRANT = re.compile(r"read:(?P<devices>[^\s:]{1,128})")


@dataclass(frozen=True)
class SceneGrant:
    """Somebody may see somebody's scenes; since when, in seconds since the Unix epoch."""

    name: str
    devices: str
    granted_s: float


def grant_scenes(path: Path, name: str, grant: str, now_s: float) -> None:
    """Let somebody see scenes, from now on.

    Args:
        path: the access file.
        name: of a device, or of an API key after ``key:``.
        grant: ``read:DEVICES``, in which ``*`` stands for anything.
        now_s: seconds since the Unix epoch.

    Raises:
        ConfigurationError: it is no grant, or the file cannot be written.
    """
    devices = _devices(grant)
    with transaction(path) as database:
        database.execute(_TABLE)
        database.execute("INSERT OR REPLACE INTO scene_grants VALUES (?, ?, ?)", (name, devices, now_s))


def withdraw_scenes(path: Path, name: str, grant: str) -> None:
    """Take a grant back, from the next question on.

    Raises:
        ConfigurationError: there is no such grant.
    """
    devices = _devices(grant)
    with transaction(path) as database:
        database.execute(_TABLE)
        gone = database.execute(
            "DELETE FROM scene_grants WHERE name = ? AND devices = ?", (name, devices)
        ).rowcount
        if not gone:
            raise ConfigurationError(f"grant: {name[:80]!r} has no {grant[:150]!r}; see `scenes grants`")


def list_scene_grants(path: Path) -> list[SceneGrant]:
    """All grants, by name."""
    with closing(connect(path)) as database:
        return [SceneGrant(name, devices, granted_s) for name, devices, granted_s in _rows(database)]


def grants_by_name(database: sqlite3.Connection) -> Mapping[str, tuple[str, ...]]:
    """Whose scenes each may see, of an access file that is open."""
    found: dict[str, tuple[str, ...]] = {}
    for name, devices, _ in _rows(database):
        found[name] = (*found.get(name, ()), devices)
    return found


def _rows(database: sqlite3.Connection) -> list[tuple[str, str, float]]:
    there = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'scene_grants'").fetchone()
    if there is None:
        return []
    rows = database.execute("SELECT name, devices, granted_s FROM scene_grants ORDER BY name, devices")
    return [(str(row[0]), str(row[1]), float(row[2])) for row in rows]


def _devices(grant: str) -> str:
    found = _GRANT.fullmatch(grant)
    if found is None:
        raise ConfigurationError(
            f"grant: is {grant[:150]!r}; read:DEVICES is needed, such as read:camera-1 or read:camera-*"
        )
    return found["devices"]
