from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edge_server.errors import ModelError
from edge_server.training.claim import RECORD, claim
from edge_server.training.recipes import smoke
from edge_server.training.run import Run


def run_in(folder: Path, **changes: object) -> Run:
    return Run(replace(smoke(), **changes), 1, folder, folder, 1)  # type: ignore[arg-type]


def test_a_folder_is_claimed_once_and_resumed_by_the_same_run(tmp_path: Path) -> None:
    claim(run_in(tmp_path / "run"))
    before = (tmp_path / "run" / RECORD).read_text()
    claim(run_in(tmp_path / "run"))
    assert (tmp_path / "run" / RECORD).read_text() == before


@pytest.mark.parametrize("changes", [{"channel_dim": 8}, {"alignment": None}])
def test_other_numbers_under_the_same_name_are_another_run(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    claim(run_in(tmp_path))
    with pytest.raises(ModelError, match="holds a run of"):
        claim(run_in(tmp_path, **changes))


def test_a_folder_from_before_settings_were_noted_is_taken_by_its_name(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text(json.dumps({"recipe": "smoke", "seed": 1}))
    claim(run_in(tmp_path))
    assert "settings" in json.loads((tmp_path / RECORD).read_text())
    with pytest.raises(ModelError):
        claim(run_in(tmp_path, channel_dim=8))
