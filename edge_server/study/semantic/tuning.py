"""Which description is sent in bursts of which length: chosen for a mean SNR and a budget of channel uses.

What a description is worth is measured on the validation split, how often it arrives on words that are made
up: first all by an ideal code with some dB less, then the best few by the code itself. The gain of a burst
plays no part; the sender does not know it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from edge_server.study.semantic.description import Form
from edge_server.study.semantic.harq import HarqCode, send
from edge_server.study.semantic.outage import Air, Delivered, Reals, ideal

#: Bursts of a budget: any rounds must fit into it in the mean only.
_SHARES = (0.25, 0.33, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
#: What the code is taken to need beyond an ideal one, where candidates are first looked through [dB].
_GAP_DB = 1.5
_DRAWS = 4000


@dataclass(frozen=True)
class Scheme:
    """What is sent.

    Attributes:
        form: of the description.
        uses: channel uses of a burst.
        rounds: bursts, at most.
    """

    form: Form
    uses: int
    rounds: int


@dataclass(frozen=True)
class Expected:
    """What a scheme promises.

    Attributes:
        scheme: that is meant.
        uses: channel uses, in the mean.
        through: share of codewords that arrive.
        accuracy: of answers, on the validation split.
    """

    scheme: Scheme
    uses: float
    through: float
    accuracy: float

    def to_json(self) -> dict[str, Any]:
        """For a report."""
        return asdict(self)


@dataclass(frozen=True)
class Effort:
    """How closely candidates are looked at.

    Attributes:
        kept: of those that an ideal code promises most of.
        words: sent over the code, of each of these.
        crc: bits of the check.
    """

    kept: int = 3
    words: int = 200
    crc: int = 11


@dataclass(frozen=True)
class Worth:
    """What descriptions are worth on the validation split.

    Attributes:
        bits: of each form.
        accuracy: of each form, where it arrives.
        prior: where nothing does.
    """

    bits: Mapping[Form, int]
    accuracy: Mapping[Form, float]
    prior: float

    def worthwhile(self) -> list[Form]:
        """Forms than which no other is worth as much with fewer bits."""
        kept: list[Form] = []
        for form in sorted(self.bits, key=lambda form: (self.bits[form], -self.accuracy[form])):
            if all(self.accuracy[form] > self.accuracy[other] for other in kept):
                kept.append(form)
        return kept

    def expect(self, scheme: Scheme, got: Delivered) -> Expected:
        """What a scheme promises whose codewords fared so."""
        through = float(got.through_N.mean())
        accuracy = through * self.accuracy[scheme.form] + (1.0 - through) * self.prior
        return Expected(scheme, float(got.rounds_N.mean()) * scheme.uses, through, accuracy)


def choose(worth: Worth, air: Air, budget: int, rounds: int, seed: int, effort: Effort) -> list[Expected]:
    """The best few schemes, the best first; each as the code itself fared with it.

    Args:
        worth: of descriptions.
        air: gains and mean SNR.
        budget: channel uses in the mean, at most.
        rounds: bursts, at most.
        seed: of gains, words and noise.
        effort: how closely to look.
    """
    looked = looked_through(worth, air, budget, rounds, seed, effort.crc, _GAP_DB)
    # The code may do a little better than what it is taken to need.
    fitting = best([each for each in looked if each.uses <= 1.05 * budget])[: effort.kept]
    met = air.meet(effort.words, seed + 1)
    tried = [tried_out(worth, each.scheme, met, seed, effort) for each in fitting]
    return best([each for each in tried if each.uses <= budget] or tried)


def choose_ideal(worth: Worth, air: Air, budget: int, rounds: int, seed: int) -> Expected:
    """The best scheme of an ideal code, which needs no check; for the arguments see :func:`choose`."""
    looked = looked_through(worth, air, budget, rounds, seed, check=0, gap_db=0.0)
    return best([each for each in looked if each.uses <= budget])[0]


def looked_through(
    worth: Worth, air: Air, budget: int, rounds: int, seed: int, check: int, gap_db: float
) -> list[Expected]:
    """Every scheme with an ideal code that needs so much more SNR and carries so many more bits."""
    sizes = [budget] if rounds == 1 else [max(2, round(share * budget)) for share in _SHARES]
    snr_NRH = air.meet(_DRAWS, seed)[:, :rounds]
    return [
        worth.expect(scheme, ideal(snr_NRH, scheme.uses, worth.bits[scheme.form] + check, gap_db))
        for scheme in (Scheme(form, uses, rounds) for form in worth.worthwhile() for uses in sizes)
    ]


def best(found: Sequence[Expected]) -> list[Expected]:
    """By falling accuracy; of equals those first that take less."""
    return sorted(found, key=lambda each: (-each.accuracy, each.uses))


def tried_out(worth: Worth, scheme: Scheme, snr_NRH: Reals, seed: int, effort: Effort) -> Expected:
    """How words that are made up fare over the code."""
    rng = np.random.default_rng([seed, 2])
    bits = worth.bits[scheme.form]
    words = torch.from_numpy(rng.integers(0, 2, (len(snr_NRH), bits)).astype(np.float32))
    code = HarqCode(bits, effort.crc)
    return worth.expect(scheme, send(code, words, snr_NRH[:, : scheme.rounds], scheme.uses, rng))
