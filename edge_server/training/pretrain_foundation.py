"""Pretraining of the foundation: text about scenes, and questions about it.

Two phases. The *induction warm-up* teaches looking things up: random token sequences, repeated, loss on the
repeats. Lengths differ, so that what is asked for is found by content, not by distance. Then *world text*:
a scene in words, in the slots where feature tokens will stand later or as one description, followed by
several questions about it; answers weigh more than the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import Qwen2ForCausalLM

from edge_server.data.soundstage.captions import describe
from edge_server.data.soundstage.questions import Balancer, draw_questions
from edge_server.data.soundstage.scene import Scene, sample_scene
from edge_server.model import tokenizer as tk
from edge_server.model.prompt import Piece, context_pieces, question_pieces
from edge_server.training.loop import Schedule
from edge_server.training.modality import TRAINING
from edge_server.training.packing import CONTEXT, packed_mask, packed_positions

#: Asks for the description of the whole scene; the one question with a long answer.
DESCRIBE_QUESTION = "Describe what happens."

#: Fewest language tokens in a random sequence of the induction warm-up.
_SHORTEST = 6


@dataclass(frozen=True)
class FoundationTraining:
    """How the foundation is pretrained."""

    warmup: Schedule
    """Induction warm-up."""
    schedule: Schedule
    """World text."""
    batch_size: int = 32
    """Sequences a step."""
    micro_batch_size: int = 8
    """Sequences padded to one length."""
    warmup_length: int = 32
    """Most random language tokens in a sequence before it repeats; a row is twice as long."""
    questions: int = 16
    """Questions about one scene, at most."""
    text_weight: float = 0.1
    """Weight of a token that belongs to no answer; answer tokens weigh 1."""
    describe_odds: float = 0.25
    """How often a sequence ends with the request for a description."""


def world_texts(scenes: int, seed: int) -> Iterator[str]:
    """Text of the world, to learn a tokenizer from."""
    rng = np.random.default_rng(seed)
    balancer = Balancer()
    yield DESCRIBE_QUESTION
    for _ in range(scenes):
        scene = sample_scene(rng)
        yield from (describe(scene, rng), *(training.describe(scene, rng) for training in TRAINING.values()))
        for question in balancer.choose(scene, rng):
            yield question.text
            yield question.answer


@dataclass
class _Sequence:
    """A scene in words with questions: language token ids, weight and block of each."""

    ids: list[int]
    weights: list[float]
    blocks: list[int]

    def add(self, pieces: Sequence[Piece], weight: float, block: int) -> None:
        for piece in pieces:
            ids = [int(i) for i in piece]
            self.ids += ids
            self.weights += [weight] * len(ids)
            self.blocks += [block] * len(ids)


class InductionWarmup:
    """Phase 1: go on with a random sequence that has begun to repeat."""

    def __init__(
        self, model: Qwen2ForCausalLM, alphabet: Sequence[int], training: FoundationTraining, seed: int
    ) -> None:
        self.model = model
        self.alphabet = np.asarray(alphabet)
        self.training = training
        self.seed = seed

    def trainable(self) -> dict[str, nn.Parameter]:
        """All of the foundation."""
        return dict(self.model.named_parameters())

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy on the repeats."""
        rng = np.random.default_rng([self.seed, 1, step])
        longest = self.training.warmup_length
        length = int(rng.integers(_SHORTEST, longest + 1))
        repeats = 2 * longest // length
        vocab_size = self.model.config.vocab_size
        # Only words of the world: each is seen often, and they are the ones to be looked up later.
        once = rng.choice(self.alphabet, (self.training.batch_size, length))
        ids = torch.from_numpy(np.tile(once, (1, repeats)))
        targets = ids[:, length:]
        logits = self.model(input_ids=ids).logits[:, length - 1 : -1]
        loss = F.cross_entropy(logits.reshape(-1, vocab_size), targets.reshape(-1))
        accuracy = (logits.argmax(-1) == targets).float().mean().item()
        return loss, {"copied": accuracy, "length": float(length)}


class WorldText:
    """Phase 2: scenes in words, and questions about them."""

    def __init__(
        self, model: Qwen2ForCausalLM, tokenizer: Tokenizer, training: FoundationTraining, seed: int
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.training = training
        self.seed = seed
        self._cache: dict[str, list[int]] = {}

    def trainable(self) -> dict[str, nn.Parameter]:
        """All of the foundation."""
        return dict(self.model.named_parameters())

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Weighted next-token cross-entropy over a batch of scenes with their questions."""
        rng = np.random.default_rng([self.seed, 2, step])
        total = torch.zeros(())
        weight = 0.0
        right = answers = 0
        for ids, weights, blocks, positions in self._batches(rng):
            logits = self.model(
                input_ids=ids, attention_mask=packed_mask(blocks), position_ids=positions
            ).logits[:, :-1]
            targets = ids[:, 1:]
            weights = weights[:, 1:]
            losses = F.cross_entropy(
                logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), reduction="none"
            )
            total = total + (losses * weights.reshape(-1)).sum()
            weight += weights.sum().item()
            is_answer = (weights == 1.0) & (targets != tk.EOS_ID)
            right += int((logits.argmax(-1) == targets)[is_answer].sum())
            answers += int(is_answer.sum())
        return total / weight, {"answers": right / max(answers, 1)}

    def _batches(self, rng: np.random.Generator) -> Iterator[tuple[Tensor, ...]]:
        """One step in runs of similar length, which need little padding.

        Yields:
            Language token ids, weights, blocks and positions; [B, L] each.
        """
        rows = [self._sequence(sample_scene(rng), rng) for _ in range(self.training.batch_size)]
        rows.sort(key=lambda row: len(row.ids))
        for begin in range(0, len(rows), self.training.micro_batch_size):
            run = rows[begin : begin + self.training.micro_batch_size]
            longest = len(run[-1].ids)
            ids, blocks, positions = (torch.zeros(len(run), longest, dtype=torch.int64) for _ in range(3))
            weights = torch.zeros(len(run), longest)
            for i, row in enumerate(run):
                length = len(row.ids)
                ids[i, :length] = torch.tensor(row.ids)
                weights[i, :length] = torch.tensor(row.weights)
                blocks[i, :length] = torch.tensor(row.blocks)
                positions[i, :length] = torch.tensor(packed_positions(row.blocks))
            yield ids, weights, blocks, positions

    def _sequence(self, scene: Scene, rng: np.random.Generator) -> _Sequence:
        row = _Sequence([tk.BOS_ID], [0.0], [CONTEXT])
        ordinary = self.training.text_weight
        if rng.random() < 0.5:
            slots: dict[str, Piece] = {
                slot: self._encode(training.describe(scene, rng)) for slot, training in TRAINING.items()
            }
            row.add(context_pieces(slots), ordinary, CONTEXT)
        else:
            row.add(context_pieces({}, self._encode(describe(scene, rng))), ordinary, CONTEXT)
        pairs = [(q.text, q.answer) for q in draw_questions(scene, self.training.questions, rng)]
        if rng.random() < self.training.describe_odds:
            pairs.append((DESCRIBE_QUESTION, describe(scene, rng)))
        for block, (question, answer) in enumerate(pairs, 1):
            long = question == DESCRIBE_QUESTION
            row.add(question_pieces(self._encode(question)), ordinary, block)
            row.add([[*self._encode(answer), tk.EOS_ID]], 0.2 if long else 1.0, block)
        return row

    def _encode(self, text: str) -> list[int]:
        # Sentences repeat, and the tokenizer is slower than a look-up.
        ids = self._cache.get(text)
        if ids is None:
            if len(self._cache) > 50_000:
                self._cache.clear()
            ids = self._cache[text] = tk.encode(self.tokenizer, text)
        return ids
