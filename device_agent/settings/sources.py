"""Where settings come from: what the program passes (flags), before the environment, before a file.

A variable that has the program's prefix and is no setting is refused, as a key of the file is: nobody would
notice a misspelt one.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_origin

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, TomlConfigSettingsSource

from device_agent.settings.catalogue import Catalogue, Setting
from device_agent.written import written_text

CONFIG = "CONFIG"
"""After the prefix: the variable that names the file, and so is no setting itself."""

# Kubernetes, and Docker's links, tell a pod of a service named like the program where that is:
# TOKENLINK_SERVER_SERVICE_HOST, TOKENLINK_SERVER_PORT, TOKENLINK_SERVER_PORT_50051_TCP_ADDR.
_SERVICE = re.compile(r"SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP)(_(ADDR|PORT|PROTO))?)?")


class Given(PydanticBaseSettingsSource):
    """Settings that are known already, by sections.

    Args:
        settings_cls: whose they are.
        given: by sections.
    """

    def __init__(self, settings_cls: type[BaseSettings], given: Mapping[str, Any]) -> None:
        super().__init__(settings_cls)
        self._given = dict(given)

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """One of them; what the base class asks for and never calls."""
        return self._given.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        """All of them."""
        return self._given


class _Written(TomlConfigSettingsSource):
    """TOML as people write it; the base class takes no mark of its coding."""

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        return tomllib.loads(written_text(Path(file_path)))


def sources(
    settings_cls: type[BaseSettings], catalogue: Catalogue, passed: Mapping[str, Any], file: Path
) -> tuple[PydanticBaseSettingsSource, ...]:
    """What a settings class reads, first what wins.

    Args:
        settings_cls: the class.
        catalogue: its settings.
        passed: to its constructor.
        file: TOML; it need not exist.

    Raises:
        GivenTwiceError: one source gives two names of a setting different values.
        TOMLDecodeError: the file is no TOML.
    """
    variables = {spelling: (name, value) for spelling, name, value in named_variables(catalogue)}
    environment = {
        spelling: _value(catalogue.find(spelling), value) for spelling, (_, value) in variables.items()
    }
    in_file = _Written(settings_cls, toml_file=file)()
    return (
        Given(settings_cls, catalogue.nested(passed)),
        Given(settings_cls, catalogue.nested(environment, lambda spelling: variables[spelling][0])),
        Given(settings_cls, catalogue.nested(in_file, lambda spelling: f"{spelling} in {file}")),
    )


def named_variables(catalogue: Catalogue) -> Iterator[tuple[str, str, str]]:
    """Variables of the environment that speak of settings, in any case: (spelling, variable, value)."""
    for name, value in os.environ.items():
        rest = name.upper().removeprefix(catalogue.prefix)
        if name.upper() != rest and rest != CONFIG and not _SERVICE.fullmatch(rest):
            yield rest.lower().replace("__", "."), name, value


def _value(setting: Setting | None, text: str) -> Any:
    """Lists are JSON; everything else the model reads from text itself."""
    if setting is not None and get_origin(setting.info.annotation) in (tuple, list, dict):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def variable_of(catalogue: Catalogue, setting: str) -> str | None:
    """The variable by which a setting, or an unknown name, is given; None: by none."""
    wanted = catalogue.find(setting)
    for spelling, name, _ in named_variables(catalogue):
        found = catalogue.find(spelling)
        if (found is not None and found is wanted) or (wanted is None and spelling == setting):
            return name
    return None


def line_of(catalogue: Catalogue, setting: str, file: Path) -> int | None:
    """The line of a file where a setting, or an unknown name, is given; None: on none."""
    try:
        lines = written_text(file).splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    wanted = catalogue.find(setting)
    table = ""
    for number, line in enumerate(lines, 1):
        header = re.match(r"\s*\[+\s*([\w.\"'-]+?)\s*\]", line)
        key = re.match(r"\s*([\w\"'-]+(?:\s*\.\s*[\w\"'-]+)*)\s*=", line)
        if header:
            table = spelling = re.sub(r"[\s\"']", "", header[1])
        elif key:
            spelling = ".".join(filter(None, (table, re.sub(r"[\s\"']", "", key[1]))))
        else:
            continue
        found = catalogue.find(spelling)
        if (found is not None and found is wanted) or (wanted is None and spelling == setting):
            return number
    return None
