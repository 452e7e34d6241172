"""Figure D: what stage 1 does to tokens: a picture of them, and how surely they find their words.

Retrieval asks, for what was received of a clip, which of all clips' received texts is nearest (cosine of
means). A text counts as found when it says the same as the clip's own, whatever its wording.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors import safe_open
from sklearn.manifold import TSNE
from torch import Tensor

from device_agent.channel import ChannelConfig
from edge_server.data.soundstage.scene import Scene
from edge_server.evaluation.accuracy import Setting
from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.model.modality import SLOTS
from edge_server.study.figures.answers import spread
from edge_server.study.run import encoded_split
from edge_server.study.study import SNRS_DB, Study, Task
from edge_server.study.teacher_forced import over_channel
from edge_server.training.forward import UplinkTraining, draw_of, receive_texts
from edge_server.training.loop import DONE
from edge_server.training.modality import TRAINING
from edge_server.training.radio import RadioTraining
from edge_server.training.soundstage import SoundstageSplit

#: Systems whose stage 1 is looked at: ours, and the paper's own with our link.
SYSTEMS = ("two-stage", "rung-length")
#: What was seen, in a record.
SEEN = "alignment.json"
#: SNR of the pictures [dB].
PICTURE_SNR_DB = 10.0
_STAGE = 9


@dataclass(frozen=True)
class _Look:
    """A link before or after its stage 1, and clips to look at through it."""

    when: str
    link: Link
    features: dict[str, npt.NDArray[np.float16]]
    split: SoundstageSplit

    @property
    def clips(self) -> int:
        return min(len(of_slot) for of_slot in self.features.values())

    def said(self, slot: str) -> list[Sequence[str]]:
        """What is to be found, clip by clip."""
        return [self.split.dictated(clip, slot) for clip in range(self.clips)]


def build(study: Study, runs: Path, data: Path, records: Path) -> dict[str, Any]:
    """The figure's data: recall over SNR for every seed, and the first seed's map before and after.

    A seed is looked at where its weights are; what was seen is kept in its record.
    """
    found: dict[tuple[str, str, str, float], list[dict[str, float]]] = {}
    maps = []
    for system in SYSTEMS:
        for seed in study.seeds:
            task = Task(study.name, system, seed)
            kept = task.record(records) / SEEN
            if not kept.exists():
                if not (task.run(runs, data).stage("alignment") / DONE).exists():
                    continue
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(_seen(study, task, runs, data)) + "\n")
            seen = json.loads(kept.read_text())
            for recall in seen["recall"]:
                key = (system, recall.pop("slot"), recall.pop("when"), recall.pop("snr_db"))
                found.setdefault(key, []).append(recall)
            maps += seen["maps"]
    recalls = []
    for system, slot, when in dict.fromkeys(key[:3] for key in found):
        curve: dict[str, Any] = {"system": system, "slot": slot, "when": when, "snr_db": list(SNRS_DB)}
        for name in ("recall_at_1", "recall_at_5", "chance_at_1"):
            by_snr = [[recall[name] for recall in found[system, slot, when, snr_db]] for snr_db in SNRS_DB]
            curve[name] = [spread(values) for values in by_snr]
        recalls.append(curve)
    return {"clips": study.test_clips, "picture_snr_db": PICTURE_SNR_DB, "recall": recalls, "maps": maps}


def _seen(study: Study, task: Task, runs: Path, data: Path) -> dict[str, Any]:
    """Recall of one link before and after its stage 1, and maps where it is the first seed's."""
    recalls, maps = [], []
    for look in _looks(study, task, runs, data):
        for snr_db in SNRS_DB:
            means = received_means(look, snr_db, study.budget.token_length)
            for slot, (tokens_BE, texts_BE) in means.items():
                where = {"slot": slot, "when": look.when, "snr_db": snr_db}
                recalls.append(where | retrieval(tokens_BE, texts_BE, look.said(slot)))
                if task.seed == study.seeds[0] and snr_db == PICTURE_SNR_DB:
                    shown = {"system": task.system, "slot": slot, "when": look.when}
                    scenes = look.split.split.scenes[: look.clips]
                    maps.append(shown | _map(tokens_BE, texts_BE, scenes, slot))
    return {"recall": recalls, "maps": maps}


def _looks(study: Study, task: Task, runs: Path, data: Path) -> Iterator[_Look]:
    run = task.run(runs, data)
    torch.manual_seed(task.seed)  # as training began
    link = run.pretrained_link().eval()
    clips = encoded_split(link, run, data, "test")
    features = {slot: clips.features[slot][: study.test_clips] for slot in SLOTS}
    yield _Look("before", link, features, clips.split)
    _restore(link, run.stage("alignment") / "checkpoint.safetensors")
    yield _Look("after", link, features, clips.split)


@torch.inference_mode()
def received_means(look: _Look, snr_db: float, token_length: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Per slot, mean received embedding of each clip's tokens and of each clip's words, [N, E] each."""
    link = look.link
    setting = Setting(ChannelConfig(snr_db=snr_db), token_length)
    arrived = over_channel(link, look.features, setting)(range(look.clips))
    uplink = UplinkTraining(RadioTraining((snr_db, snr_db), (("awgn", "block", 1.0),)))
    captions = [look.split.caption(clip) for clip in range(look.clips)]
    means = {}
    for slot in SLOTS:
        said = TRAINING[slot].caption
        ids = [tk.encode(link.tokenizer, said(caption)) for caption in captions]
        words = receive_texts(link, ids, uplink, draw_of(0, _STAGE, 0)).means()
        means[slot] = (torch.stack([slots[slot].mean(dim=0) for slots in arrived]), words)
    return means


def retrieval(tokens_BE: Tensor, texts_BE: Tensor, said: Sequence[Sequence[str]]) -> dict[str, float]:
    """Share of clips for which a text that says the same is the nearest, and is among the five nearest."""
    keys = {words: i for i, words in enumerate(dict.fromkeys(map(tuple, said)))}
    meaning = torch.tensor([keys[tuple(words)] for words in said])
    similarity = F.normalize(tokens_BE, dim=-1) @ F.normalize(texts_BE, dim=-1).T
    nearest = similarity.topk(min(5, len(said)), dim=-1).indices
    same = meaning[nearest] == meaning[:, None]
    alike = (meaning[:, None] == meaning[None, :]).float().mean(dim=1)
    return {
        "recall_at_1": same[:, 0].float().mean().item(),
        "recall_at_5": same.any(dim=1).float().mean().item(),
        "chance_at_1": alike.mean().item(),
    }


def _map(tokens_BE: Tensor, texts_BE: Tensor, scenes: Sequence[Scene], slot: str) -> dict[str, Any]:
    """Both kinds of points in the plane (t-SNE), and what each clip is coloured by."""
    both = torch.cat([F.normalize(tokens_BE, dim=-1), F.normalize(texts_BE, dim=-1)]).numpy()
    perplexity = min(30.0, (len(both) - 1) / 3)
    plane = TSNE(metric="cosine", perplexity=perplexity, init="pca", random_state=0).fit_transform(both)
    colours = [_instrument(scene, slot) for scene in scenes]
    rounded = np.round(plane, 2).tolist()
    return {"tokens": rounded[: len(scenes)], "texts": rounded[len(scenes) :], "colours": colours}


def _instrument(scene: Scene, slot: str) -> str:
    if slot == "audio":
        return scene.by_loudness[0].kind if scene.sounds else "none"
    return scene.performers[0].kind if scene.performers else "none"


def _restore(link: Link, checkpoint: Path) -> None:
    with safe_open(checkpoint, framework="pt") as file:
        for name, parameter in link.link_parameters().items():
            parameter.data.copy_(file.get_tensor(f"weight.{name}"))
