"""Trains where scenes and texts stand together, and measures how well one finds the other.

    edge-server scene-space MODEL --data DIR --out docs/results/scene_recall.json

Scenes are received over AWGN at every SNR and token length that is drawn; texts are captions of theirs, of
all that there is, or of what can be seen or heard alone. The loss is InfoNCE (van den Oord et al. 2018,
symmetric as in CLIP). Captions to search by are worded as none in training: of each choice of words, training
leaves the last out, and the search takes it. The foundation has read all of them when it was trained.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
import typer
from rich.progress import track
from torch import Tensor

from edge_server.data.soundstage.captions import describe, describe_picture, describe_sound
from edge_server.data.soundstage.dataset import load_split
from edge_server.data.soundstage.scene import Scene
from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.model.provenance import current_commit
from edge_server.model.scene_space import SceneSpaceConfig, SceneSpaceHeads
from edge_server.training.clips import EncodedClips, encode_clips
from edge_server.training.losses import info_nce
from edge_server.training.radio import transmit
from edge_server.training.soundstage import SoundstageSplit

app = typer.Typer(pretty_exceptions_enable=False)
Describe = Callable[[Scene, np.random.Generator], str]

SEARCHED_SNRS_DB = (0.0, 10.0, 20.0)
SEARCHED_AMONG = (100, 500, 1000, 2000, 5000)
_AT_SNR_DB, _AMONG = 10.0, 5000
_QUERIES = 1000
_TOKEN_LENGTH = 16


@dataclass(frozen=True)
class SpaceTraining:
    """How the heads are trained."""

    draws: int = 8
    """Times that each clip is received, at an SNR and a token length of its own."""
    snr_db: tuple[float, float] = (-8.0, 20.0)
    """Between these [dB]."""
    token_lengths: tuple[int, ...] = (8, 16, 16, 32)
    """Of which one is drawn."""
    steps: int = 3000
    batch_size: int = 256
    learning_rate: float = 2e-3
    temperature: float = 0.05
    whole_share: float = 0.6
    """Captions of all that there is; the rest are of what can be seen, or heard, alone."""
    missing_share: float = 0.1
    """Of the latter, scenes that come without the rest."""
    words: Literal["the foundation's", "its own"] = "the foundation's"
    """Whose embedding of words the heads read."""
    word_noise: float = 0.3
    """Standard deviation of what is added to each number of a word."""


class Words(np.random.Generator):
    """Draws words as captions are worded: of each choice all but the last, or the last alone.

    Args:
        seed: of the draws.
        held_out: the last alone.
    """

    def __init__(self, seed: int, *, held_out: bool) -> None:
        super().__init__(np.random.PCG64(seed))
        self._held_out = held_out

    def integers(  # type: ignore[override]  # the few ways in which captions draw
        self, low: Any, high: Any = None, **how: Any
    ) -> Any:
        """One of the words of a choice; as the generator's own, where it is asked for anything else."""
        if high is not None or how or low < 2:
            return super().integers(low, high, **how)
        return low - 1 if self._held_out else super().integers(low - 1)


def receive(
    link: Link,
    clips: EncodedClips[SoundstageSplit],
    rows: npt.NDArray[np.int64],
    snr_db_B: Tensor,
    token_length: int,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Received embeddings of clips, [B, Q, E] for each slot."""
    received = {}
    with torch.inference_mode():
        for slot in link.slots:
            sent = link.send(slot, clips.take(slot, rows), token_length)
            x_BTC, told_db_B = transmit(sent, "awgn", "block", snr_db_B, generator)
            received[slot] = link.receiver(slot)(x_BTC, told_db_B)
    return received


def received_bank(
    link: Link,
    clips: EncodedClips[SoundstageSplit],
    rows: npt.NDArray[np.int64],
    training: SpaceTraining,
    seed: int,
) -> dict[str, Tensor]:
    """Every clip received again and again, float16, [draws, rows, Q, E] for each slot."""
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    bank: dict[str, list[Tensor]] = {slot: [] for slot in link.slots}
    low_db, high_db = training.snr_db
    for _ in track(range(training.draws), "receive"):
        whole: dict[str, list[Tensor]] = {slot: [] for slot in link.slots}
        for some in np.array_split(rows, max(len(rows) // 250, 1)):
            snr_db_B = low_db + (high_db - low_db) * torch.rand(len(some), generator=generator)
            length = int(rng.choice(training.token_lengths))
            for slot, out in receive(link, clips, some, snr_db_B, length, generator).items():
                whole[slot].append(out.half())
        for slot, parts in whole.items():
            bank[slot].append(torch.cat(parts))
    return {slot: torch.stack(draws) for slot, draws in bank.items()}


def train(
    link: Link,
    clips: EncodedClips[SoundstageSplit],
    rows: npt.NDArray[np.int64],
    training: SpaceTraining,
    seed: int,
) -> SceneSpaceHeads:
    """Train the heads of a link on some clips."""
    torch.manual_seed(seed)
    bank = received_bank(link, clips, rows, training, seed)
    heads = SceneSpaceHeads(
        SceneSpaceConfig(
            link.slots,
            link.config.receiver.embeddings(_TOKEN_LENGTH),
            link.config.foundation.hidden_size,
            len(link.embedding.weight),
            word_width=link.embedding.embedding_dim,
        )
    )
    if training.words == "the foundation's":
        heads.know_words(link.embedding.weight.detach())
    rng, words = np.random.default_rng(seed), Words(seed, held_out=False)
    learned = [each for each in heads.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(learned, training.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, training.learning_rate, training.steps)
    scenes = clips.split.split.scenes
    alone = dict(zip(link.slots, (describe_picture, describe_sound), strict=True))
    for _ in track(range(training.steps), "train"):
        kind = rng.random()
        slot = None if kind < training.whole_share else link.slots[int(rng.integers(len(link.slots)))]
        tell: Describe = describe if slot is None else alone[slot]
        places = rng.permutation(len(rows))[: training.batch_size]
        draws = rng.integers(0, training.draws, len(places))
        lacks = slot is not None and rng.random() < training.missing_share / (1 - training.whole_share)
        received = {
            name: bank[name][draws, places].float() for name in link.slots if not lacks or name == slot
        }
        texts = [tk.encode(link.tokenizer, tell(scenes[rows[place]], words)) for place in places]
        loss = info_nce(heads.scenes(received), heads.texts(texts, training.word_noise), training.temperature)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return heads.eval()


def ranks(scenes_ND: Tensor, texts_QD: Tensor, right_Q: Tensor) -> Tensor:
    """How many scenes stand nearer to each text than the one that it says, [Q]."""
    near_QN = texts_QD @ scenes_ND.T
    return (near_QN > near_QN.gather(1, right_Q[:, None])).sum(dim=1)


def search_all(
    link: Link,
    clips: EncodedClips[SoundstageSplit],
    rows: npt.NDArray[np.int64],
    heads: SceneSpaceHeads,
    seed: int,
) -> dict[str, Any]:
    """How well captions in other words find their scenes, over SNR and number of scenes."""
    scenes = clips.split.split.scenes
    words = {name: Words(seed, held_out=name == "other words") for name in ("other words", "known words")}
    right = np.random.default_rng(seed).permutation(len(rows))[: min(_QUERIES, len(rows))]
    texts = {}
    with torch.inference_mode():
        for name, choose in words.items():
            told = [tk.encode(link.tokenizer, describe(scenes[rows[place]], choose)) for place in right]
            texts[name] = heads.texts(told)
        points: dict[float, Tensor] = {}
        for snr_db in SEARCHED_SNRS_DB:
            generator = torch.Generator().manual_seed(seed)
            parts = []
            for some in np.array_split(rows, max(len(rows) // 250, 1)):
                told_db_B = torch.full((len(some),), snr_db)
                parts.append(heads.scenes(receive(link, clips, some, told_db_B, _TOKEN_LENGTH, generator)))
            points[snr_db] = torch.cat(parts)
    # Two scenes of which the same is to be said are the same to whoever searches.
    facts = [describe(scene, Words(0, held_out=True)) for scene in (scenes[row] for row in rows)]
    alike = {fact: facts.count(fact) for fact in {facts[place] for place in right}}

    def told_of(points_ND: Tensor, texts_QD: Tensor, among: int) -> dict[str, float]:
        # The first that many scenes, and the ones that are asked for among them.
        asked = [(index, int(place)) for index, place in enumerate(right) if place < among]
        which = torch.tensor([index for index, _ in asked])
        found_Q = ranks(points_ND[:among], texts_QD[which], torch.tensor([place for _, place in asked]))
        recall = {f"recall_at_{k}": float((found_Q < k).float().mean()) for k in (1, 5, 10)}
        return {"queries": len(asked), **recall, "median_rank": float(found_Q.median()) + 1}

    most = len(rows)
    return {
        "token_length": _TOKEN_LENGTH,
        "channel": "awgn",
        "queries_of_which_another_scene_says_the_same": sum(alike[facts[place]] > 1 for place in right)
        / len(right),
        "over_snr": [
            {"snr_db": snr_db, "words": name, "scenes": most, **told_of(points[snr_db], texts[name], most)}
            for snr_db in SEARCHED_SNRS_DB
            for name in texts
        ],
        "over_scenes": [
            {
                "snr_db": _AT_SNR_DB,
                "scenes": among,
                **told_of(points[_AT_SNR_DB], texts["other words"], among),
            }
            for among in SEARCHED_AMONG
            if among <= most
        ],
    }


@app.command()
def scene_space(
    model: Annotated[Path, typer.Argument(help="Model folder; gets scene_space.safetensors.")],
    data: Annotated[Path, typer.Option(help="Folder of the data set.")] = Path("datasets/soundstage"),
    split: Annotated[str, typer.Option(help="Split that is trained on, but for the last clips.")] = "train",
    searched: Annotated[int, typer.Option(min=10, help="Last clips of it, which are searched.")] = _AMONG,
    features: Annotated[
        Path | None, typer.Option(help="Where encoded clips are kept.  [default: beside the data]")
    ] = None,
    steps: Annotated[int, typer.Option(min=1)] = SpaceTraining.steps,
    draws: Annotated[
        int, typer.Option(min=1, help="Times that each clip is received.")
    ] = SpaceTraining.draws,
    own_words: Annotated[
        bool, typer.Option("--own-words", help="Learn words anew, in place of the foundation's.")
    ] = False,
    word_noise: Annotated[
        float, typer.Option(min=0.0, help="Noise on words in training.")
    ] = SpaceTraining.word_noise,
    seed: Annotated[int, typer.Option()] = 1,
    out: Annotated[Path | None, typer.Option(help="Write the figures here as JSON.")] = None,
) -> None:
    """Teach a model where scenes and texts stand together, so that texts find scenes; measures how well."""
    began_s = time.perf_counter()
    link = Link.load(model).requires_grad_(False)
    clips = encode_clips(
        link, SoundstageSplit(load_split(data, cast(Any, split))), features or data / "features", split
    )
    if len(clips) <= searched:
        raise typer.BadParameter(f"the split has {len(clips)} clips; more are needed to train on some")
    rows = np.arange(len(clips))
    training = SpaceTraining(
        steps=steps,
        draws=draws,
        words="its own" if own_words else "the foundation's",
        word_noise=word_noise,
    )
    heads = train(link, clips, rows[:-searched], training, seed)
    found = search_all(link, clips, rows[-searched:], heads, seed)
    heads.save(model)
    report = {
        "command": f"edge-server scene-space {model} --steps {steps} --draws {draws} --seed {seed}"
        f"{' --own-words' if own_words else ''} --word-noise {word_noise:g}",
        "measures": ["edge_server/model/scene_space.py", "edge_server/training/scene_space.py"],
        "commit": current_commit(),
        "model": link.config.name,
        "training": asdict(training),
        "trained_on_clips": len(rows) - searched,
        "took_s": time.perf_counter() - began_s,
        **found,
        "promises": [_promise(found)],
    }
    text = json.dumps(report, indent=2) + "\n"
    typer.echo(text)
    if out is not None:
        out.write_text(text)


WHAT = "Recall@1 / @5 of text to scene among 5,000, 10 dB, captions in other words"
"""As in ``tests/benchmarks/promises/asked/scenes.toml``."""


def _promise(found: Mapping[str, Any]) -> dict[str, Any]:
    (row,) = [
        each for each in found["over_snr"] if each["snr_db"] == _AT_SNR_DB and each["words"] == "other words"
    ]
    first, fifth = row["recall_at_1"], row["recall_at_5"]
    met = row["scenes"] >= _AMONG and first >= 0.6 and fifth >= 0.9
    return {"what": WHAT, "measured": f"{first:.2f} / {fifth:.2f} among {row['scenes']}", "met": met}
