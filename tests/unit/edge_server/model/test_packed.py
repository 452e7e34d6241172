"""Rows of different lengths, one after another."""

from __future__ import annotations

from edge_server.model.packed import rows_together


def test_rows_are_rounded_up_a_little_and_to_few_numbers() -> None:
    counts = range(1, 4097)
    rounded = [rows_together(count) for count in counts]
    assert all(count <= more <= count * 17 / 16 for count, more in zip(counts, rounded, strict=True))
    assert rounded == sorted(rounded)
    # Sixteen each time they double, and each of the first ones for itself.
    assert len(set(rounded)) <= 16 * 9
    assert [rows_together(count) for count in (1, 16, 17, 31, 33, 853)] == [1, 16, 17, 31, 34, 864]
