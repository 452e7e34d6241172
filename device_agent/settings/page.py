"""The page about settings: a table for each section, for people and for Markdown alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from device_agent.settings.catalogue import Catalogue, Setting
from device_agent.settings.wording import bounds_of, default_of, help_of, unit_of

_HEAD = "| setting | default | unit | allowed | what it is | flag | variable |\n|---|---|---|---|---|---|---|"


def tables(catalogue: Catalogue) -> str:
    """All settings of a program in Markdown, by sections of its file, or panels where it has none."""
    groups: dict[str, list[Setting]] = {}
    for setting in catalogue:
        group = f"`[{setting.section}]`" if setting.section else str(setting.remark("panel") or "")
        groups.setdefault(group, []).append(setting)
    return "\n\n".join(f"### {group}\n\n{_table(settings)}" for group, settings in groups.items())


def former_names(catalogue: Catalogue) -> str:
    """Names that settings had, and are still read, in Markdown; empty where none had another."""
    rows = [
        f"| `{name}` | `{setting.name}` |"
        for setting in catalogue
        for name in setting.names
        if name != setting.name
    ]
    return "\n".join(["| former | now |", "|---|---|", *rows]) if rows else ""


def _table(settings: Iterable[Setting]) -> str:
    return "\n".join([_HEAD, *(f"| {' | '.join(_row(setting))} |" for setting in settings)])


def _row(setting: Setting) -> Iterator[str]:
    name, own = setting.name, setting.path[-1]
    yield f"`{own}`" if name in (own, setting.key) else f"`{own}`, or `{name}`"
    yield _cell(default_of(setting))
    yield unit_of(setting)
    yield _cell(bounds_of(setting))
    yield _cell(help_of(setting))
    yield f"`{setting.flag}`" if setting.has_flag else ""
    yield f"`{setting.variable}`"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
