"""Flags of the command line, made from settings."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Optional, get_args, get_origin

import typer

from device_agent.settings.catalogue import Setting
from device_agent.settings.wording import bounds_of, choices_of, help_of, quantity_of


def flag_of(setting: Setting) -> Any:
    """The flag, as Typer wants it; None: it was not given.

    What it may be is checked with the other settings, so that errors read the same wherever one came from.
    """
    choices = choices_of(setting)
    option = typer.Option(
        help=f"{help_of(setting)}{_allowed(setting, choices)}",
        rich_help_panel=setting.remark("panel") or setting.section,
        show_default=quantity_of(setting),
        metavar=None if choices is None else f"[{'|'.join(choices)}]",
        # Asked when it is completed: packages may have registered others by then.
        autocompletion=None if choices is None else lambda: list(choices_of(setting) or ()),
    )
    kind = str if choices is not None else _kind_of(setting.info.annotation)
    return Annotated[Optional[kind], option]  # noqa: UP045 - the type is a value here


def with_flags(
    settings: Iterable[Setting], argument: str, read: Callable[[Mapping[str, Any]], Any]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command flags for settings.

    Args:
        settings: these.
        argument: of the command, which receives what was read.
        read: makes it from the flags that were given, by the settings' names.
    """
    chosen = {setting.name.replace(".", "_"): setting for setting in settings}

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(command, eval_str=True)
        own = [parameter for name, parameter in signature.parameters.items() if name != argument]
        flags = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=flag_of(setting))
            for name, setting in chosen.items()
        ]

        @functools.wraps(command)
        def wrapper(**arguments: Any) -> Any:
            given = {setting.name: arguments.pop(name) for name, setting in chosen.items()}
            read_from = {name: value for name, value in given.items() if value is not None}
            return command(**{argument: read(read_from)}, **arguments)

        parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own] + flags
        # Typer reads these two; without __wrapped__ it would look through to the command itself.
        wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        del wrapper.__wrapped__
        return wrapper

    return decorate


def _kind_of(annotation: Any) -> Any:
    """As Typer has it: a flag that may be given again and again makes a list."""
    several = get_origin(annotation) is tuple and get_args(annotation)[1:] == (...,)
    return list[get_args(annotation)[0]] if several else annotation  # type: ignore[misc]


def _allowed(setting: Setting, choices: tuple[str, ...] | None) -> str:
    allowed = "" if choices is not None else bounds_of(setting)
    return f" ({allowed})" if allowed else ""
