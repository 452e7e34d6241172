"""A digital link of descriptions: what the server knows after it, whether or not the codeword arrived."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edge_server.study.semantic.asked import Asked, Counts
from edge_server.study.semantic.description import Description, Form, Restored
from edge_server.study.semantic.harq import Received

Fallback: TypeAlias = Literal["prior", "hard", "soft"]
"""What is answered from where the CRC never fits: the likeliest answer of each template, without looking at
tokens; the bits as they were decided; the tokens that these LLRs let expect."""
FALLBACKS: tuple[Fallback, ...] = get_args(Fallback)


class DigitalAnswers:
    """Answers from descriptions of a split's clips.

    Args:
        asked: the split.
        describe: the description of a form.
    """

    def __init__(self, asked: Asked, describe: Callable[[Form], Description]) -> None:
        self.asked = asked
        self._describe = describe
        self._clean: dict[Form, Counts] = {}

    def bits(self, form: Form) -> Tensor:
        """What is sent of each clip, [N, B]."""
        return self._describe(form).to_bits(self.asked.sent(form.token_length))

    def clean(self, form: Form) -> Counts:
        """Questions that are right over a link without errors, of each clip."""
        if form not in self._clean:
            self._clean[form] = self.asked.right(self._describe(form).restore(self.bits(form)))
        return self._clean[form]

    def told(self, form: Form, through_N: npt.NDArray[np.bool_]) -> Counts:
        """Questions that are right where what arrived is right, and the prior answers else."""
        return np.where(through_N, self.clean(form), self.asked.prior_of_each)

    def received(self, form: Form, got: Received, fallback: Fallback) -> Counts:
        """Questions that are right after decoding; a CRC that fits by chance is believed."""
        decided = (got.llr_NK > 0).float()
        intact_N = (decided == self.bits(form)).all(dim=1).numpy()
        right_N = self.told(form, got.through_N & intact_N)
        believed = np.flatnonzero(got.through_N & ~intact_N)
        failed = np.flatnonzero(~got.through_N)
        description = self._describe(form)
        if len(believed):
            right_N[believed] = self._ask(description.restore(decided[believed]), believed)
        if fallback == "hard" and len(failed):
            right_N[failed] = self._ask(description.restore(decided[failed]), failed)
        if fallback == "soft" and len(failed):
            right_N[failed] = self._ask(description.expect(got.llr_NK[failed]), failed)
        return right_N

    def _ask(self, got: Restored, clips: npt.NDArray[np.int64]) -> Counts:
        return self.asked.right(got, [int(clip) for clip in clips])


def entropy(asked: Asked, description: Description) -> float:
    """Bits that an ideal entropy code would take of a split's clips, in the mean."""
    with torch.inference_mode():
        return description.entropy_bits(asked.sent(description.form.token_length))
