"""Settings: who wins, and what is said about those that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from device_agent.config import default_bundle, load_settings
from device_agent.errors import ConfigurationError


@pytest.fixture
def settings_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "device.toml"
    monkeypatch.setenv("TOKENLINK_DEVICE_CONFIG", str(path))
    return path


def test_flags_win_over_environment_over_file_over_defaults(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_file.write_text('server = "file:1"\nsnr_db = 1\nchannel = "rician"\n')
    monkeypatch.setenv("TOKENLINK_DEVICE_SNR_DB", "2")
    monkeypatch.setenv("TOKENLINK_DEVICE_CHANNEL", "rayleigh")
    settings = load_settings({"channel": "none", "fading": None})
    assert (settings.server, settings.snr_db, settings.channel) == ("file:1", 2.0, "none")
    assert settings.fading == "block"


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ({"channel": "wifi"}, r"channel \(--channel, TOKENLINK_DEVICE_CHANNEL\) is 'wifi'"),
        ({"snr_db": float("nan")}, "snr_db"),
        ({"token_length": 0}, "token_length"),
        ({"bandwidth_hz": -1}, "bandwidth_hz"),
        ({"deadline_s": 0}, "deadline_s"),
    ],
)
def test_a_setting_that_cannot_be_is_named_with_its_flag(flags: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        load_settings(flags)


@pytest.mark.parametrize("way", ["flag", "environment", "file"])
@pytest.mark.parametrize("name", ["porch\nroot: left", "porch\x1b[2J", "porch-*", "p" * 65])
def test_a_device_is_called_by_a_name_however_it_is_set(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch, way: str, name: str
) -> None:
    if way == "environment":
        monkeypatch.setenv("TOKENLINK_DEVICE_DEVICE_ID", name)
    if way == "file":
        settings_file.write_text(f"device_id = {json.dumps(name)}\n")
    with pytest.raises(ConfigurationError) as refused:
        load_settings({"device_id": name} if way == "flag" else {})
    assert str(refused.value).startswith("device_id (--device-id, TOKENLINK_DEVICE_DEVICE_ID) is 'p")
    assert "\n" not in str(refused.value)
    assert "64" in str(refused.value)


def test_a_broken_or_unknown_setting_in_the_file_is_named(settings_file: Path) -> None:
    settings_file.write_text("snr = 3\n")
    with pytest.raises(ConfigurationError, match=r"snr: no such setting .*device\.toml"):
        load_settings({})
    settings_file.write_text("snr_db = [\n")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_settings({})


@pytest.mark.parametrize("coding", ["utf-8-sig", "utf-16"])
def test_a_file_with_a_mark_of_its_coding_is_read(settings_file: Path, coding: str) -> None:
    settings_file.write_text('# für uns\r\nserver = "file:1"\r\n', encoding=coding, newline="")
    assert load_settings({}).server == "file:1"
    settings_file.write_text("snr = 3\n", encoding=coding)
    with pytest.raises(ConfigurationError, match=r"snr: no such setting .*device\.toml"):
        load_settings({})


def test_a_file_that_is_no_text_is_named(settings_file: Path) -> None:
    settings_file.write_bytes(b'server = "\xe9"\n')
    with pytest.raises(ConfigurationError, match=r"device\.toml cannot be read: 'utf-8' codec"):
        load_settings({})


def test_the_bandwidth_is_the_granted_one_unless_set() -> None:
    assert load_settings({}).channel_config(2e6).bandwidth_hz == 2e6
    assert load_settings({"bandwidth_hz": 5.0}).channel_config(2e6).bandwidth_hz == 5.0
    assert load_settings({}).channel_config(0.0).bandwidth_hz == 1e6


def test_a_clone_uses_its_shipped_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("device_agent.places._SOURCES", tmp_path / "installed")
    assert default_bundle() == Path.home() / ".local/share/tokenlink/bundle"
    shipped = tmp_path / "deploy/models/soundstage-small/bundle"
    shipped.mkdir(parents=True)
    assert default_bundle().resolve() == shipped


@pytest.mark.parametrize("variable", ["TOKENLINK_DEVICE_SNR_BD", "Tokenlink_Device_Snr_Bd"])
def test_a_misspelt_variable_is_refused_and_told_what_was_meant(
    variable: str, settings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "3")
    with pytest.raises(
        ConfigurationError, match=rf"snr_bd: no such setting \({variable}\); did you mean snr_db\?"
    ):
        load_settings({})
