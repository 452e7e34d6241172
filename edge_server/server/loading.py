"""Loads what a model folder holds: the model, and the device bundle it answers for.

MODEL/           weights, read by edge_server.runtime.model_runner
MODEL/bundle/    device bundle: given to devices, and used here for media that comes over REST
MODEL/loss_surface.json  expected loss over SNR and token length, where it was measured
MODEL/bundle-*/  bundles of other precisions, made from that one: given to devices that ask
MODEL/bundle-of-DEVICE/  that or one of these with the heads that a device has co-trained: given to it alone
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from device_agent.bundle.archive import pack
from device_agent.bundle.bundle import Bundle, load_bundle
from device_agent.errors import BundleError, DeviceAgentError
from device_agent.transmitter import Transmitter
from edge_server.cell import share_of
from edge_server.cell.allocation import LossSurface
from edge_server.cell.allocation.surface_file import FILE as LOSS_FILE
from edge_server.cell.allocation.surface_file import read_tables
from edge_server.engine import Model, ModelRunner
from edge_server.engine.calibration import FILE as CALIBRATION_FILE
from edge_server.engine.calibration import read_calibration
from edge_server.engine.canary import FILE as CANARY_FILE
from edge_server.engine.canary import Canary, read_canaries
from edge_server.engine.runner_process import ModelRunnerProcess
from edge_server.errors import ConfigurationError, ModelError
from edge_server.frontdoor.backend import Served
from edge_server.frontdoor.ports import BundleArchive, LinkShape
from edge_server.frontdoor.scene_blocks import feature_blocks
from edge_server.model.description import read_description
from edge_server.model.modality import MODALITIES
from edge_server.model.split.description import is_split
from edge_server.runtime.folders import load, load_info
from edge_server.runtime.refinement import read_refinement
from edge_server.runtime.scene_space import FILE as SPACE_FILE
from edge_server.runtime.scene_space import LinkSpace
from edge_server.runtime.snapshot import Snapshot, take_snapshot
from edge_server.runtime.start import load_runner, load_vllm_runner, preload_for
from edge_server.scenes import SceneSpace
from edge_server.server.config import ServerConfig, rest_token_length
from edge_server.server.ingest import MediaIngest

_UNKNOWN_QUESTION = "What is shown?"
_UNKNOWN_CANARIES = 4


class Loading:
    """Loads the model that settings name, again and again; a load that hangs can be called off.

    Args:
        config: names the model.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._runners: list[ModelRunnerProcess] = []
        self._called_off = False

    def __call__(self) -> Served:
        """Load it.

        Raises:
            ConfigurationError: as for :func:`load_served`; or the load was called off.
        """
        try:
            return load_served(self._config, self._starting)
        finally:
            self._runners = []

    def call_off(self) -> None:
        """Whatever is being loaded in another thread fails soon, and so does what comes after it.

        A process that is stopped, or reads from a disk that has gone, would say nothing for minutes, and the
        server would wait for it before it ends.
        """
        self._called_off = True
        for runner in self._runners:
            runner.call_off()

    def _starting(self, runners: Sequence[ModelRunnerProcess]) -> None:
        self._runners = list(runners)
        if self._called_off:
            self.call_off()


def load_served(
    config: ServerConfig, starting: Callable[[Sequence[ModelRunnerProcess]], None] = lambda _: None
) -> Served:
    """Load the model that the settings name. Its state's type is its own business, hence ``Any``.

    Args:
        config: settings.
        starting: called with the processes that are to compute, before they are started.

    Raises:
        ConfigurationError: there is no model or no sound bundle, or they do not belong together.
    """
    with ExitStack() as resources:
        served = _load(config, resources, starting)
        return replace(served, close=resources.pop_all().close)


def _load(
    config: ServerConfig,
    resources: ExitStack,
    starting: Callable[[Sequence[ModelRunnerProcess]], None],
) -> Served:
    if not config.runtime.model.is_dir():
        raise ConfigurationError(
            f"model: there is no folder {config.runtime.model}; train one with `edge-server train`, or name "
            "another"
        )
    try:
        bundles = load_bundles(config.runtime.model)
        bundle = bundles[0]
        scratch = _scratch(resources)
        archives = _archives(bundles, scratch)
        ingest = ingest_of(config, bundle)
    except BundleError as error:
        raise ConfigurationError(
            f"model: {error.found}; write it with `edge-server export {config.runtime.model}`"
        ) from error
    except DeviceAgentError as error:
        raise ConfigurationError(f"model: {error}") from error
    resources.callback(ingest.close)
    # Of one moment, whatever is copied into the folder meanwhile.
    snapshot = take_snapshot(config.runtime.model, scratch)
    runner_of: Callable[[int], ModelRunner[Any]]
    try:
        calibration = read_calibration(snapshot.folder / CALIBRATION_FILE)
        # Of heads that a device has for itself, it is not known what their tokens are like.
        personal = any(each.personal_to for each in archives)
        refine = None if personal else read_refinement(snapshot.folder, bundle.hash)
        if config.cluster.asks_only:
            model, runner_of = load_info(snapshot.folder), _nothing_computes
        elif config.runtime.model_runner_processes:
            model, runner_of = _in_processes(config, snapshot, resources, starting)
        elif config.runtime.runner == "vllm":
            model, runner_of = _vllm_in_threads(config, snapshot, resources)
        else:
            model, runner_of = _in_threads(config, snapshot)
    except ModelError as error:
        # The copy is gone when this is read; its files have the names of the folder's.
        told = str(error).replace(str(snapshot.folder), str(config.runtime.model))
        raise ConfigurationError(f"model: {told}") from error
    if model.bundle_hash != bundle.hash:
        raise ConfigurationError(
            f"model: {config.runtime.model} answers for bundle {model.bundle_hash}, its bundle folder holds "
            f"{bundle.hash}; export the bundle again"
        )
    turns = is_split(snapshot.folder)
    views = not turns and read_description(snapshot.folder)[0].views
    ingest.refine = refine
    shape = replace(shape_of(bundle), turns=turns, views=views, refine=refine)
    return Served(
        model=model,
        runner_of=runner_of,
        ingest=ingest,
        shape=shape,
        space=_space(snapshot.folder, shape),
        token_lengths=tuple(bundle.manifest.token_lengths),
        token_length=bundle.manifest.token_length,
        bundles=archives,
        digest=snapshot.digest,
        loss=_loss(snapshot.folder / LOSS_FILE),
        canaries=read_canaries(snapshot.folder / CANARY_FILE) or _unknown_canaries(bundle, ingest),
        calibration=calibration,
    )


def _scratch(resources: ExitStack) -> Path:
    """A folder for as long as the model is served.

    Raises:
        ConfigurationError: there is nowhere to write.
    """
    try:
        return Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="tokenlink-model-")))
    except OSError as error:
        raise ConfigurationError(
            f"the copy that is served needs a folder for temporary files ({error.strerror or error}); "
            "TMPDIR names another one"
        ) from error


def _archives(bundles: Sequence[Bundle], scratch: Path) -> tuple[BundleArchive, ...]:
    """Bundles as devices fetch them.

    Raises:
        ConfigurationError: there is no room for them.
    """
    try:
        return tuple(_archive(each, scratch) for each in bundles)
    except OSError as error:
        raise ConfigurationError(
            f"model: its bundle cannot be packed in {scratch}: {error.strerror or error}; TMPDIR names "
            "another folder"
        ) from error


def _space(folder: Path, shape: LinkShape) -> SceneSpace | None:
    """Where scenes and texts stand together; None: the model was not taught that."""
    if is_split(folder) or not (folder / SPACE_FILE).is_file():
        return None
    return LinkSpace(folder, partial(feature_blocks, shape=shape))


def _loss(path: Path) -> Mapping[str, LossSurface]:
    """Measured loss per mix of modalities; empty where nobody has measured it.

    Raises:
        ConfigurationError: the file is not one of these.
    """
    try:
        return read_tables(path) or {}
    except ValueError as error:
        raise ConfigurationError(
            f"model: {error}; write it again with `edge-server evaluate MODEL --loss-surface`"
        ) from error


def _unknown_canaries(bundle: Bundle, ingest: MediaIngest) -> tuple[Canary, ...]:
    """Of a model that was exported without any: it must answer something."""
    manifest = bundle.manifest
    shape = (manifest.token_lengths[-1], manifest.channel_dim)
    sent = dict(manifest.transmitters)
    # A model of text alone is shown nothing; one that takes pictures need not take videos.
    shown = [each.wire[0] for slot, each in MODALITIES.items() if sent.get(slot) is not None][:1]
    ids = ingest.tokenize(_UNKNOWN_QUESTION)
    return tuple(Canary.of(seed, dict.fromkeys(shown, shape), ids) for seed in range(_UNKNOWN_CANARIES))


def _nothing_computes(_: int) -> ModelRunner[Any]:
    """Of a door: engines elsewhere have the weights."""
    raise ConfigurationError("role: this node is a door of a cluster, and computes nothing")


def _in_threads(config: ServerConfig, snapshot: Snapshot) -> tuple[Model, Callable[[int], ModelRunner[Any]]]:
    """One model for all batches, in this process."""
    model = load(snapshot.folder, config.runtime.computing)
    return model, lambda _: model


def _vllm_in_threads(
    config: ServerConfig, snapshot: Snapshot, resources: ExitStack
) -> tuple[Model, Callable[[int], ModelRunner[Any]]]:
    """A process of vLLM for each batch, told by a thread of this one."""
    runners = []
    for _ in range(config.engine.batches):
        runner = load_vllm_runner(snapshot, config.runtime.threads, config.engine.max_batch)
        resources.callback(runner.close)
        runners.append(runner)
    return load_info(snapshot.folder), runners.__getitem__


def _in_processes(
    config: ServerConfig,
    snapshot: Snapshot,
    resources: ExitStack,
    starting: Callable[[Sequence[ModelRunnerProcess]], None],
) -> tuple[Model, Callable[[int], ModelRunner[Any]]]:
    """A model for each batch, in a process of its own; here is what is known of it without weights."""
    runtime = config.runtime
    make: Callable[[], ModelRunner[Any]] = partial(load_runner, snapshot, runtime.computing)
    if runtime.runner == "vllm":
        make = partial(load_vllm_runner, snapshot, runtime.threads, config.engine.max_batch)
    preload = preload_for(snapshot)
    runners = [ModelRunnerProcess(make, preload) for _ in range(config.engine.batches)]
    for runner in runners:
        resources.callback(runner.close)
    starting(runners)
    with ThreadPoolExecutor() as pool:
        started = [pool.submit(runner.start) for runner in runners]
        model = load_info(snapshot.folder)
        try:
            for each in started:
                each.result()
        except OSError as error:
            # Processes meet at a socket there, whose path may have 107 bytes.
            raise ConfigurationError(
                f"TMPDIR: a model's process does not start: {error}; temporary files go to "
                f"{tempfile.gettempdir()}"
            ) from error
    return model, runners.__getitem__


def load_bundles(model: Path) -> tuple[Bundle, ...]:
    """The device bundles of a model folder, verified; the one it was exported with is first.

    Raises:
        BundleError: one is not sound.
        ConfigurationError: one was made from another bundle than the first, so that the model would
            misunderstand its tokens.
    """
    first = load_bundle(model / "bundle")
    bundles = [first]
    folders = sorted(model.glob("bundle-*"), key=lambda each: (each.name.startswith("bundle-of-"), each.name))
    for folder in folders:
        bundle = load_bundle(folder)
        manifest = bundle.manifest
        if manifest.personalised_from is not None:
            if manifest.personalised_from not in {
                each.hash for each in bundles if not each.manifest.personal_to
            }:
                raise ConfigurationError(
                    f"model: {folder} was made for {manifest.personal_to} from bundle "
                    f"{manifest.personalised_from}, which the model does not have; remove it"
                )
        elif manifest.quantised_from != first.hash:
            raise ConfigurationError(
                f"model: {folder} was made from bundle {bundle.manifest.quantised_from}, the model's is "
                f"{first.hash}; make it again with `edge-server export --precision`, or remove it"
            )
        bundles.append(bundle)
    return tuple(bundles)


def _archive(bundle: Bundle, folder: Path) -> BundleArchive:
    path = folder / f"{bundle.hash}.tar"
    pack(bundle.folder, path)
    return BundleArchive(bundle.hash, path, bundle.manifest.precision, bundle.manifest.personal_to or "")


def ingest_of(config: ServerConfig, bundle: Bundle) -> MediaIngest:
    """What makes media of REST requests ready, with the transmitters of a bundle.

    Raises:
        ConfigurationError: the bundle was not trained for the default token length.
    """
    token_length = rest_token_length(config, bundle.manifest.token_length)
    if token_length not in bundle.manifest.token_lengths:
        raise ConfigurationError(
            f"rest_token_length is {token_length}; the bundle allows "
            f"{', '.join(map(str, bundle.manifest.token_lengths))}"
        )
    ingest = MediaIngest(
        Transmitter(bundle),
        token_length=token_length,
        limits=config.media,
        threads=config.rest.ingest_threads,
        max_pending=config.rest.max_ingest,
        max_pending_of_one=share_of(config.rest.max_ingest, config.shared.share_of_one),
        rng=np.random.default_rng(),
    )
    ingest.start()
    return ingest


def shape_of(bundle: Bundle) -> LinkShape:
    """Token blocks that a bundle's transmitters make."""
    text = bundle.manifest.transmitters.text
    return LinkShape(
        channel_dim=bundle.manifest.channel_dim,
        max_text_token_length=text.max_token_length if text is not None else 0,
    )
