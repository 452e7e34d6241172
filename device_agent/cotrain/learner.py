"""What a device does in a round, without the network: batches, gradients, and remembering where it is.

    Step ─▶ examples drawn ─▶ features ─▶ head ─▶ channel ─▶ Batch
    BatchGradient ─▶ checked ─▶ back through the channel's gain ─▶ head's gradient ─▶ AdamW ─▶ state on disk

A gradient counts once, and only for the batch that is remembered; one that is lost is a step that is skipped.
Everything random follows from the round's seed, the device's name and the step.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device_agent.bundle.bundle import Bundle
from device_agent.channel import Channel, ChannelConfig
from device_agent.channel.link import Reception
from device_agent.cotrain.alignment import MOST_CLIPS, UsualFeatures, aligned
from device_agent.cotrain.examples import Asked, Examples, LabelledClip
from device_agent.cotrain.features import ClipFeatures
from device_agent.cotrain.head import LearningHead, learning_heads
from device_agent.cotrain.optimiser import AdamW, clip
from device_agent.cotrain.questions_file import OwnClip
from device_agent.cotrain.weights import read_weights, write_weights
from device_agent.errors import BundleError
from protos import gradients, payload, token_snr
from protos.gradients import GradientError
from protos.names import CHANNEL_MODELS, DTYPES, FADINGS, clamp_snr_db
from protos.tokenlink.v1 import cotrain_pb2 as cpb
from protos.tokenlink.v1 import tokenlink_pb2 as pb

Array = npt.NDArray[np.float32]
STATE = "state.safetensors"
SAVE_EVERY_S = 5.0
"""A device that is killed loses at most so much of what it learned [s]."""
_KEPT_BATCHES = 4
_OF_DTYPE = {number: name for name, number in DTYPES.items()}


@dataclass(frozen=True)
class _Sent:
    """One transmitter's part of a batch: what its gradient needs."""

    features_BPD: Array
    token_length: int
    receptions: Sequence[Reception]


@dataclass(frozen=True)
class Learned:
    """How far a device is.

    Attributes:
        step: of the round, the last one that it took part in.
        applied: gradients that moved its heads.
        skipped: batches whose gradient never came.
        refused: gradients that were not usable, or came again.
        loss: its own, in the last step [nats]; None: there was none yet.
        right: share of its answers' language tokens that were right then.
    """

    step: int = 0
    applied: int = 0
    skipped: int = 0
    refused: int = 0
    loss: float | None = None
    right: float | None = None


class Learner:
    """A device's half of a round.

    Args:
        bundle: verified; its heads are where learning begins.
        device_id: the device's name.
        examples: to learn from, and held out.
        features: of a clip.
        channel: what lies between device and base station.
        state: folder of what is remembered; made where there is none.
        threads: within one operator.
        clock: monotonic seconds; says when to save.

    Raises:
        BundleError: the bundle's heads cannot be learned.
    """

    def __init__(
        self,
        bundle: Bundle,
        device_id: str,
        examples: Examples,
        features: Callable[[OwnClip], ClipFeatures],
        channel: ChannelConfig,
        state: Path,
        *,
        threads: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bundle, self.device_id, self.examples = bundle, device_id, examples
        self._features, self._channel = features, channel
        self._state = state
        self._clock = clock
        self._saved_s = clock()
        self._name = int.from_bytes(hashlib.sha256(device_id.encode()).digest()[:8], "big")
        self.heads: dict[str, LearningHead] = learning_heads(bundle, threads)
        self._first = {
            slot: {n: w.copy() for n, w in head.weights.items()} for slot, head in self.heads.items()
        }
        self._optimiser = AdamW(self._flat(), 0.0)
        self._round = cpb.Joined()
        self._sent: dict[int, dict[str, _Sent]] = {}
        self._rates: dict[int, float] = {}
        self.learned = Learned()
        self.round_id = self._restore()

    @property
    def shapes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Of each weight of each transmitter."""
        return {slot: head.shapes for slot, head in self.heads.items()}

    def join(self, agent_version: str) -> cpb.Join:
        """How the device introduces itself."""
        return cpb.Join(
            device_id=self.device_id,
            bundle_hash=self.bundle.hash,
            round_id=self.round_id,
            examples=len(self.examples.train),
            held_out=len(self.examples.held_out),
            agent_version=agent_version,
        )

    def joined(self, joined: cpb.Joined) -> None:
        """Take part in a round: go on with it, or begin it with the bundle's own heads, aligned to what the
        device sees where the edge says how.

        Raises:
            MediaError: a clip can no longer be read.
            UplinkError: what the edge says is not of these encoders.
        """
        if joined.round_id != self.round_id:
            for slot, head in self.heads.items():
                head.load(self._begun(slot, head, joined))
            self._optimiser = AdamW(self._flat(), joined.weight_decay)
            self.learned = Learned()
            self.round_id = joined.round_id
        self._optimiser.weight_decay = joined.weight_decay
        self._round = joined
        self._sent.clear()

    def _begun(self, slot: str, head: LearningHead, joined: cpb.Joined) -> Mapping[str, Array]:
        """The weights with which a head begins a round."""
        first = self._first[slot]
        if slot not in joined.usual or not 0.0 < joined.align <= 1.0:
            return first
        usual = UsualFeatures.read(joined.usual[slot], *head.features_shape)
        clips = self.examples.train[:MOST_CLIPS]
        seen = [
            each.by_slot[slot]
            for each in (self._features(clip.clip) for clip in clips)
            if slot in each.by_slot
        ]
        return aligned(first, seen, usual, joined.align) if seen else first

    def batch(self, step: cpb.Step) -> cpb.Batch:
        """What a step asks for: examples behind the channel.

        Raises:
            MediaError: a clip can no longer be read.
            TransmitterError: a graph failed.
        """
        if step.purpose != cpb.PURPOSE_TRAIN:
            return self._examined(step)
        rng = self._rng(step.step)
        picked = rng.permutation(len(self.examples.train))[: max(1, step.clips)]
        clips = [self.examples.train[i] for i in picked]
        asked = [self._some(each, step.questions, rng) for each in clips]
        message, sent = self._send(step, clips, asked, rng)
        if step.step not in self._sent:
            self.learned = replace(self.learned, step=step.step)
        self._sent[step.step] = sent
        self._rates[step.step] = step.learning_rate
        while len(self._sent) > _KEPT_BATCHES:
            oldest = min(self._sent)
            del self._sent[oldest], self._rates[oldest]
            self.learned = replace(self.learned, skipped=self.learned.skipped + 1)
        return message

    def receptions(self, step: int) -> dict[str, tuple[Reception, ...]]:
        """What the channel did to the batch of a step, by transmitter."""
        return {slot: tuple(sent.receptions) for slot, sent in self._sent[step].items()}

    def apply(self, gradient: cpb.BatchGradient) -> bool:
        """Move the heads by a gradient; False where it is of no batch that is remembered, or not usable."""
        sent = self._sent.pop(gradient.step, None)
        if sent is None:
            self.learned = replace(self.learned, refused=self.learned.refused + 1)
            return False
        rate = self._rates.pop(gradient.step)
        earlier = [step for step in self._sent if step < gradient.step]
        for step in earlier:  # their turn is over
            del self._sent[step], self._rates[step]
        self.learned = replace(
            self.learned,
            loss=gradient.loss,
            right=gradient.right,
            skipped=self.learned.skipped + len(earlier),
        )
        if self._round.heads == cpb.HEAD_POLICY_FROZEN:
            return True
        try:
            by_weight = self._by_weight(gradient, sent)
        except GradientError:
            self.learned = replace(self.learned, refused=self.learned.refused + 1)
            return False
        clip(by_weight, self._round.clip_norm)
        self._optimiser.step(by_weight, rate)
        self.learned = replace(self.learned, applied=self.learned.applied + 1)
        self.save(only_when_due=True)
        return True

    def heads_message(self, step: int) -> cpb.Heads:
        """The heads as they are."""
        return gradients.heads_message(step, {slot: head.weights for slot, head in self.heads.items()})

    def take_heads(self, message: cpb.Heads) -> None:
        """Go on with heads that were averaged.

        Raises:
            GradientError: they are not usable.
        """
        for slot, weights in gradients.read_heads(message, self.shapes).items():
            self.heads[slot].load(weights)
        self.save(only_when_due=True)

    def save(self, *, only_when_due: bool = False) -> None:
        """Write down where the device is; at most every SAVE_EVERY_S where it may wait.

        Raises:
            OSError: it cannot be written.
        """
        if only_when_due and self._clock() - self._saved_s < SAVE_EVERY_S:
            return
        self._saved_s = self._clock()
        self._state.mkdir(parents=True, exist_ok=True)
        weights = {f"weight.{name}": each for name, each in self._flat().items()}
        facts = self.learned
        said = {
            "round_id": self.round_id,
            "bundle_hash": self.bundle.hash,
            "device_id": self.device_id,
            "steps": str(self._optimiser.steps),
            **{name: str(getattr(facts, name)) for name in ("step", "applied", "skipped", "refused")},
        }
        write_weights(self._state / STATE, weights | dict(self._optimiser.state()), said)

    def _restore(self) -> str:
        """Go on from what is on disk; the round that it belongs to, empty where there is none."""
        path = self._state / STATE
        if not path.is_file():
            return ""
        with contextlib.suppress(BundleError, KeyError, ValueError):
            kept, said = read_weights(path)
            if (said["bundle_hash"], said["device_id"]) != (self.bundle.hash, self.device_id):
                return ""  # of another bundle, or another device
            flat = self._flat()
            for name, weight in flat.items():
                np.copyto(weight, kept[f"weight.{name}"])
            self._optimiser.restore(kept, int(said["steps"]))
            numbers = {name: int(said[name]) for name in ("step", "applied", "skipped", "refused")}
            self.learned = Learned(**numbers)
            return said["round_id"]
        return ""

    def _flat(self) -> dict[str, Array]:
        """All weights, the very arrays, by transmitter and name."""
        return {f"{slot}.{n}": w for slot, head in self.heads.items() for n, w in head.weights.items()}

    def _copied(self) -> dict[str, dict[str, Array]]:
        """All weights as they are now, by transmitter."""
        return {slot: {n: w.copy() for n, w in head.weights.items()} for slot, head in self.heads.items()}

    def _rng(self, *what: int) -> np.random.Generator:
        return np.random.default_rng([self._round.seed, self._name, *what])

    def _some(self, clip: LabelledClip, most: int, rng: np.random.Generator) -> list[Asked]:
        return [clip.asked[i] for i in rng.permutation(len(clip.asked))[: max(1, most)]]

    def _examined(self, step: cpb.Step) -> cpb.Batch:
        """Held-out examples; before and after go through the same channel."""
        rng = self._rng(2**32, 0)
        clips = list(self.examples.held_out[: max(1, step.clips)])
        asked = [list(each.asked[: max(1, step.questions)]) for each in clips]
        if step.purpose == cpb.PURPOSE_EXAMINE_AFTER:
            return self._send(step, clips, asked, rng)[0]
        present = self._copied()
        try:
            for slot, head in self.heads.items():
                head.load(self._first[slot])
            return self._send(step, clips, asked, rng)[0]
        finally:
            for slot, head in self.heads.items():
                head.load(present[slot])

    def _send(
        self,
        step: cpb.Step,
        clips: Sequence[LabelledClip],
        asked: Sequence[Sequence[Asked]],
        rng: np.random.Generator,
    ) -> tuple[cpb.Batch, dict[str, _Sent]]:
        dtype = _OF_DTYPE.get(self._round.payload, "float16")
        channel = Channel(self._channel, rng)
        found = [self._features(each.clip) for each in clips]
        messages = [
            cpb.Example(asked=[cpb.Labelled(question_ids=q.question, answer_ids=q.answer) for q in each])
            for each in asked
        ]
        sent: dict[str, _Sent] = {}
        for slot, head in self.heads.items():
            rows = [row for row, each in enumerate(found) if slot in each.by_slot]
            if not rows:
                continue
            length = step.token_lengths.get(slot, self.bundle.manifest.token_lengths[-1])
            features_BPD = np.stack([found[row].by_slot[slot] for row in rows])
            x_BTC = head.forward(features_BPD, length)
            receptions = []
            for row, x_TC in zip(rows, x_BTC, strict=True):
                reception = channel.transmit(x_TC)
                receptions.append(reception)
                modality = found[row].modalities[slot]
                messages[row].payloads.append(
                    payload.encode(reception.x_TC, modality, dtype, self._report(reception))
                )
            sent[slot] = _Sent(features_BPD, length, receptions)
        return cpb.Batch(step=step.step, purpose=step.purpose, examples=messages), sent

    def _report(self, reception: Reception) -> pb.ChannelReport:
        return pb.ChannelReport(
            model=CHANNEL_MODELS[self._channel.model],
            fading=FADINGS[self._channel.fading],
            effective_snr_db=clamp_snr_db(reception.effective_snr_db),
            channel_uses=reception.channel_uses,
            airtime_s=reception.airtime_s,
            token_snr=token_snr.pack(reception.token_snr_db_T),
        )

    def _by_weight(self, gradient: cpb.BatchGradient, sent: Mapping[str, _Sent]) -> dict[str, Array]:
        """The gradient by every weight, through channel and head."""
        blocks = {block.transmitter: block for block in gradient.blocks}
        if set(blocks) != set(sent) or len(blocks) != len(gradient.blocks):
            raise GradientError("blocks", f"of {sorted(blocks)}; {sorted(sent)} was sent")
        channel_dim = self.bundle.manifest.channel_dim
        found = {name: np.zeros_like(each) for name, each in self._flat().items()}
        for slot, part in sent.items():
            batch = len(part.receptions)
            g_RC = gradients.decode(blocks[slot], rows=batch * part.token_length, channel_dim=channel_dim)
            g_BTC = g_RC.reshape(batch, part.token_length, channel_dim)
            back = np.stack([r.back(g_TC) for r, g_TC in zip(part.receptions, g_BTC, strict=True)])
            for name, each in self.heads[slot].gradient(part.features_BPD, part.token_length, back).items():
                found[f"{slot}.{name}"] = each
        return found
