"""Which product files spell a name: what a promise about extending is counted by."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("protos", "device_agent", "edge_server")


def product_files() -> Iterator[Path]:
    """Every Python file of the packages, but for generated ones."""
    for package in PACKAGES:
        yield from (path for path in sorted((ROOT / package).rglob("*.py")) if "_pb2" not in path.name)


def files_that_spell(*words: str) -> set[str]:
    """Product files in which one of these words is a string of its own, not part of a sentence."""
    return {str(path.relative_to(ROOT)) for path in product_files() if not strings(path).isdisjoint(words)}


def files_that_list(*words: str) -> set[str]:
    """Product files in which at least two of these words stand: they list them, and one more comes there.

    A file that spells one alone is about that one: a reader of its files, say.
    """
    return {
        str(path.relative_to(ROOT)) for path in product_files() if len(strings(path).intersection(words)) > 1
    }


def strings(path: Path) -> set[str]:
    """Every string constant of a file."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
