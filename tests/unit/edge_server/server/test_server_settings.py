from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from edge_server.errors import ConfigurationError
from edge_server.server.config import ServerConfig
from edge_server.server.exposure import check_exposure, is_loopback
from edge_server.server.settings import SettingsError, load_config
from tests.authority import make_pki


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Set first, so that what load_config sets is undone with it.
    monkeypatch.setenv("TOKENLINK_SERVER_CONFIG", str(tmp_path / "nothing.toml"))
    return tmp_path / "server.toml"


def test_flags_win_over_the_environment_which_wins_over_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("max_batch = 1\nmax_queue = 2\ngrpc_port = 3\n")
    monkeypatch.setenv("TOKENLINK_SERVER_MAX_BATCH", "10")
    monkeypatch.setenv("TOKENLINK_SERVER_MAX_QUEUE", "20")
    config = load_config({"max_batch": 100, "host": None}, file)
    assert (config.engine.max_batch, config.engine.max_queue, config.grpc.port, config.server.host) == (
        100,
        20,
        3,
        "127.0.0.1",
    )


def test_every_problem_is_told_with_file_and_line(file: Path) -> None:
    file.write_text('# settings\nhost = "127.0.0.1"\n\nmax_batch = 0\nmax_bacth = 1\n  grpc_port = "x"\n')
    with pytest.raises(SettingsError) as refused:
        load_config({}, file)
    found = {problem.setting: problem.where for problem in refused.value.problems}
    assert found == {
        "max_batch": f"{file}:4",
        "max_bacth": f"{file}:5",
        "grpc_port": f"{file}:6",
    }
    assert "greater than 0" in str(refused.value)


def test_a_file_that_is_no_toml_is_told_with_its_line(file: Path) -> None:
    file.write_text("max_batch = 1\nmax_queue = = 2\n")
    with pytest.raises(SettingsError) as refused:
        load_config({}, file)
    assert str(refused.value).startswith(f"{file}:2: ")


@pytest.mark.parametrize("coding", ["utf-8-sig", "utf-16"])
def test_a_file_with_a_mark_of_its_coding_is_read(file: Path, coding: str) -> None:
    file.write_text("max_batch = 7\r\n", encoding=coding, newline="")
    assert load_config({}, file).engine.max_batch == 7
    file.write_text("max_batch = 0\n", encoding=coding)
    with pytest.raises(SettingsError) as refused:
        load_config({}, file)
    assert [problem.where for problem in refused.value.problems] == [f"{file}:1"]


def test_problems_of_variables_and_flags_name_these(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENLINK_SERVER_DRAIN_S", "soon")
    with pytest.raises(SettingsError) as refused:
        load_config({"max_batch": 0})
    assert {problem.where for problem in refused.value.problems} == {
        "TOKENLINK_SERVER_DRAIN_S",
        "--max-batch",
    }


def test_a_file_that_was_named_has_to_be_there(file: Path) -> None:
    with pytest.raises(SettingsError, match="no such file"):
        load_config({}, file)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("edge.example", False),
    ],
)
def test_what_others_can_reach_needs_certificates_and_keys_or_a_word(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    if loopback:
        check_exposure(ServerConfig(host=host))
        return
    with pytest.raises(ConfigurationError) as refused:
        check_exposure(ServerConfig(host=host))
    for told in (host, "gRPC", "REST", "tls_cert", "access", "--trusted-network"):
        assert told in str(refused.value)
    check_exposure(ServerConfig(host=host, trusted_network=True))


def test_certificates_and_keys_together_are_enough(tmp_path: Path) -> None:
    settings = make_pki(tmp_path).settings()
    check_exposure(ServerConfig(host="0.0.0.0", **settings))  # type: ignore[arg-type]
    for missing in ("tls_cert", "tls_key", "tls_ca", "access"):
        less = {name: value for name, value in settings.items() if name != missing}
        with pytest.raises(ConfigurationError, match=missing):
            check_exposure(ServerConfig(host="0.0.0.0", **less))  # type: ignore[arg-type]


def test_enrolment_needs_the_authoritys_key(tmp_path: Path) -> None:
    settings = make_pki(tmp_path).settings() | {"enrol_port": 0}
    with pytest.raises(ConfigurationError, match="ca_key"):
        check_exposure(ServerConfig(**settings))  # type: ignore[arg-type]


def numbers_of(config: type[ServerConfig]) -> list[tuple[str, str]]:
    """Sections and names of all settings that are fractional numbers."""
    found = []
    for section, field in config.model_fields.items():
        fields = getattr(field.annotation, "__pydantic_fields__", {})
        found += [
            (section, name)
            for name, each in fields.items()
            if "float" in str(each.annotation) and "tuple" not in str(each.annotation)
        ]
    return found


@pytest.mark.parametrize(("section", "name"), numbers_of(ServerConfig))
def test_no_setting_is_infinite(section: str, name: str) -> None:
    with pytest.raises(ValidationError, match=r"finite number|less than"):
        ServerConfig(**{section: {name: float("inf")}})
