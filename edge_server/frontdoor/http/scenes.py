"""``/v1/scenes``: what is kept, found by a text, deleted by whose it is."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from edge_server.frontdoor.http.asking import peer_of, while_connected
from edge_server.frontdoor.scenes import SceneDesk
from edge_server.scenes import Scene, Wanted
from edge_server.scenes.store import DeviceScenes
from protos.names import MAX_DEVICE_CHARS

MAX_LISTED = 1000
_MOST_PATTERNS = 64
Pattern = Annotated[str, Field(min_length=1, max_length=MAX_DEVICE_CHARS)]


class ScenesSearch(BaseModel):
    """What is looked for."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    query: Annotated[str, Field(max_length=4096)]
    """What is to be seen or heard in it."""
    devices: Annotated[list[Pattern], Field(min_length=1, max_length=_MOST_PATTERNS)] = ["*"]
    """Of any of these; ``*`` stands for anything."""
    since_s: Annotated[float, Field(ge=0, le=1e10)] | None = None
    """So long ago at most [s]."""
    limit: Annotated[int, Field(ge=1, le=100)] = 10


class SceneEntry(BaseModel):
    """A scene that is kept."""

    scene_id: str
    device: str
    start_s: float
    """Seconds since the Unix epoch, by the server's clock."""
    length_s: float
    modalities: list[str]
    snr_db: list[float]
    """Of each of them, what its receiver was told."""
    bytes: int
    bundle_hash: str
    score: float | None = None
    """Of a search: cosine of the angle between text and scene."""


class DeviceEntry(BaseModel):
    """A device of which something is kept."""

    device: str
    scenes: int
    bytes: int
    first_s: float
    last_s: float


class ScenesListed(BaseModel):
    """What is kept, as far as whoever asks may see it."""

    devices: list[DeviceEntry]
    scenes: list[SceneEntry]
    """The latest first."""


class ScenesFound(BaseModel):
    """What was found, the likeliest first."""

    scenes: list[SceneEntry]


class ScenesDeleted(BaseModel):
    """How many are gone."""

    deleted: int


def build_scenes(desk: SceneDesk) -> APIRouter:
    """The routes of scenes.

    Args:
        desk: keeps them, and says who may see them.
    """
    router = APIRouter(tags=["scenes"])

    @router.get("/v1/scenes")
    async def scenes(
        request: Request,
        device: Annotated[list[Pattern], Query(max_length=_MOST_PATTERNS)] = ["*"],  # noqa: B006
        since_s: Annotated[float | None, Query(ge=0, le=1e10)] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 100,
    ) -> ScenesListed:
        """Devices and their latest scenes."""
        wanted = _wanted(desk, tuple(device), since_s)
        devices, found = await desk.listed(wanted, peer_of(request), limit)
        return ScenesListed(
            devices=[_device(each) for each in devices], scenes=[_entry(scene) for scene in found]
        )

    @router.post("/v1/scenes/search")
    async def search(body: ScenesSearch, request: Request) -> ScenesFound:
        """Scenes that a text says something of."""
        wanted = _wanted(desk, tuple(body.devices), body.since_s)
        looking = desk.search(body.query, wanted, peer_of(request), body.limit)
        found = await while_connected(request, looking)
        return ScenesFound(scenes=[_entry(each.scene, each.score) for each in found])

    @router.delete("/v1/scenes")
    async def delete(
        request: Request, device: Annotated[list[Pattern], Query(min_length=1, max_length=_MOST_PATTERNS)]
    ) -> ScenesDeleted:
        """Delete scenes for good."""
        return ScenesDeleted(deleted=await desk.delete(Wanted(tuple(device)), peer_of(request)))

    return router


def _wanted(desk: SceneDesk, devices: tuple[str, ...], since_s: float | None) -> Wanted:
    if since_s is None:
        return Wanted(devices)
    return Wanted(devices, since_s=desk.scenes.wall_clock() - since_s)


def _entry(scene: Scene, score: float | None = None) -> SceneEntry:
    return SceneEntry(
        scene_id=scene.scene_id,
        device=scene.device,
        start_s=scene.start_s,
        length_s=scene.length_s,
        modalities=[block.modality for block in scene.blocks],
        snr_db=[block.snr_db for block in scene.blocks],
        bytes=scene.size_bytes,
        bundle_hash=scene.bundle_hash,
        score=score,
    )


def _device(kept: DeviceScenes) -> DeviceEntry:
    return DeviceEntry(
        device=kept.device,
        scenes=kept.scenes,
        bytes=kept.size_bytes,
        first_s=kept.first_s,
        last_s=kept.last_s,
    )
