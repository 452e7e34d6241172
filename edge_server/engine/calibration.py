"""How sure an answer is, and when it is held back: *not sure* in its place.

``MODEL/calibration.json``, written by ``edge-server evaluate --calibrate``:

    {"version": 1, "scale": 0.9, "offset": -0.2, "threshold": 0.5, "doubt": 0.1, "longest": 2,
     "unsure": "not sure"}

The confidence of an answer is ``sigmoid(scale * logit(p) + offset)``, p being the product of the
probabilities of its language tokens (Platt 1999): fitted on held-out questions, it is how often such answers
are right. It is known of answers as long as those it was fitted on; a longer one, such as a description, is
never held back.
A model that was trained to say itself that it cannot know says ``unsure``: no answer, of confidence 0. What
it says behind that ("I am not sure. It might be a fox.") is a guess, and told as it is. Where it says
something else, how probable it was to begin with ``unsure`` tells what is from elsewhere far better than how
probable the answer is: above ``doubt`` an answer is held back, too. Where ``longest`` is 0, only what a model
says of itself is known.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edge_server.errors import ModelError

FILE = "calibration.json"
VERSION = 1
#: Probabilities nearer to 0 or 1 than this are taken for this far from it.
_LEAST = 1e-7
UNSURE = "not sure"
"""What models are trained to say that cannot know."""


@dataclass(frozen=True)
class Judgement:
    """How far an answer is to be believed.

    Attributes:
        confidence: probability that it is right; None: not known of answers of its length.
        abstained: whether it is held back.
    """

    confidence: float | None
    abstained: bool


@dataclass(frozen=True)
class Calibration:
    """Of one model.

    Attributes:
        scale: of the logit of an answer's probability.
        offset: added to that.
        threshold: an answer of less confidence is held back; 0: none is.
        doubt: one before which the model was more probable than this to say that it is not sure is held back;
            1: none is.
        longest: most language tokens of an answer whose confidence is known.
        unsure: what is said instead; what a model says that was trained to.
        media_only: whether it is of answers about media, and others are told as they are.
    """

    scale: float
    offset: float
    threshold: float
    longest: int
    unsure: str = UNSURE
    doubt: float = 1.0
    media_only: bool = False

    def judge(self, text: str, logprobs: Sequence[float], doubt: float = 0.0) -> Judgement:
        """Judge an answer.

        Args:
            text: of it.
            logprobs: natural logarithm of the probability of each of its language tokens.
            doubt: probability of ``unsure`` in its place, as far as its first token tells.
        """
        if self.is_unsure(text):
            return Judgement(0.0, abstained=True)
        if not logprobs or len(logprobs) > self.longest:
            return Judgement(None, abstained=False)
        confidence = self.confidence(math.exp(math.fsum(logprobs)))
        return Judgement(confidence, abstained=confidence < self.threshold or doubt > self.doubt)

    def is_unsure(self, text: str) -> bool:
        """Whether an answer says itself that it is none."""
        return text == self.unsure or text.startswith(f"{self.unsure} ")

    def confidence(self, probability: float) -> float:
        """How often an answer of this probability is right."""
        p = min(max(probability, _LEAST), 1.0 - _LEAST)
        return 1.0 / (1.0 + math.exp(-(self.scale * math.log(p / (1.0 - p)) + self.offset)))

    def write(self, model: Path, about: object = None) -> None:
        """Write it into a model folder.

        Args:
            model: the folder.
            about: how it was fitted, as JSON.
        """
        told = {"version": VERSION, **asdict(self), **({} if about is None else {"fitted": about})}
        (model / FILE).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def read_calibration(path: Path) -> Calibration | None:
    """The calibration of a model folder; None where the file is not there.

    Raises:
        ModelError: it is there and cannot be read.
    """
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["version"] != VERSION:
            raise ModelError(f"{path}: version is {found['version']}; {VERSION} can be read")
        read = Calibration(
            float(found["scale"]),
            float(found["offset"]),
            float(found["threshold"]),
            int(found["longest"]),
            str(found["unsure"]),
            float(found.get("doubt", 1.0)),
            bool(found.get("media_only", False)),
        )
        if not (math.isfinite(read.scale) and math.isfinite(read.offset) and 0.0 <= read.threshold <= 1.0):
            raise ValueError(f"scale {read.scale}, offset {read.offset}, threshold {read.threshold}")
        if not 0.0 <= read.doubt <= 1.0:
            raise ValueError(f"doubt {read.doubt}")
        if not read.unsure or read.longest < 0:
            raise ValueError(f"longest {read.longest}, unsure {read.unsure!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: holds no calibration: {error!r}") from error
    return read
