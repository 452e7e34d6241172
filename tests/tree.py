"""The part of CONTRIBUTING.md that says where things are, from the packages' docstrings and the import rules.

python -m tests.tree          make tree: writes it anew; a test holds that it is current
"""

from __future__ import annotations

import ast
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- made by `make tree` -->\n", "<!-- end of what `make tree` makes -->"
#: What is shown, and how many folders deep.
DEPTHS = {"protos": 1, "device_agent": 3, "edge_server": 3, "deploy": 2, "tests": 3}
WIDTH = 120


def tree() -> str:
    """Every package with what its docstring begins with, indented as folders are."""
    lines = []
    for root, depth in DEPTHS.items():
        for path in _packages(ROOT / root, depth):
            indent = "  " * (len(path.relative_to(ROOT).parts) - 1)
            told = summary(path)
            if told:
                name = f"{indent}{path.name}/"
                lines += textwrap.wrap(
                    f"{name:24} {told}", WIDTH, subsequent_indent=" " * 25, break_on_hyphens=False
                )
    return "\n".join(["```", *lines, "```"])


def _packages(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / "__init__.py").exists() and depth:
        yield folder
        for inside in sorted(path for path in folder.iterdir() if path.is_dir()):
            yield from _packages(inside, depth - 1)


def summary(package: Path) -> str:
    """The first paragraph of a package's docstring; empty where it has none."""
    docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.partition("\n\n")[0].replace("``", "").split())


def rules() -> str:
    """What may not import what: a row per contract of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lines = ["| rule | of | never imports |", "|---|---|---|"]
    for contract in project["tool"]["importlinter"]["contracts"]:
        if contract["type"] == "forbidden":
            sides = contract["source_modules"], contract["forbidden_modules"]
        elif contract["type"] == "protected":
            others = ", ".join(_short(name) for name in contract["allowed_importers"])
            sides = [f"everybody but {others}"], contract["protected_modules"]
        else:
            sides = contract["ancestors"], ["one another in a circle"]
        lines.append(f"| {contract['name']} | {' | '.join(', '.join(map(_short, side)) for side in sides)} |")
    return "\n".join(lines)


def _short(module: str) -> str:
    return module if " " in module else f"`{module.removeprefix('edge_server.')}`"


def page(text: str) -> str:
    """The page with its generated part written anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    made = f"{tree()}\n\n{rules()}"
    return f"{before}{BEGIN}\n{made}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
