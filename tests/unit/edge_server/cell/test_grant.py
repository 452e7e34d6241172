from __future__ import annotations

import pytest
from pydantic import ValidationError

from edge_server.cell import CellConfig, suggest_token_length

LENGTHS = (1, 2, 4, 8, 16, 32)
STEPS = ((15.0, 8), (5.0, 16))


@pytest.mark.parametrize(
    ("snr_db", "token_length"),
    [(40.0, 8), (15.0, 8), (14.9, 16), (5.0, 16), (4.9, 32), (-30.0, 32), (float("nan"), 32)],
)
def test_the_worse_the_link_the_more_tokens(snr_db: float, token_length: int) -> None:
    assert suggest_token_length(snr_db, LENGTHS, STEPS) == token_length


def test_a_suggestion_is_always_a_length_that_the_model_knows() -> None:
    assert suggest_token_length(40.0, (3, 12), STEPS) == 12
    assert suggest_token_length(40.0, (3, 5), STEPS) == 5


@pytest.mark.parametrize("setting", [{"max_sessions": 0}, {"answers_kept_s": -1.0}])
def test_bounds_that_cannot_be_are_named(setting: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(setting))):
        CellConfig(**setting)  # type: ignore[arg-type]
