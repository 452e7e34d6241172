"""The digital baselines in the study: separate source and channel coding, and quantised tokens.

Both run on a trained two-stage link, at the channel uses that its tokens take: what was decoded passes heads
and receivers as over a perfect channel. Link adaptation estimates accuracies on the validation split, answers
are to the test split, through the same gains as the tokens met.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from device_agent.channel import ChannelConfig
from edge_server.data.soundstage.dataset import Split, SplitName
from edge_server.evaluation.accuracy import Score
from edge_server.model.config import TOKEN_LENGTHS
from edge_server.model.link import Link
from edge_server.model.modality import SLOTS
from edge_server.study.digital import quantised, separate
from edge_server.study.digital.codes import Code
from edge_server.study.digital.ladder import Ladder, build_ladder
from edge_server.study.run import encoded_split, trained
from edge_server.study.study import BASELINES, CHANNELS, QUANTISED, SNRS_DB, Study, channel_uses, read_lines
from edge_server.study.teacher_forced import Receive, TeacherForcedQuestions
from edge_server.training.run import Run
from protos.names import MAX_SNR_DB

#: The trained system whose link the baselines use.
LINK_OF = "two-stage"
#: Where the baselines' answers are kept, in that system's record.
ANSWERED = "rivals.jsonl"

Arrived: TypeAlias = Mapping[str, npt.NDArray[np.bool_]]
Tokens: TypeAlias = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class BaselineSplit:
    """A held-out split as the baselines need it.

    Attributes:
        split: the clips, of which the first count.
        questions: their questions.
        features: encoder tokens of the clips themselves, per slot, [N, P, D].
        ladders: the clips at every step of the source codecs, per slot.
    """

    split: Split
    questions: TeacherForcedQuestions
    features: Mapping[str, npt.NDArray[np.float16]]
    ladders: Mapping[str, Ladder]

    @classmethod
    def first(
        cls, split: Split, features: Mapping[str, Any], ladders: Mapping[str, Ladder], clips: int
    ) -> BaselineSplit:
        """The first clips of a split."""
        return cls(
            split,
            TeacherForcedQuestions(split, clips),
            {slot: features[slot][:clips] for slot in SLOTS},
            ladders,
        )

    def ranked(self, ranks: Mapping[str, Sequence[float]]) -> BaselineSplit:
        """The same, with the steps of its ladders ordered by what they are worth."""
        return replace(self, ladders={slot: self.ladders[slot].ranked(ranks[slot]) for slot in SLOTS})


def baselines_of(study: Study, run: Run, data: Path) -> Baselines:
    """The baselines on one seed's link; what the source codecs make of the clips is shared by all seeds."""
    torch.set_num_threads(1)
    link = trained(study, run, data)

    def half(split: SplitName, wanted: int) -> BaselineSplit:
        found = encoded_split(link, run, data, split)
        clips, generated = min(wanted, len(found)), found.split.split
        folder = run.stage(f"ladders-{split}-{clips}")
        ladders = {slot: build_ladder(link, slot, generated, folder, clips=clips) for slot in SLOTS}
        return BaselineSplit.first(generated, found.features, ladders, clips)

    return Baselines(
        link, half("val", study.val_clips), half("test", study.test_clips), study.budget.token_length
    )


def unanswered(record: Path) -> list[tuple[str, ChannelConfig]]:
    """Which baseline has yet to be asked over which of figure A's channels."""
    known = [_key(line["system"], line) for line in read_lines(record / ANSWERED)]
    channels = [
        ChannelConfig(model=model, fading=fading, snr_db=snr_db)
        for model, fading in CHANNELS
        for snr_db in SNRS_DB
    ]
    return [
        (baseline, channel)
        for channel in channels
        for baseline in BASELINES
        if _key(baseline, _where(channel)) not in known
    ]


def ask_baselines(record: Path, baselines: Baselines, codes: Mapping[str, Code]) -> None:
    """Ask one seed's link what figure A needs of the baselines and does not have.

    Args:
        record: of the two-stage link.
        baselines: on that link.
        codes: which code each baseline uses, by its name.
    """
    missing = unanswered(record)
    with (record / ANSWERED).open("a") as file:
        for baseline, channel in missing:
            code = codes[baseline]
            found = (
                baselines.tokens(code, channel) if baseline == QUANTISED else baselines.media(code, channel)
            )
            cost = {"token_length": baselines.token_length, "channel_uses": baselines.channel_uses}
            file.write(json.dumps({"system": baseline, **_where(channel), **cost, **found}) + "\n")
            file.flush()


def _where(channel: ChannelConfig) -> dict[str, Any]:
    return {"channel": channel.model, "fading": channel.fading, "snr_db": channel.snr_db}


def _key(baseline: str, where: Mapping[str, Any]) -> tuple[Any, ...]:
    return baseline, where["channel"], where["fading"], where["snr_db"]


class Baselines:
    """Both baselines on one link.

    Args:
        link: trained; its LoRA merged.
        val: what link adaptation estimates on.
        test: what is answered.
        token_length: of the tokens that the baselines are compared with.
    """

    def __init__(self, link: Link, val: BaselineSplit, test: BaselineSplit, token_length: int) -> None:
        self.link = link.eval()
        self.token_length = token_length
        self.val, self.test = val, test
        ranks = {slot: self._ranks(slot) for slot in SLOTS}
        self.val, self.test = val.ranked(ranks), test.ranked(ranks)
        self.channel_uses = channel_uses(token_length, link.config.channel_dim)
        self._step_accuracy = functools.cache(self._step)
        self._form_accuracy = functools.cache(self._form)

    def media(self, code: Code, channel: ChannelConfig) -> dict[str, Any]:
        """Separate source and channel coding over a channel: the plan, and the score on the test split."""
        plan = separate.adapt(code, channel, self.channel_uses, self.val.ladders, self._step_accuracy)
        got = separate.receive(code, plan, channel, self.channel_uses, self.test.ladders, seed=0)
        features = {slot: media.features_NPD for slot, media in got.items()}
        arrived = {slot: media.arrived_N for slot, media in got.items()}
        score = self.test.questions.score(self.link, self._perfectly(features, arrived))
        return {"plan": plan.to_json(), "score": score.to_json()}

    def tokens(self, code: Code, channel: ChannelConfig) -> dict[str, Any]:
        """Quantised tokens over a channel: the plan, and the score on the test split."""
        dim = self.link.config.channel_dim
        plan = quantised.adapt(code, channel, self.channel_uses, dim, self._form_accuracy)
        nothing: Arrived = dict.fromkeys(SLOTS, np.zeros(self.test.questions.clips, np.bool_))
        receive = self._perfectly(self.test.features, nothing)
        if plan.form is not None:
            sent = self._sent(self.test.features, plan.form.token_length)
            quantisers = self._quantisers(plan.form)
            got = quantised.receive(code, plan, channel, self.channel_uses, sent, quantisers, seed=0)
            receive = self._tokens_of(
                {slot: tokens.x_NTC for slot, tokens in got.items()},
                {slot: tokens.snr_db for slot, tokens in got.items()},
                {slot: tokens.arrived_N for slot, tokens in got.items()},
            )
        score = self.test.questions.score(self.link, receive)
        return {"plan": plan.to_json(), "score": score.to_json()}

    def at_steps(self, half: BaselineSplit, steps: Mapping[str, int | None]) -> Score:
        """When all clips of a split arrive at these steps of the ladders; None: the modality is lost."""
        features = {slot: half.ladders[slot].features[step or 0] for slot, step in steps.items()}
        arrived = {slot: np.full(half.questions.clips, step is not None) for slot, step in steps.items()}
        return half.questions.score(self.link, self._perfectly(features, arrived))

    def _ranks(self, slot: str) -> list[float]:
        """Worth of each step of a slot's ladder: accuracy on the validation split when it alone arrives.

        A step after which the answers are no better than after none is never to be sent.
        """
        nothing: dict[str, int | None] = dict.fromkeys(SLOTS)
        floor = self.at_steps(self.val, nothing).accuracy
        steps = range(len(self.val.ladders[slot].names))
        found = [self.at_steps(self.val, nothing | {slot: step}).accuracy for step in steps]
        return [accuracy if accuracy > floor else -math.inf for accuracy in found]

    def _step(self, visual: int | None, audio: int | None) -> float:
        return self.at_steps(self.val, {"visual": visual, "audio": audio}).accuracy

    def _form(self, form: quantised.Form, visual: bool, audio: bool) -> float:
        """Accuracy on the validation split with tokens of a form."""
        quantisers = self._quantisers(form)
        sent = self._sent(self.val.features, form.token_length)
        restored = {slot: quantisers[slot].restore(quantisers[slot].quantise(sent[slot])) for slot in SLOTS}
        arrived = {
            slot: np.full(self.val.questions.clips, there)
            for slot, there in zip(SLOTS, (visual, audio), strict=True)
        }
        told = {slot: quantisers[slot].snr_db for slot in SLOTS}
        return self.val.questions.score(self.link, self._tokens_of(restored, told, arrived)).accuracy

    @functools.lru_cache(maxsize=64)  # noqa: B019 - as long as the link, which it belongs to
    def _quantisers(self, form: quantised.Form) -> dict[str, quantised.Quantiser]:
        sent = self._sent(self.val.features, form.token_length)
        return {slot: quantised.Quantiser.fit(sent[slot], form.bits_per_real) for slot in SLOTS}

    @torch.inference_mode()
    def _sent(
        self, features: Mapping[str, npt.NDArray[Any]], length: int
    ) -> dict[str, npt.NDArray[np.float32]]:
        return {
            slot: self.link.send(slot, torch.from_numpy(features[slot].astype(np.float32)), length).numpy()
            for slot in SLOTS
        }

    def _perfectly(self, features: Mapping[str, npt.NDArray[Any]], arrived: Arrived) -> Receive:
        """Receivers on media that are at the server: encoder tokens at the longest length, no channel."""
        longest = TOKEN_LENGTHS[-1]
        return self._tokens_of(self._sent(features, longest), dict.fromkeys(SLOTS, MAX_SNR_DB), arrived)

    def _tokens_of(self, x: Tokens, told_db: Mapping[str, float], arrived: Arrived) -> Receive:
        """Receivers on tokens that are at the server, for the clips of which they arrived."""

        @torch.inference_mode()
        def receive(clips: range) -> list[dict[str, Tensor]]:
            rows: list[dict[str, Tensor]] = [{} for _ in clips]
            for slot in SLOTS:
                x_BTC = torch.from_numpy(x[slot][clips.start : clips.stop])
                embeddings = self.link.receiver(slot)(x_BTC, torch.full((len(clips),), told_db[slot]))
                for row, clip, received in zip(rows, clips, embeddings, strict=True):
                    if arrived[slot][clip]:
                        row[slot] = received
            return rows

        return receive
