"""The table of docs/security.md: what was promised of attacks and faults, and what became of it.

Made with the table of all promises, whose rows it shows; a test holds that the page has what the results say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[3] / "docs/security.md"
AREA = "hostile"
BEGIN, END = "<!-- made by `make promises` -->\n", "<!-- end of what `make promises` makes -->"


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Markdown.

    Args:
        rows: of promises.json.
    """
    lines = ["| promised | bound | found | kept |", "|---|---|---|---|"]
    for row in rows:
        if row["area"] == AREA:
            kept = {True: "yes", False: "no", None: ""}[row["met"]]
            lines.append(f"| {row['what']} | {row['asked']} | {_found(row)} | {kept} |")
    return "\n".join(lines)


def _found(row: Mapping[str, Any]) -> str:
    if row["measured"] is None:
        return "not measured"
    found = row["measured"] if isinstance(row["measured"], str) else f"{row['measured']:.4g}"
    return found.replace("|", "\\|")


def with_table(page: str, rows: Iterable[Mapping[str, Any]]) -> str:
    """A page with the table between its two marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(rows)}\n\n{END}{after}"
