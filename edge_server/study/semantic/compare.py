"""Analog tokens beside semantic digital ones, at the same channel uses in the mean; both sides with feedback.

Every system is tuned on the validation split for each channel, mean SNR and budget, and judged on the test
split: there all meet the same gains. An acknowledgement is free, for both sides. No receiver is trained for
quantised tokens; what they lose over a link without errors is told beside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from edge_server.study.semantic.analog import Repeats, most_repeats, received
from edge_server.study.semantic.asked import Asked, Counts, interval, share
from edge_server.study.semantic.description import Description, Form, fit_books
from edge_server.study.semantic.digital import FALLBACKS, DigitalAnswers, entropy
from edge_server.study.semantic.harq import HarqCode, send
from edge_server.study.semantic.outage import MOST_ROUNDS, Air, ideal
from edge_server.study.semantic.tuning import Effort, Expected, Scheme, Worth, choose, choose_ideal

ANALOG, REPEATED = "analog, one burst", "analog, sent again"
ONE_BURST, HARQ = "digital, one burst", "digital, HARQ"
IDEAL, IDEAL_OWN = "ideal code, same bits and bursts", "ideal code, its own"
SYSTEMS = (ANALOG, REPEATED, ONE_BURST, HARQ, IDEAL, IDEAL_OWN)
_TUNING_SEED = 100
_DRAWS = 20_000


@dataclass(frozen=True)
class Point:
    """Where systems are compared.

    Attributes:
        air: gains and mean SNR.
        budget: channel uses of a question in the mean, at most.
    """

    air: Air
    budget: int

    def to_json(self) -> dict[str, Any]:
        """For a report."""
        return {**asdict(self.air), "budget": self.budget}


def _points() -> tuple[Point, ...]:
    usual = [Point(Air(snr_db=snr_db), 512) for snr_db in (0.0, -5.0, -10.0, 5.0, 10.0)]
    short = [Point(Air(), budget) for budget in (128, 64, 32)]
    same = [Point(Air(spread="same"), budget) for budget in (512,)]
    awgn = [Point(Air("awgn"), budget) for budget in (64,)]
    return (*usual, *short, *same, *awgn)


@dataclass(frozen=True)
class Plan:
    """What is compared.

    Attributes:
        points: where.
        token_lengths: per modality, of descriptions and of analog tokens that come again.
        stages: codes per token of descriptions.
        fitted: training clips that books are fitted on.
        validated: clips of the validation split.
        tested: clips of the test split.
        seeds: of channel realisations on the test split.
        effort: of tuning.
    """

    points: tuple[Point, ...] = _points()
    token_lengths: tuple[int, ...] = (1, 2, 4, 8, 16)
    stages: tuple[int, ...] = (1, 2, 3, 4)
    fitted: int = 3000
    validated: int = 100
    tested: int = 300
    seeds: tuple[int, ...] = (1, 2)
    effort: Effort = field(default_factory=Effort)


QUICK = Plan(
    (Point(Air(), 128),), (2, 4), (1, 2), fitted=40, validated=4, tested=4, seeds=(1,), effort=Effort(2, 20)
)


@dataclass(frozen=True)
class Played:
    """What a system did on the test split.

    Attributes:
        right_N: questions that are right, of each clip, in the mean over channel seeds.
        row: of the report.
    """

    right_N: Counts
    row: dict[str, Any]


class Comparison:
    """Both sides of it.

    Args:
        fitted_on: training clips, without a look at what is asked about them.
        validation: what is tuned on.
        test: what is judged on.
        plan: how much.
        say: told what was done.
    """

    def __init__(
        self, fitted_on: Asked, validation: Asked, test: Asked, plan: Plan, say: Callable[[str], None]
    ) -> None:
        self.plan, self.say = plan, say
        self.validation, self.test = validation, test
        self.channel_dim = test.link.config.channel_dim
        self._descriptions: dict[Form, Description] = {}
        for length in plan.token_lengths:
            sent = fitted_on.sent(length)
            books = fit_books(sent, max(plan.stages), seed=0)
            for stages in plan.stages:
                form = Form(length, stages)
                self._descriptions[form] = Description.fit(sent, form, books)
        self._on_validation = DigitalAnswers(validation, self._descriptions.__getitem__)
        self._on_test = DigitalAnswers(test, self._descriptions.__getitem__)
        asked_N = validation.asked_of_each
        self.worth = Worth(
            {form: each.bits for form, each in self._descriptions.items()},
            {form: share(self._on_validation.clean(form), asked_N) for form in self._descriptions},
            share(validation.prior_of_each, asked_N),
        )

    def descriptions(self) -> list[dict[str, Any]]:
        """Every form: its bits, and what it is worth over a link without errors."""
        rows = []
        for form, description in self._descriptions.items():
            rows.append(
                {
                    **asdict(form),
                    "bits": description.bits,
                    "entropy_bits": entropy(self.validation, description),
                    "distortion": dict(description.distortion),
                    "validation_accuracy": self.worth.accuracy[form],
                }
            )
        return rows

    def at(self, point: Point) -> dict[str, Any]:
        """All systems at one point, and by how much analog ones are ahead."""
        harq = self._chosen(point, MOST_ROUNDS)
        played = {
            # A token of each modality takes as many channel uses as it has reals.
            ANALOG: self._analog(point, Repeats(point.budget // self.channel_dim, -np.inf)),
            REPEATED: self._analog(point, self._repeats(point)),
            ONE_BURST: self._digital(point, self._chosen(point, 1)),
            HARQ: self._digital(point, harq),
            IDEAL: self._ideal(point, harq[0].scheme),
            IDEAL_OWN: self._ideal(point, self._chosen_for_ideal(point)),
        }
        ahead = {
            f"{name} minus {HARQ}": self._difference(played[name].right_N - played[HARQ].right_N)
            for name in (ANALOG, REPEATED, IDEAL, IDEAL_OWN)
        }
        self.say(f"{point}: " + "; ".join(f"{n} {p.row['accuracy']:.3f}" for n, p in played.items()))
        rows = [{"system": name, **each.row} for name, each in played.items()]
        return {**point.to_json(), "rows": rows, "ahead": ahead}

    def _difference(self, right_N: Counts) -> dict[str, Any]:
        asked_N = self.test.asked_of_each
        return {"accuracy": share(right_N, asked_N), "interval": interval(right_N, asked_N)}

    def _repeats(self, point: Point) -> Repeats:
        """Length and threshold that do best on the validation split."""
        draws = point.air.meet(_DRAWS, _TUNING_SEED)
        offers = [
            most_repeats(length, draws, point.budget, self.channel_dim) for length in self.plan.token_lengths
        ]
        found = {}
        for repeats in filter(None, offers):
            met = point.air.meet(self.validation.clips, _TUNING_SEED + 1)
            got = received(self.validation.sent(repeats.token_length), met, repeats.rounds(met), _TUNING_SEED)
            found[repeats] = share(self.validation.right(got), self.validation.asked_of_each)
        return max(found, key=lambda repeats: found[repeats])

    def _chosen(self, point: Point, rounds: int) -> list[Expected]:
        return choose(self.worth, point.air, point.budget, rounds, _TUNING_SEED, self.plan.effort)

    def _chosen_for_ideal(self, point: Point) -> Scheme:
        return choose_ideal(self.worth, point.air, point.budget, MOST_ROUNDS, _TUNING_SEED).scheme

    def _analog(self, point: Point, repeats: Repeats) -> Played:
        rights, uses, rounds = [], [], []
        for seed in self.plan.seeds:
            met = point.air.meet(self.test.clips, seed)
            rounds_NH = repeats.rounds(met)
            got = received(self.test.sent(repeats.token_length), met, rounds_NH, seed)
            rights.append(self.test.right(got))
            uses.append(repeats.uses(rounds_NH, self.channel_dim))
            rounds.append(float(rounds_NH.mean()))
        threshold = repeats.threshold_db
        told = {
            "token_length": repeats.token_length,
            # JSON has no infinities.
            "again_below_db": threshold if np.isfinite(threshold) else str(threshold),
        }
        return self._played(rights, uses, rounds, told)

    def _digital(self, point: Point, found: Sequence[Expected]) -> Played:
        scheme, seeds = found[0].scheme, self.plan.seeds
        code = HarqCode(self.worth.bits[scheme.form], self.plan.effort.crc)

        def sent(side: DigitalAnswers, seed: int) -> Any:
            met = point.air.meet(side.asked.clips, seed)[:, : scheme.rounds]
            return send(code, side.bits(scheme.form), met, scheme.uses, np.random.default_rng([seed, 3]))

        tried = sent(self._on_validation, _TUNING_SEED + 1)
        on_validation = {
            fallback: share(
                self._on_validation.received(scheme.form, tried, fallback), self.validation.asked_of_each
            )
            for fallback in FALLBACKS
        }
        chosen = max(FALLBACKS, key=lambda fallback: on_validation[fallback])
        got = [sent(self._on_test, seed) for seed in seeds]
        rights = {
            fallback: [self._on_test.received(scheme.form, each, fallback) for each in got]
            for fallback in FALLBACKS
        }
        told = {
            **self._told(scheme),
            "lost": float(np.mean([1.0 - each.through_N.mean() for each in got])),
            "answered_from_when_lost": chosen,
            "accuracy_by_fallback": {
                fallback: share(np.mean(each, axis=0), self.test.asked_of_each)
                for fallback, each in rights.items()
            },
            "tuning": {
                "fallbacks": on_validation,
                "schemes": [each.to_json() for each in found],
            },
        }
        rounds = [float(each.rounds_N.mean()) for each in got]
        return self._played(rights[chosen], [scheme.uses * each for each in rounds], rounds, told)

    def _ideal(self, point: Point, scheme: Scheme) -> Played:
        """A payload in bursts of a code at capacity, which needs no check."""
        got = [
            ideal(
                point.air.meet(self.test.clips, seed)[:, : scheme.rounds],
                scheme.uses,
                self.worth.bits[scheme.form],
            )
            for seed in self.plan.seeds
        ]
        rights = [self._on_test.told(scheme.form, each.through_N) for each in got]
        rounds = [float(each.rounds_N.mean()) for each in got]
        lost = float(np.mean([1.0 - each.through_N.mean() for each in got]))
        told = {**self._told(scheme), "lost": lost, "answered_from_when_lost": "prior"}
        return self._played(rights, [scheme.uses * each for each in rounds], rounds, told)

    def _told(self, scheme: Scheme) -> dict[str, Any]:
        asked_N = self.test.asked_of_each
        return {
            **asdict(scheme.form),
            "bits": self.worth.bits[scheme.form],
            "burst_uses": scheme.uses,
            "most_rounds": scheme.rounds,
            "error_free_accuracy": share(self._on_test.clean(scheme.form), asked_N),
        }

    def _played(
        self,
        rights: Sequence[Counts],
        uses: Sequence[float],
        rounds: Sequence[float],
        told: Mapping[str, Any],
    ) -> Played:
        right_N = np.asarray(np.mean(rights, axis=0), np.float64)
        asked_N = self.test.asked_of_each
        row = {
            "accuracy": share(right_N, asked_N),
            "interval": interval(right_N, asked_N),
            "uses": float(np.mean(uses)),
            "rounds": float(np.mean(rounds)),
            **told,
        }
        return Played(right_N, row)


def compare(
    fitted_on: Asked, validation: Asked, test: Asked, plan: Plan, say: Callable[[str], None]
) -> dict[str, Any]:
    """All points, as JSON. For the arguments see :class:`Comparison`."""
    comparison = Comparison(fitted_on, validation, test, plan, say)
    say(f"{len(comparison.worth.bits)} descriptions fitted")
    return {
        "questions": {"val": int(validation.asked_of_each.sum()), "test": int(test.asked_of_each.sum())},
        "prior": share(test.prior_of_each, test.asked_of_each),
        "receiver_trained_for_quantised_tokens": False,
        "descriptions": comparison.descriptions(),
        "points": [comparison.at(point) for point in plan.points],
    }
