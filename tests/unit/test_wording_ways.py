"""The way that is chosen answers its worst wording best, and plain questions as well as before."""

from __future__ import annotations

from typing import Any

from tests.benchmarks.wording_ways import MAY_LOSE, chosen


def row(way: str, accuracy: float, most_lost: float) -> dict[str, Any]:
    return {"way": way, "accuracy": accuracy, "most_lost": most_lost}


def test_what_loses_plain_answers_is_not_chosen() -> None:
    shipped = row("as shipped", 0.9, 0.2)
    assert chosen([shipped]) is shipped
    worse_plain = row("a", 0.9 - 2 * MAY_LOSE, 0.01)
    assert chosen([shipped, worse_plain]) is shipped
    steadier = row("b", 0.9 - MAY_LOSE / 2, 0.1)
    assert chosen([shipped, worse_plain, steadier]) is steadier


def test_accuracy_counts_and_not_what_is_lost() -> None:
    shipped, better = row("as shipped", 0.9, 0.05), row("a", 0.95, 0.06)
    assert chosen([shipped, better]) is better
