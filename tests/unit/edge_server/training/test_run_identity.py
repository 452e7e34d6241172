from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from edge_server.errors import ModelError
from edge_server.training.recipes import smoke
from edge_server.training.registry import all_recipes
from edge_server.training.run import Run
from edge_server.training.run_identity import RECORD, canonical, ensure_identity, migrate, settings_digest

RECORDS = Path("docs/results/study")


def run_in(folder: Path, **changes: object) -> Run:
    return Run(replace(smoke(), **changes), 1, folder, folder, 1)  # type: ignore[arg-type]


def test_a_folder_gets_an_identity_once_and_is_resumed_by_the_same_run(tmp_path: Path) -> None:
    ensure_identity(run_in(tmp_path / "run"))
    before = (tmp_path / "run" / RECORD).read_text()
    ensure_identity(run_in(tmp_path / "run"))
    assert (tmp_path / "run" / RECORD).read_text() == before


@pytest.mark.parametrize("changes", [{"channel_dim": 8}, {"alignment": None}])
def test_other_numbers_under_the_same_name_are_another_run(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    ensure_identity(run_in(tmp_path))
    with pytest.raises(ModelError, match="holds a run of"):
        ensure_identity(run_in(tmp_path, **changes))


def test_a_folder_from_before_settings_were_noted_is_taken_by_its_name(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text(json.dumps({"recipe": "smoke", "seed": 1}))
    ensure_identity(run_in(tmp_path))
    assert "settings" in json.loads((tmp_path / RECORD).read_text())
    with pytest.raises(ModelError):
        ensure_identity(run_in(tmp_path, channel_dim=8))


@dataclass(frozen=True)
class Old:
    name: str
    slots: int
    rates: tuple[float, ...]


def test_a_renamed_class_in_another_module_keeps_the_identity() -> None:
    renamed: Any = make_dataclass("New", [("name", str), ("slots", int), ("rates", list)])
    renamed.__module__ = "somewhere.else_"
    assert settings_digest(Old("a", 14, (1.0, 2.0))) == settings_digest(renamed("b", 14, [1.0, 2.0]))
    assert settings_digest(Old("a", 14, (1.0, 2.0))) != settings_digest(Old("a", 14, (1.0, 2.5)))


def test_a_renamed_field_keeps_the_identity_under_its_old_name() -> None:
    @dataclass(frozen=True)
    class New:
        name: str
        num_queries: int = field(metadata={"identity": "slots"})
        rates: tuple[float, ...] = (1.0,)

    assert settings_digest(New("a", 14)) == settings_digest(Old("a", 14, (1.0,)))


def test_what_has_no_canonical_form_is_refused() -> None:
    with pytest.raises(TypeError, match="object"):
        canonical({"recipe": object()})


def test_every_committed_record_is_of_a_recipe_as_it_is_now() -> None:
    recipes = all_recipes()
    records = sorted(RECORDS.glob("*/run.json"))
    assert len(records) == 66
    for path in records:
        found = json.loads(path.read_text())
        assert found["settings"] == settings_digest(recipes[found["recipe"]]), path


def test_records_of_an_older_release_are_read_and_migrated(tmp_path: Path) -> None:
    # What the release before canonical identities wrote for the recipe "two-stage".
    older = {"recipe": "two-stage", "seed": 1, "settings": "77f97e7aa8058194"}
    folder = tmp_path / "seed-1" / "two-stage"
    folder.mkdir(parents=True)
    (folder / RECORD).write_text(json.dumps(older))
    shutil.copytree(folder, tmp_path / "resumed")
    run = Run(all_recipes()["two-stage"], 1, tmp_path / "resumed", tmp_path, 1)
    ensure_identity(run)
    assert migrate(tmp_path) == 1
    assert migrate(tmp_path) == 0
    current = json.loads((folder / RECORD).read_text())
    assert current == json.loads((RECORDS / "two-stage-seed-1" / RECORD).read_text())
    assert current == json.loads((tmp_path / "resumed" / RECORD).read_text())


def test_a_record_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text("[]")
    with pytest.raises(ModelError, match=RECORD):
        migrate(tmp_path)
