"""All settings of a program, each with the names by which it can be given.

    engine.max_batch   its key: in a file under ``[engine]``; in a variable ``..._ENGINE__MAX_BATCH``
    max_batch          its name, where no other setting ends so: in a file at the top, ``..._MAX_BATCH``,
                       ``--max-batch``

A field says more about itself in ``json_schema_extra``: ``flag`` (it has one on the command line), ``panel``
(under which help shows it) and ``shown`` (its default in words, where that depends on the machine).
"""

from __future__ import annotations

import dataclasses
import difflib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo


class GivenTwiceError(ValueError):
    """One setting was given by two of its names, with different values.

    Attributes:
        setting: which.
        first: how it was given, as its source says.
        second: how else.
    """

    def __init__(self, setting: Setting, first: str, second: str) -> None:
        super().__init__(f"{first} and {second} are one setting, given with different values")
        self.setting = setting
        self.first = first
        self.second = second


@dataclass(frozen=True, eq=False)
class Setting:
    """One thing that can be set.

    Attributes:
        path: its section, where it is in one, and its field.
        names: without a section; the first is what messages call it, later ones are former names.
        info: type, bounds and help.
        default: where nothing is given.
        prefix: of environment variables.
    """

    path: tuple[str, ...]
    names: tuple[str, ...]
    info: FieldInfo
    default: Any
    prefix: str

    @property
    def key(self) -> str:
        """Section and field, ``engine.max_batch``."""
        return ".".join(self.path)

    @property
    def section(self) -> str:
        """Of the file; empty at its top."""
        return self.path[0] if len(self.path) > 1 else ""

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.names[0] if self.names else self.key

    @property
    def flag(self) -> str:
        """On the command line, whether or not it has one there: a flag is how a message names a setting."""
        return f"--{self.name.replace('_', '-').replace('.', '-')}"

    @property
    def has_flag(self) -> bool:
        """Whether the command line has it."""
        return bool(self.remark("flag"))

    @property
    def variable(self) -> str:
        """Of the environment, by its name."""
        return self.variable_of(self.name)

    def variable_of(self, spelling: str) -> str:
        """Of the environment, by one of its spellings."""
        return f"{self.prefix}{spelling.replace('.', '__').upper()}"

    def remark(self, key: str) -> Any:
        """What the field says about itself beside type, bounds and help; None: nothing."""
        extra = self.info.json_schema_extra
        return extra.get(key) if isinstance(extra, dict) else None


class Catalogue:
    """The settings of a program.

    Args:
        model: the class that holds them; those of its fields that are models or dataclasses are sections.
        prefix: of environment variables.
        names: keys of settings whose names are not those of their fields, by these names.
        former: keys of settings that had other names, by these; read like the present ones.

    Raises:
        ValueError: a name is of no setting.
    """

    def __init__(
        self,
        model: type[BaseModel],
        prefix: str,
        names: Mapping[str, str] | None = None,
        former: Mapping[str, str] | None = None,
    ) -> None:
        self.prefix = prefix
        leaves = list(_leaves(model))
        self.sections = {path[0] for path, _, _ in leaves if len(path) > 1}
        count = Counter(path[-1] for path, _, _ in leaves)
        name_of = {key: name for name, key in (names or {}).items()}
        former_of: dict[str, list[str]] = {}
        for old, key in (former or {}).items():
            former_of.setdefault(key, []).append(old)
        self._settings: list[Setting] = []
        self._by_spelling: dict[str, Setting] = {}
        for path, info, default in leaves:
            key, own = ".".join(path), path[-1]
            name = name_of.pop(key, own if count[own] == 1 and own not in (names or {}) else "")
            spellings = (*([name] if name else []), *former_of.pop(key, []))
            setting = Setting(path, spellings, info, default, prefix)
            self._settings.append(setting)
            for spelling in {key, *spellings}:
                self._by_spelling[spelling] = setting
        if name_of or former_of:
            raise ValueError(f"names of no settings: {', '.join([*name_of, *former_of])}")

    def __iter__(self) -> Iterator[Setting]:
        return iter(self._settings)

    def __getitem__(self, spelling: str) -> Setting:
        return self._by_spelling[spelling]

    def find(self, spelling: str) -> Setting | None:
        """The setting of a name or key; None: there is none."""
        return self._by_spelling.get(spelling)

    def closest(self, spelling: str) -> str | None:
        """The known spelling that is most like an unknown one; None: none is."""
        known = (
            self._by_spelling if "." in spelling else [each for each in self._by_spelling if "." not in each]
        )
        return next(iter(difflib.get_close_matches(spelling, known, 1)), None)

    def nested(self, given: Mapping[str, Any], told: Callable[[str], str] = "{!r}".format) -> dict[str, Any]:
        """Settings by sections, as the model takes them, from what one source gives by any of their names.

        Unknown names stay as they are, for the model to refuse.

        Args:
            given: values by names, keys, or mappings by sections.
            told: how this source would call a spelling, for errors.

        Raises:
            GivenTwiceError: names of one setting have different values.
        """
        result: dict[str, Any] = {}
        seen: dict[Setting, tuple[str, Any]] = {}
        for spelling, value in self._flat(given):
            setting = self.find(spelling)
            if setting is not None:
                before, other = seen.setdefault(setting, (spelling, value))
                if before != spelling and other != value:
                    raise GivenTwiceError(setting, told(before), told(spelling))
            *sections, field = setting.path if setting is not None else self._split(spelling)
            at = result
            for section in sections:
                at = at.setdefault(section, {})
            # Where a section is given as something else, that is what the model refuses.
            if isinstance(at, dict):
                at[field] = value
        return result

    def _flat(self, given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for name, value in given.items():
            inner = _members(value) if name in self.sections else None
            if inner is None:
                yield name, value
            else:
                for field, each in inner.items():
                    yield f"{name}.{field}", each

    def _split(self, spelling: str) -> tuple[str, ...]:
        section, dot, field = spelling.partition(".")
        return (section, field) if dot and section in self.sections else (spelling,)


def _members(value: Any) -> Mapping[str, Any] | None:
    if isinstance(value, Mapping):
        return value
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in value.model_fields_set}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return None


def _leaves(model: type[BaseModel]) -> Iterator[tuple[tuple[str, ...], FieldInfo, Any]]:
    for name, info in model.model_fields.items():
        fields = _fields(info.annotation)
        if fields is None:
            yield (name,), info, info.default
            continue
        for inner_name, inner in fields.items():
            # The section's default may differ from its class's.
            yield (name, inner_name), inner, getattr(info.default, inner_name, inner.default)


def _fields(kind: Any) -> Mapping[str, FieldInfo] | None:
    fields: Mapping[str, FieldInfo] | None = getattr(kind, "__pydantic_fields__", None)
    return fields
