"""The table of docs/models.md, from the registry of families: ``python -m edge_server.export.families``."""

from __future__ import annotations

from transformers import CONFIG_MAPPING

from edge_server.model.foundation_classes import known_classes
from edge_server.model.split.family import Family, families

BEGIN, END = "<!-- made by `python -m edge_server.export.families` -->", "<!-- end of the table -->"


def table() -> str:
    """Families as Markdown: those that are split, then those that are not, and why."""
    rows = [
        "| `model_type` | shown | a picture, a sound | language model computed |",
        "|---|---|---|---|",
    ]
    known = sorted(families().values(), key=lambda each: each.model_type)
    for family in known:
        if family.refused:
            continue
        shown = ", ".join({"visual": "pictures", "audio": "sounds"}[slot] for slot in family.media) or "text"
        rows.append(f"| `{family.model_type}` | {shown} | {family.resolution or '-'} | {_computed(family)} |")
    rows += ["", "| not split | why |", "|---|---|"]
    rows += [f"| `{family.model_type}` | {family.refused} |" for family in known if family.refused]
    return "\n".join(rows)


def _computed(family: Family) -> str:
    if family.sections is not None:
        return "in batches, positions in time, row and column"
    default = CONFIG_MAPPING[family.model_type]() if family.media else None
    kind = family.model_type if default is None else default.get_text_config(decoder=True).model_type
    return "in batches" if kind in known_classes() else "one question at a time, by its own class"


def main() -> None:
    """Print the table."""
    print(table())


if __name__ == "__main__":
    main()
