"""How the system called ``authors`` differs from what the paper's authors published."""

from __future__ import annotations

from edge_server.study.study import Study
from edge_server.training.systems import USUAL_DIM

#: What the authors published (arXiv 2505.07841 and the code beside it).
THEIRS = {
    "reals per token": "1536, the width of the foundation",
    "tokens per modality": "128",
    "LoRA alpha": "16",
    "learning rate": "1e-4 in both stages",
    "rounds": "500 of alignment, 300 of fine-tuning",
    "SNR in training": "12 dB",
    "contrastive loss": "one-sided",
    "scoring": "the first language token of the answer",
}


def differences(study: Study) -> list[dict[str, str]]:
    """A row per difference: what, here, theirs."""
    recipe, budget = study.systems["authors"], study.budget
    assert recipe.alignment is not None  # noqa: S101 - that system has a stage 1
    schedule, finetune = recipe.alignment.schedule, recipe.finetune.schedule
    here = {
        "reals per token": str(USUAL_DIM),
        "tokens per modality": str(budget.token_length),
        "LoRA alpha": f"{recipe.lora.alpha:g}",
        "learning rate": f"{schedule.learning_rate:g} aligning, {finetune.learning_rate:g} fine-tuning",
        "rounds": f"{schedule.steps} of alignment, {finetune.steps} of fine-tuning",
        "SNR in training": f"{budget.snr_db:g} dB",
        "contrastive loss": "symmetric",
        "scoring": "the whole answer and its end",
    }
    return [{"what": what, "here": here[what], "theirs": theirs} for what, theirs in THEIRS.items()]
