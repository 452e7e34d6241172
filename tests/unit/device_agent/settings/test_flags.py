"""What help says of a setting, and flags that are made from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from pydantic import BaseModel, ConfigDict, Field
from typer.testing import CliRunner

from device_agent import config
from device_agent.settings.catalogue import Catalogue
from device_agent.settings.flags import with_flags
from device_agent.settings.wording import bounds_of, choices_of, default_of, quantity_of


class Oven(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    heat_s: Annotated[float, Field(ge=0)] = Field(default=90.0, json_schema_extra={"flag": True})
    """How long [it] is heated."""
    trays: int = Field(default=3, ge=1, le=9, json_schema_extra={"flag": True})
    """Trays."""
    door: Literal["open", "shut"] = Field(default="shut", json_schema_extra={"flag": True})
    """The door."""
    fan: bool = Field(default=False, json_schema_extra={"flag": True})
    """Whether it blows."""
    recipe: Path | None = Field(default=None, json_schema_extra={"shown": "what the cook says"})
    """What is baked."""


OVEN = Catalogue(Oven, "OVEN_", former={"plates": "trays"})


def test_defaults_bounds_and_choices_are_told() -> None:
    told = {each.name: (quantity_of(each), bounds_of(each)) for each in OVEN}
    assert told == {
        "heat_s": ("90 s", "at least 0"),
        "trays": ("3", "1 to 9"),
        "door": ("shut", "open, shut"),
        "fan": ("no", ""),
        "recipe": ("what the cook says", ""),
    }


def test_names_of_no_setting_are_refused() -> None:
    with pytest.raises(ValueError, match="names of no settings: lid"):
        Catalogue(Oven, "OVEN_", former={"cover": "lid"})


def test_flags_that_were_given_are_passed_by_the_names_of_settings() -> None:
    app = typer.Typer(rich_markup_mode="markdown")

    @app.command()
    @with_flags([each for each in OVEN if each.has_flag], "flags", dict)
    def bake(flags: dict[str, Any], loud: bool = False) -> None:
        typer.echo(f"{sorted(flags.items())} {loud}")

    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "160"}).output
    assert "How long [it] is heated. (at least 0)" in shown
    assert "[default: (90 s)]" in shown
    assert "--recipe" not in shown
    ran = CliRunner().invoke(app, ["--heat-s", "5", "--no-fan", "--loud", "--door", "ajar"])
    # What it may be is checked with the other settings.
    assert ran.output.strip() == "[('door', 'ajar'), ('fan', False), ('heat_s', 5.0)] True"


def test_what_is_shown_of_defaults_that_depend_on_the_user_is_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("device_agent.places._SOURCES", tmp_path)
    settings = config.DeviceSettings()
    for name, path in (
        ("bundle", settings.bundle),
        ("identity", settings.identity),
        ("outbox", settings.outbox_path()),
    ):
        shown = default_of(config.SETTINGS[name])
        assert shown.rpartition(" ")[2] == f"~/{path.relative_to(tmp_path)}"


def test_choices_that_are_registered_later_are_offered() -> None:
    assert choices_of(config.SETTINGS["channel"])[:4] == ("none", "awgn", "rayleigh", "rician")
