"""What help, errors and the page of settings say of one: its default, bounds and unit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, get_args, get_origin

import annotated_types as bounds
from pydantic_core import PydanticUndefined

from device_agent.settings.catalogue import Setting
from protos.names import OneOf

_UNITS = {
    "_bytes_per_minute": "bytes per minute",
    "_per_minute": "per minute",
    "_per_s": "per second",
    "_s": "s",
    "_hz": "Hz",
    "_db": "dB",
    "_bytes": "bytes",
    "_pixels": "pixels",
    "_days": "days",
}


def help_of(setting: Setting) -> str:
    """What it is, on one line; its docstring."""
    return " ".join((setting.info.description or "").replace("``", "`").split())


def default_of(setting: Setting) -> str:
    """The default, in words where it depends on the machine; the same on every machine."""
    shown = setting.remark("shown")
    return str(shown) if shown else _value(setting.default)


def quantity_of(setting: Setting) -> str:
    """The default with its unit, where it is a number."""
    unit = unit_of(setting)
    return f"{default_of(setting)} {unit}" if unit and not setting.remark("shown") else default_of(setting)


def unit_of(setting: Setting) -> str:
    """What its suffix says; empty where it has none."""
    if get_origin(setting.info.annotation) is tuple:
        return ""
    name = f"_{setting.path[-1]}"
    return next((unit for suffix, unit in _UNITS.items() if name.endswith(suffix)), "")


def choices_of(setting: Setting) -> tuple[str, ...] | None:
    """The names that it may have, those that other packages registered too; None: it is no choice."""
    for each in setting.info.metadata:
        if isinstance(each, OneOf):
            return each.names
    found = tuple(_literals(setting.info.annotation))
    return found or None


def bounds_of(setting: Setting) -> str:
    """What is allowed, beside its type; empty where everything is."""
    choices = choices_of(setting)
    if choices is not None:
        return ", ".join(choices)
    return ", ".join(_bounds(setting.info.metadata))


def _bounds(metadata: Iterable[Any]) -> Iterator[str]:
    least = next((each.ge for each in metadata if isinstance(each, bounds.Ge)), None)
    most = next((each.le for each in metadata if isinstance(each, bounds.Le)), None)
    if least is not None and most is not None:
        yield f"{_value(least)} to {_value(most)}"
        return
    for each in metadata:
        if isinstance(each, bounds.Gt):
            yield f"above {_value(each.gt)}"
        elif isinstance(each, bounds.Ge):
            yield f"at least {_value(each.ge)}"
        elif isinstance(each, bounds.Lt):
            yield f"below {_value(each.lt)}"
        elif isinstance(each, bounds.Le):
            yield f"at most {_value(each.le)}"
        elif isinstance(each, bounds.MinLen):
            yield f"at least {_plural(each.min_length, 'character')}"
        elif isinstance(each, bounds.MaxLen):
            yield f"at most {_plural(each.max_length, 'character')}"
        elif (pattern := getattr(each, "pattern", None)) is not None:
            yield f"as {pattern}"


def _plural(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _literals(kind: Any) -> Iterator[str]:
    if get_origin(kind) is Literal:
        yield from map(str, get_args(kind))
    else:
        for part in get_args(kind):
            yield from _literals(part)


def _value(value: Any) -> str:
    if value is None or value is PydanticUndefined:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value, value))}]"
    return str(value)
