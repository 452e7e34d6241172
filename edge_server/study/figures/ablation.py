"""The ablation: what each change on the way from the authors' scheme to ours adds."""

from __future__ import annotations

from typing import Any

from edge_server.study.figures.answers import Answers, paired_difference, spread
from edge_server.study.study import SNRS_DB
from edge_server.training.systems import LADDER, TEMPERATURES, of_temperature

#: What a rung changes against the one before.
CHANGES = {
    "authors": "the authors' scheme",
    "rung-pooling": "window pooling instead of linspace selection",
    "rung-receiver": "query receiver instead of Linear-1024-ReLU-Linear",
    "rung-lora": "LoRA of rank 8 on all projections instead of rank 4 on q and v",
    "rung-channel": "random SNR and fading in training, and the receiver told the SNR",
    "rung-length": "random token length in training",
    "two-stage": "dictation beside the contrastive loss in stage 1",
}
_BESIDE = {
    "captioning": "captioning instead of dictation",
    "no-alignment": "no stage 1",
    **{of_temperature(t): f"temperature {t:g}, contrastive loss alone" for t in TEMPERATURES},
}


def build(answers: Answers, token_length: int) -> dict[str, Any]:
    """Rows of the table: mean accuracy over SNRs (AWGN), and the step from the rung before."""
    where = {"channel": "awgn", "token_length": token_length}
    rows: list[dict[str, Any]] = []
    before: dict[int, float] = {}
    for system in LADDER:
        found = answers.mean_over(system, SNRS_DB, **where)
        if found:
            row = {"system": system, "change": CHANGES[system], "accuracy": spread(list(found.values()))}
            difference = paired_difference(found, before)
            rows.append({**row, "adds": spread(difference) if difference else None})
        before = found
    beside = []
    for system, change in _BESIDE.items():
        found = answers.mean_over(system, SNRS_DB, **where)
        if found and system not in LADDER:
            beside.append({"system": system, "change": change, "accuracy": spread(list(found.values()))})
    return {"token_length": token_length, "snr_db": list(SNRS_DB), "ladder": rows, "beside": beside}
