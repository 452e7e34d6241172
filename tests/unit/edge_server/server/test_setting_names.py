"""Names of settings: sections, the flat names that were written down before there were any, former ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from device_agent.settings.catalogue import GivenTwiceError
from edge_server.server.config import SETTINGS, ServerConfig
from edge_server.server.settings import SettingsError, load_config

FLAT = re.findall(
    r"\w+",
    """
    model device engine_kind batches core_processes threads bfloat16 host grpc_port rest_port ready_file
    old_model_s log_level tracing_endpoint ui ui_demo drain_s trusted_network tls_cert tls_key
    tls_ca access rest_behind_proxy metrics_open enrol_port ca_key certificate_days receive_s
    questions_per_minute bytes_per_minute max_streams max_grpc_message_bytes max_grpc_calls
    max_grpc_streams max_rest_body_bytes max_media_bytes max_image_pixels max_image_bytes
    max_video_pixels max_media_pixels max_media_samples max_decode_s ingest_threads max_ingest
    rest_token_length max_batch max_batch_positions max_prefill_positions words_between_prefills
    decode_steps_between_prefills max_queue max_queue_per_user default_new_tokens max_new_tokens
    default_deadline_s max_sessions max_questions_in_flight max_question_bytes bandwidth_hz
    outage_snr_db grant_valid_s arrivals_per_s arrivals_burst answers answers_kept
    answers_kept_in_all answers_kept_s
    """,
)
"""Every name by which a release without sections could be set."""


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "server.toml"
    monkeypatch.setenv("TOKENLINK_SERVER_CONFIG", str(path))
    return path


def other(name: str) -> str:
    """Another value than the default, as text."""
    setting = SETTINGS[name]
    choices = getattr(setting.info.annotation, "__args__", ())
    for value in ("3", "true", "false", "on", "DEBUG"):
        if type(setting.default) is bool and value == str(not setting.default).lower():
            return value
        if choices and all(isinstance(each, str) for each in choices) and value in choices:
            return value
    return {"receive_s": "200", "default_new_tokens": "20", "default_deadline_s": "20"}.get(name, "2000")


def value_of(config: ServerConfig, name: str) -> object:
    section, field = SETTINGS[name].path
    return getattr(getattr(config, section), field)


@pytest.mark.parametrize("name", FLAT)
def test_flat_names_are_read_from_environment_file_and_flags(
    name: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = other(name)
    changed = value_of(load_config({name: text}), name)
    assert changed != value_of(load_config({}), name)
    bare = text if text.isdecimal() or text in ("true", "false") else f'"{text}"'
    if isinstance(changed, str | Path):
        bare = f'"{text}"'
    file.write_text(f"{name} = {bare}\n")
    assert value_of(load_config({}), name) == changed
    file.unlink()
    monkeypatch.setenv(f"TOKENLINK_SERVER_{name.upper()}", text)
    assert value_of(load_config({}), name) == changed


def test_sections_are_read_from_file_and_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("[engine]\nmax_batch = 1\nmax_queue = 2\n\n[grpc]\nport = 3\n\n[media]\nmax_frames = 5\n")
    monkeypatch.setenv("TOKENLINK_SERVER_ENGINE__MAX_BATCH", "10")
    monkeypatch.setenv("TOKENLINK_SERVER_CELL__TOKEN_LENGTH_BY_SNR_DB", "[[10, 4]]")
    config = load_config({"host": "::1"})
    assert (config.engine.max_batch, config.engine.max_queue, config.grpc.port) == (10, 2, 3)
    assert config.cell.token_length_by_snr_db == ((10.0, 4),)
    # What the file does not say of a section stays as it is.
    assert (config.media.max_frames, config.media.max_bytes) == (5, 96 * 2**20)


def test_an_environment_with_flat_names_wins_over_a_file_with_sections(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("[engine]\nmax_batch = 1\n")
    monkeypatch.setenv("TOKENLINK_SERVER_MAX_BATCH", "10")
    assert load_config({}).engine.max_batch == 10
    assert load_config({"max_batch": 100}).engine.max_batch == 100


def test_one_setting_by_two_names_with_different_values_is_refused_with_both(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENLINK_SERVER_MAX_BATCH", "10")
    monkeypatch.setenv("TOKENLINK_SERVER_ENGINE__MAX_BATCH", "10")
    assert load_config({}).engine.max_batch == 10
    monkeypatch.setenv("TOKENLINK_SERVER_ENGINE__MAX_BATCH", "11")
    with pytest.raises(SettingsError) as refused:
        load_config({})
    for named in ("TOKENLINK_SERVER_MAX_BATCH", "TOKENLINK_SERVER_ENGINE__MAX_BATCH"):
        assert named in str(refused.value)
    monkeypatch.delenv("TOKENLINK_SERVER_MAX_BATCH")
    file.write_text("words_between_prefills = 2\n[engine]\ndecode_steps_between_prefills = 3\n")
    with pytest.raises(SettingsError) as refused:
        load_config({})
    for named in ("words_between_prefills", "engine.decode_steps_between_prefills", str(file)):
        assert named in str(refused.value)
    with pytest.raises(GivenTwiceError, match=r"core_processes.*model_runner_processes"):
        ServerConfig(core_processes=True, model_runner_processes=False)


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("TOKENLINK_SERVER_MAX_BACTH", "max_batch"),
        ("TOKENLINK_SERVER_ENGINE__MAX_BACTH", "engine.max_batch"),
        ("tokenlink_server_hots", "host"),
    ],
)
def test_a_misspelt_variable_is_refused_and_told_what_was_meant(
    variable: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(SettingsError) as refused:
        load_config({})
    assert [problem.where for problem in refused.value.problems] == [variable]
    assert f"did you mean {meant}?" in str(refused.value)


@pytest.mark.parametrize(
    "name", ["SERVICE_HOST", "SERVICE_PORT_GRPC", "PORT", "PORT_50051_TCP", "PORT_50051_TCP_ADDR"]
)
def test_what_kubernetes_tells_of_a_service_of_that_name_is_no_setting(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"TOKENLINK_SERVER_{name}", "tcp://10.0.0.1:50051")
    assert load_config({}).grpc.port == 50_051


def test_problems_inside_sections_are_told_with_their_lines(file: Path) -> None:
    file.write_text("[grpc]\nport = 1\n\n[engine]\nmax_bacth = 2\nmax_batch = 0\n\n[rest]\nport = 70000\n")
    with pytest.raises(SettingsError) as refused:
        load_config({})
    assert {problem.setting: problem.where for problem in refused.value.problems} == {
        "engine.max_bacth": f"{file}:5",
        "max_batch": f"{file}:6",
        "rest_port": f"{file}:9",
    }
    assert "did you mean engine.max_batch?" in str(refused.value)


def test_settings_of_a_section_that_contradict_each_other_are_told_where_they_stand(file: Path) -> None:
    file.write_text("[engine]\nmax_new_tokens = 10\ndefault_new_tokens = 100\n")
    with pytest.raises(SettingsError) as refused:
        load_config({})
    (problem,) = refused.value.problems
    assert (problem.setting, problem.where) == ("default_new_tokens", f"{file}:3")
    assert problem.message == "default_new_tokens is 100; at most max_new_tokens, 10"


@pytest.mark.parametrize(
    "text", ["engine = 3\n", "engine = 3\nmax_batch = 1\n", "max_batch = 1\nengine = 3\n"]
)
def test_a_section_that_is_no_table_is_refused_with_its_line(text: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(SettingsError, match="engine is 3") as refused:
        load_config({})
    assert refused.value.problems[0].where == f"{file}:{text.splitlines().index('engine = 3') + 1}"


def test_a_list_in_a_variable_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENLINK_SERVER_TOKEN_LENGTH_BY_SNR_DB", "10")
    with pytest.raises(SettingsError, match=r"TOKENLINK_SERVER_TOKEN_LENGTH_BY_SNR_DB: .* is 10"):
        load_config({})
