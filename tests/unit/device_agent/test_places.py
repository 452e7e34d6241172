"""Where things are looked for, also without a home, and from another folder than the clone's."""

from __future__ import annotations

import pwd
from pathlib import Path
from typing import Any

import pytest

from device_agent.config import load_settings
from device_agent.places import NO_HOME, home, is_file, is_folder, shipped_model, state


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of a user whom the system does not know."""

    def unknown(uid: int) -> Any:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("HOME", "XDG_STATE_HOME", "TOKENLINK_DEVICE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.usefixtures("homeless")
def test_without_a_home_there_are_settings_all_the_same() -> None:
    assert home() == NO_HOME
    assert state() == NO_HOME / ".local" / "state" / "tokenlink"
    settings = load_settings({})
    assert settings.credentials() is None
    assert settings.outbox_path().is_relative_to(NO_HOME)


def test_the_shipped_model_is_found_from_anywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    found = shipped_model()
    assert found is not None
    assert (found / "model.json").is_file()
    here = tmp_path / "deploy" / "models" / "soundstage-small"
    here.mkdir(parents=True)
    assert shipped_model() == here.relative_to(tmp_path)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "", "/proc/1/root/x"])
def test_what_cannot_be_a_name_is_no_file_and_no_folder(name: str) -> None:
    assert not is_file(Path("/nowhere") / name)
    assert not is_folder(Path("/nowhere") / name)
    assert not is_file(Path(name))
