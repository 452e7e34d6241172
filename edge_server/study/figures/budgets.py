"""What each system was given to learn from, in both stages, and how long it took where that is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_server.study.figures.answers import spread
from edge_server.study.study import Study, Task, read_lines
from edge_server.training.loop import LOG


def build(study: Study, records: Path) -> dict[str, Any]:
    """A row per trained system: clips and questions by its recipe, seconds from the records.

    Seconds are of stage 2 by the wall clock, one thread beside others, evaluations between rounds included.
    Records hold no CPU time, and of stage 1 no time at all.
    """
    rows = []
    for name, recipe in study.systems.items():
        alignment, finetune = recipe.alignment, recipe.finetune
        first = {"steps": 0, "clips": 0}
        if alignment is not None:
            steps = alignment.schedule.steps
            first = {"steps": steps, "clips": steps * alignment.batch_size}
        rounds = finetune.schedule.steps
        clips = rounds * finetune.batch_size
        found = [
            float(lines[-1]["elapsed_s"])
            for seed in study.seeds
            if (lines := read_lines(Task(study.name, name, seed).record(records) / LOG))
        ]
        rows.append(
            {
                "system": name,
                "stage_1": {**first, "elapsed_s": None, "word_labels": _has_word_labels(recipe.alignment)},
                "stage_2": {
                    "rounds": rounds,
                    "clips": clips,
                    "questions_at_most": clips * finetune.questions,
                    "learning_rate": finetune.schedule.learning_rate,
                    "elapsed_s": spread(found) if found else None,
                },
            }
        )
    return {"systems": rows}


def _has_word_labels(alignment: Any) -> bool:
    """Whether stage 1 is told the word of each place in the prompt, which only a generated world can."""
    return alignment is not None and alignment.dictation_weight > 0
