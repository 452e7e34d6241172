"""Reads the server's settings, and says of each problem where it stands: file and line, variable, or flag."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge_server.errors import ConfigurationError
from edge_server.server.config import ENV_PREFIX, ServerConfig, config_file

_TOML_LINE = re.compile(r"\(at line (\d+), column (\d+)\)")


@dataclass(frozen=True)
class Problem:
    """A setting that cannot be.

    Attributes:
        setting: its name; empty where the file as a whole is at fault.
        where: what it came from: ``server.toml:12``, ``TOKENLINK_SERVER_HOST``, ``--host``.
        message: what was found and what is allowed.
    """

    setting: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class SettingsError(ConfigurationError):
    """One or more settings that cannot be."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def load_config(flags: Mapping[str, Any], file: Path | None = None) -> ServerConfig:
    """Settings from flags (those that are None were not given), environment and file.

    Args:
        flags: by the names of settings.
        file: TOML; None: where :func:`edge_server.server.config.config_file` says, if it is there.

    Raises:
        SettingsError: names every setting at fault, and where it stands.
    """
    if file is not None:
        if not file.is_file():
            raise SettingsError([Problem("", str(file), "there is no such file")])
        os.environ[f"{ENV_PREFIX}CONFIG"] = str(file)
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return ServerConfig(**given)
    except ValidationError as error:
        raise SettingsError([_problem(each, given) for each in error.errors()]) from error
    except tomllib.TOMLDecodeError as error:
        at = _TOML_LINE.search(str(error))
        where = f"{config_file()}:{at[1]}" if at else str(config_file())
        raise SettingsError([Problem("", where, f"is no TOML: {error}")]) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([Problem("", str(config_file()), f"cannot be read: {error}")]) from error


def where(setting: str, flags: Mapping[str, Any]) -> str:
    """What a setting came from, as a user would name it; its flag where it came from nowhere."""
    variable = f"{ENV_PREFIX}{setting.upper()}"
    if setting not in flags:
        # Case does not count in names of variables.
        for name in os.environ:
            if name.upper() == variable:
                return name
        line = _line_of(setting)
        if line is not None:
            return f"{config_file()}:{line}"
    return f"--{setting.replace('_', '-')}"


def _problem(error: Any, flags: Mapping[str, Any]) -> Problem:
    setting = str(error["loc"][0]) if error["loc"] else ""
    origin = where(setting, flags)
    if error["type"] == "extra_forbidden":
        return Problem(setting, origin, f"{setting}: no such setting")
    path = ".".join(map(str, error["loc"]))
    return Problem(setting, origin, f"{path} is {error['input']!r}: {error['msg']}")


def _line_of(setting: str) -> int | None:
    try:
        lines = config_file().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    key = re.compile(rf"""\s*\[*\s*["']?{re.escape(setting)}["']?\s*[\].=]""")
    for number, line in enumerate(lines, 1):
        if key.match(line):
            return number
    return None
