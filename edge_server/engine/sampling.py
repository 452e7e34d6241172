"""How the language tokens of an answer are chosen, told with a question and kept to by whatever computes it.

A choice depends on the question's own seed and on how many tokens the answer has, on nothing else: it comes
out the same beside any other question, and again where a batch that was lost is built anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

_MASK = 2**64 - 1
# Of SplitMix64: an odd number near 2**64 over the golden ratio.
_STEP = 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True)
class Sampling:
    """How each language token is chosen; the default is the likeliest one, greedily.

    Attributes:
        temperature: logits are divided by it, and a token is drawn; 0: the likeliest one is taken.
        top_p: share of the probability from which is drawn, the likeliest tokens first (nucleus sampling,
            Holtzman et al., ICLR 2020).
        seed: repeats the same draws; None: the engine takes a fresh one.
        frequency_penalty: taken off a token's logit for each time that the answer has it.
        presence_penalty: taken off once, if the answer has it.
        logit_bias: language token ids, and what is added to their logits.
        alternatives: that many of the likeliest tokens are told with each token of the answer.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    alternatives: int = 0

    @property
    def draws(self) -> bool:
        """Whether chance has a part in it."""
        return self.temperature > 0.0

    def of_choice(self, number: int) -> Sampling:
        """The same for one of several answers to a question: another seed for each but the first."""
        if not number or self.seed is None:
            return self
        return replace(self, seed=_mixed(self.seed + number * _STEP))


GREEDY = Sampling()


def uniform(seed: int, number: int) -> float:
    """The draw of a number from a seed, in [0, 1): counter-based, nothing is kept between draws.

    SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), twice, so
    that neighbouring seeds have nothing in common.

    Args:
        seed: any integer; 64 bits of it count.
        number: which of its draws.
    """
    return (_mixed(_mixed(seed) + (number + 1) * _STEP) >> 32) / 2**32


def _mixed(value: int) -> int:
    value &= _MASK
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & _MASK
    return value ^ (value >> 31)
