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

from device_agent.settings.catalogue import GivenTwiceError
from device_agent.settings.sources import CONFIG, line_of, variable_of
from edge_server.errors import ConfigurationError
from edge_server.server.config import ENV_PREFIX, SETTINGS, ServerConfig, config_file

_TOML_LINE = re.compile(r"\(at line (\d+), column (\d+)\)")
_WORD = re.compile(r"[a-z0-9_]+")


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
        os.environ[f"{ENV_PREFIX}{CONFIG}"] = str(file)
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return ServerConfig(**given)
    except GivenTwiceError as error:
        raise SettingsError([Problem(error.setting.name, error.first, str(error))]) from error
    except tomllib.TOMLDecodeError as error:
        at = _TOML_LINE.search(str(error))
        where = f"{config_file()}:{at[1]}" if at else str(config_file())
        raise SettingsError([Problem("", where, f"is no TOML: {error}")]) from error
    except ValidationError as error:
        raise SettingsError([_problem(each, given) for each in error.errors()]) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([Problem("", str(config_file()), f"cannot be read: {error}")]) from error


def where(setting: str, flags: Mapping[str, Any]) -> str:
    """What a setting came from, as a user would name it; its flag where it came from nowhere."""
    known = SETTINGS.find(setting)
    if not any(name == setting or (known and SETTINGS.find(name) is known) for name in flags):
        variable = variable_of(SETTINGS, setting)
        if variable is not None:
            return variable
        line = line_of(SETTINGS, setting, config_file())
        if line is not None:
            return f"{config_file()}:{line}"
    return known.flag if known else setting


def _problem(error: Any, flags: Mapping[str, Any]) -> Problem:
    path = ".".join(map(str, error["loc"]))
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        closest = SETTINGS.closest(path)
        hint = f"; did you mean {closest}?" if closest else ""
        return Problem(path, where(path, flags), f"{path}: no such setting{hint}")
    known = SETTINGS.find(".".join(map(str, error["loc"][:2]))) or SETTINGS.find(path)
    if known is not None:
        rest = "".join(f"[{each}]" for each in error["loc"][2:])
        message = f"{known.name}{rest} is {error['input']!r}: {error['msg']}"
        return Problem(known.name, where(known.name, flags), message)
    # Of a section as a whole: two of its settings contradict each other, and the message names them.
    message = str(error["msg"]).removeprefix("Value error, ")
    named = [word for word in _WORD.findall(message) if SETTINGS.find(f"{path}.{word}")]
    if named:
        name = SETTINGS[f"{path}.{named[0]}"].name
        return Problem(name, where(name, flags), message)
    return Problem(path, where(path, flags), f"{path} is {error['input']!r}: {message}")
