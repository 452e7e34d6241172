"""Fits what a model's tokens are like, from clips: no labels, nothing is learned by descent.

    edge-server token-prior MODEL --data DIR

Clusters by k-means (Lloyd 1982), axes and variances from what is left within them. The file it writes lets
a server tell gains that were estimated from few pilots better (:mod:`edge_server.model.gain_refinement`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import numpy.typing as npt
import torch
import typer
from rich.progress import track

from device_agent.bundle.bundle import load_bundle
from edge_server.data.soundstage.dataset import load_split
from edge_server.model.link import Link
from edge_server.model.token_prior import TokenPrior, TokenPriors
from edge_server.training.clips import EncodedClips, encode_clips
from edge_server.training.soundstage import SoundstageSplit

app = typer.Typer(pretty_exceptions_enable=False)

CLUSTERS, AXES = 64, 64
_ROUNDS = 25
_BATCH = 250


def fit(x_ND: npt.NDArray[np.float32], clusters: int, axes: int, seed: int) -> TokenPrior:
    """Fit a prior to blocks.

    Args:
        x_ND: a block in each row.
        clusters: at most N.
        axes: at most D - 1.
        seed: of the first means.
    """
    x_ND = x_ND.astype(np.float64)
    clusters, axes = min(clusters, len(x_ND)), min(axes, x_ND.shape[1] - 1)
    means_KD = x_ND[np.random.default_rng(seed).permutation(len(x_ND))[:clusters]]
    for _ in range(_ROUNDS):
        near_N = ((means_KD**2).sum(axis=1) - 2.0 * x_ND @ means_KD.T).argmin(axis=1)
        means_KD = np.stack(
            [x_ND[near_N == k].mean(axis=0) if (near_N == k).any() else means_KD[k] for k in range(clusters)]
        )
    near_N = ((means_KD**2).sum(axis=1) - 2.0 * x_ND @ means_KD.T).argmin(axis=1)
    variances_D, axes_DD = np.linalg.eigh(np.cov((x_ND - means_KD[near_N]).T))
    least = 1e-6  # half precision has no smaller ones that are normal
    counts_K = np.bincount(near_N, minlength=clusters) + 1.0
    return TokenPrior(
        means_KD=means_KD.astype(np.float32),
        weights_K=(counts_K / counts_K.sum()).astype(np.float32),
        axes_DR=axes_DD[:, -axes:].astype(np.float32),
        variances_R=np.maximum(variances_D[-axes:], least).astype(np.float32),
        rest=np.array([max(float(variances_D[:-axes].mean()), least)], np.float32),
    )


def fit_all(
    link: Link, clips: EncodedClips[Any], bundle_hash: str, token_lengths: tuple[int, ...], seed: int
) -> TokenPriors:
    """Fit a prior for each slot and token length of a link, to clips behind its encoders."""
    found = {}
    places = [(slot, length) for slot in link.slots for length in token_lengths]
    for slot, length in track(places, "fit"):
        parts = []
        with torch.inference_mode():
            for rows in np.array_split(np.arange(len(clips)), max(len(clips) // _BATCH, 1)):
                parts.append(link.send(slot, clips.take(slot, rows), length).flatten(1).numpy())
        found[slot, length] = fit(np.concatenate(parts), CLUSTERS, AXES, seed)
    return TokenPriors(bundle_hash, found)


@app.command()
def token_prior(
    model: Annotated[Path, typer.Argument(help="Model folder; gets token_prior.safetensors.")],
    data: Annotated[Path, typer.Option(help="Folder of the data set.")] = Path("datasets/soundstage"),
    split: Annotated[str, typer.Option(help="Split whose clips are looked at.")] = "train",
    features: Annotated[
        Path | None, typer.Option(help="Where encoded clips are kept.  [default: beside the data]")
    ] = None,
    seed: Annotated[int, typer.Option()] = 1,
) -> None:
    """Learn what a model's tokens are like, so that few pilots tell a gain well enough."""
    link, bundle = Link.load(model).requires_grad_(False), load_bundle(model / "bundle")
    kept = features or data / "features" / split
    clips = encode_clips(link, SoundstageSplit(load_split(data, cast(Any, split))), kept, split)
    lengths = tuple(bundle.manifest.token_lengths)
    fit_all(link, clips, bundle.hash, lengths, seed).save(model)
    typer.echo(f"{model}: tokens of {len(clips)} clips, of lengths {', '.join(map(str, lengths))}")
