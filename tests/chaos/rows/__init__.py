"""A module for each row of the table of faults.

To add one: a module with ``async def run(scale, folder) -> Row`` here, and a line in :data:`ROWS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

ROWS: Mapping[str, str] = MappingProxyType(
    {
        "kills": "tests.chaos.rows.kills",
        "offline": "tests.chaos.rows.offline",
        "sharing": "tests.chaos.rows.sharing",
        "scene_doors": "tests.chaos.rows.scene_doors",
        "impairments": "tests.chaos.rows.impairments",
        "stampede": "tests.chaos.rows.stampede",
        "fuzz": "tests.chaos.rows.fuzz",
        "fuzz_coverage": "tests.chaos.rows.fuzz_coverage",
        "openapi": "tests.chaos.rows.openapi",
        "bombs": "tests.chaos.rows.bombs",
        "hostile_media": "tests.chaos.rows.hostile_media",
        "trickle": "tests.chaos.rows.trickle",
        "mtls": "tests.chaos.rows.mtls",
        "strangers": "tests.chaos.rows.strangers",
        "keyless": "tests.chaos.rows.keyless",
        "enrolled": "tests.chaos.rows.enrolled",
        "malicious_servers": "tests.chaos.rows.malicious_servers",
        "compose": "tests.chaos.rows.compose",
        "runners": "tests.chaos.rows.runners",
        "rollouts": "tests.chaos.rows.rollouts",
        "sigterm": "tests.chaos.rows.sigterm",
        "honest": "tests.chaos.rows.honest",
        "soak": "tests.chaos.rows.soak",
    }
)
"""Module of each row, by name, in the order of the table."""
