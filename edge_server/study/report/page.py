"""The page that reads the results: Markdown whose every number comes from a JSON file beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from edge_server.study.report import (
    alignment,
    cell,
    claims,
    combinations,
    cotrain,
    honesty,
    inversion,
    pilots,
    progressive,
    radio,
    sections,
    semantic,
    worlds,
)
from edge_server.study.report.sections import Found

#: The page, beside the JSON files.
PAGE = "README.md"


def write_page(folder: Path) -> None:
    """Write the page of a folder of results. Results that are not there are named as missing."""
    files = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    parts = [_HEAD, *(_section(title, make, files) for title, make in _SECTIONS.items())]
    (folder / PAGE).write_text("\n".join(parts))


def _section(title: str, make: Callable[[Found], str], files: Found) -> str:
    try:
        body = make(files)
    except (KeyError, IndexError, StopIteration) as missing:
        body = f"Not measured: {missing} is missing."
    return f"## {title}\n\n{body.rstrip()}\n"


_HEAD = """# Results

Every number here is read from a JSON file in this folder by `edge-server study` (`make results`); so are the
figures. The systems: [`systems.py`](../../edge_server/training/systems.py); seeds, settings, budgets:
[`study.py`](../../edge_server/study/study.py). All systems share encoders, foundation and clips; they
differ in the link and in how it was trained. ± is the standard deviation over training seeds, how many in
brackets; a value with one seed has none. What each system and seed answered, setting by setting: `study`.
The gain of a fading channel is known to the receiver (perfect CSI) unless a row says otherwise. The budget
of a system: clips of stage 1 + stage 2; questions of stage 2 at most; seconds of stage 2 by the wall clock,
one thread beside others, evaluations included. CPU-seconds, and any of stage 1, were not recorded.
"""

_SECTIONS: Mapping[str, Callable[[Found], str]] = {
    "What is not shown": claims.not_shown,
    "What was promised": sections.must_show,
    "What analog tokens are worth, and what not": claims.worth,
    "How far the study is": sections.coverage,
    "A. Accuracy against SNR": sections.accuracy,
    "B. Convergence": sections.convergence,
    "C. Token length": sections.token_length,
    "D. Alignment seen": sections.alignment,
    "E. Bytes and channel uses": sections.question_size,
    "F. What the device pays": sections.device,
    "G. Estimated gains": sections.estimated,
    "H. Sharing a cell out": cell.shared_out,
    "I. Other words": honesty.wordings,
    "J. Not sure": honesty.out_of_domain,
    "K. Learning together": cotrain.learned_together,
    "L. In rounds": progressive.in_rounds,
    "M. Other artwork, another soundfont": worlds.elsewhere,
    "N. A radio to believe": radio.believed,
    "O. Alignment without labels, at equal computation": alignment.without_labels,
    "P. What a token gives away": inversion.given_away,
    "Q. Unseen combinations": combinations.unseen,
    "R. Few pilots": pilots.trained_for,
    "S. Semantic digital": semantic.beside_analog,
    "Ablation": sections.ablation,
    "Paper scale": sections.paper_scale,
    "How it was made": sections.made_with,
}
