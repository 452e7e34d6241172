"""Both stores keep to one port; the file keeps what was acknowledged, and deletes for good."""

from __future__ import annotations

import math
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_server.errors import ConfigurationError
from edge_server.scenes import (
    At,
    Change,
    MemoryScenes,
    Scene,
    SceneBlock,
    SceneBounds,
    SceneStore,
    SenderClock,
    SqliteScenes,
    Wanted,
    memory,
    sqlite,
)
from edge_server.scenes.scene import parse_at, scene_id_of
from edge_server.scenes.store import matches

Make = Callable[..., SceneStore]
DIM = 64


def scene(device: str = "camera-1", start_s: float = 100.0, **fields: object) -> Scene:
    made = Scene(
        scene_id_of(device, str(start_s)),
        device,
        start_s,
        4.0,
        "ab" * 32,
        (SceneBlock("video", 16, 9.5, b"\x00\x01tokens"), SceneBlock("audio", 8, 3.25, b"sound")),
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def vector(seed: int) -> np.ndarray:
    made = np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
    return made / np.linalg.norm(made)


@pytest.fixture(params=["memory", "file"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    made: list[SceneStore] = []

    def store(**bounds: int) -> SceneStore:
        within = SceneBounds(**bounds)
        path = tmp_path / f"scenes-{len(made)}.db"
        made.append(MemoryScenes(within) if request.param == "memory" else SqliteScenes(path, within))
        return made[-1]

    yield store
    for each in made:
        each.close()


def test_a_scene_is_found_while_another_is_being_written(tmp_path: Path) -> None:
    store = SqliteScenes(tmp_path / "scenes.db", SceneBounds())
    store.put(scene(start_s=1.0))
    other = sqlite3.connect(tmp_path / "scenes.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        found = store.find("camera-1", At())
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert found is not None
    assert found.start_s == 1.0
    store.close()


def test_a_scene_comes_back_as_it_was(make: Make) -> None:
    store = make()
    kept = scene(keep_until_s=500.0, space="s", vector=vector(1))
    assert store.put(kept) == {}
    found = store.find("camera-1", At())
    assert found == kept
    assert found.vector is not None
    np.testing.assert_array_equal(found.vector, vector(1))
    assert store.find("camera-1", At(scene_id=kept.scene_id)) == kept
    assert store.find("camera-2", At(scene_id=kept.scene_id)) is None


def test_the_last_that_had_begun_is_meant_by_a_time(make: Make) -> None:
    store = make()
    for start_s in (100.0, 120.0, 110.0):
        store.put(scene(start_s=start_s))
    starts = [store.find("camera-1", At(time_s=at)) for at in (99.0, 100.0, 119.0, 1e9, math.inf)]
    assert [found and found.start_s for found in starts] == [None, 100.0, 110.0, 120.0, 120.0]


def test_shared_twice_it_is_one(make: Make) -> None:
    store = make()
    store.put(scene())
    assert store.put(replace(scene(), start_s=1.0)) == {}
    assert (store.count(), store.find("camera-1", At())) == (1, scene())


def test_clocks_of_senders_are_kept_with_what_they_shared(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (memory, sqlite):
        monkeypatch.setattr(module, "MAX_CLOCKS", 3)
    store = make()
    for number, sender in enumerate("abacabd"):
        store.put(scene(start_s=float(number)), SenderClock(sender, float(number), 100.0 + number))
    # One that was shared before changes nothing.
    store.put(scene(start_s=0.0), SenderClock("e", 9.0, 9.0))
    assert store.clocks() == [SenderClock(who, at, 100.0 + at) for who, at in (("a", 4), ("b", 5), ("d", 6))]


def test_what_others_are_to_be_told_of_is_noted_until_they_were(make: Make) -> None:
    store = make(per_device=3)
    before, heard, kept, late = (scene(start_s=float(number)) for number in range(4))
    store.put(before)
    assert store.untold(9) == []
    store.begin_telling()
    store.put(heard, heard=True)
    store.put(kept)
    store.begin_telling()
    found = store.untold(9)
    assert found == [Change(before.scene_id, True), Change(kept.scene_id, True)]
    store.told(found[:1])
    assert store.untold(9) == found[1:]
    # What is deleted meanwhile is to be told of all the same; what goes for want of room is not.
    assert store.delete(Wanted(since_s=before.end_s)) == 2
    store.told(found)
    store.put(late)
    for start_s in (4.0, 5.0):
        store.put(scene(start_s=start_s), heard=True)
    assert store.missing([before.scene_id])
    deleted = [Change(each.scene_id, False) for each in (heard, kept)]
    assert store.untold(9) == [*deleted, Change(late.scene_id, True)]
    assert store.untold(2) == deleted[:2]


def test_scenes_of_others_come_whole_and_go_unnoted(make: Make) -> None:
    store = make()
    store.begin_telling()
    kept, gone = scene(thumbnail=b"jpeg"), scene(start_s=200.0)
    for each in (kept, gone):
        store.put(each, heard=True)
    whole = store.whole(kept.scene_id)
    assert whole == kept
    assert whole is not None
    assert whole.thumbnail == b"jpeg"
    assert store.drop([gone.scene_id, "s0"]) == 1
    assert store.whole(gone.scene_id) is None
    assert store.missing([gone.scene_id, kept.scene_id]) == [gone.scene_id]
    assert store.untold(9) == []


def test_another_process_notes_what_it_deletes(tmp_path: Path) -> None:
    server, command = (SqliteScenes(tmp_path / "scenes.db") for _ in range(2))
    server.begin_telling()
    server.put(scene())
    server.told(server.untold(9))
    command.delete(Wanted())
    assert server.untold(9) == [Change(scene().scene_id, False)]
    # It is told for as long as others may have it.
    server.expire(math.inf)
    assert server.untold(9) == []
    for each in (server, command):
        each.close()


def test_a_thumbnail_is_there_for_as_long_as_its_scene(make: Make) -> None:
    store = make(per_device=1)
    first, second = scene(start_s=1.0, thumbnail=b"jpeg"), scene(start_s=2.0)
    store.put(first)
    assert store.thumbnail(first.scene_id) == b"jpeg"
    store.put(second)
    assert [store.thumbnail(each.scene_id) for each in (first, second)] == [b"", b""]
    assert first.size_bytes == second.size_bytes + 4


def test_the_oldest_go_by_each_bound(make: Make) -> None:
    store = make(per_device=2)
    assert [store.put(scene(start_s=s)) for s in (1.0, 3.0, 2.0, 4.0)][2:] == [{"device_full": 1}] * 2
    assert [each.start_s for each in store.scenes(Wanted(), 9)] == [4.0, 3.0]
    store = make(in_all=2)
    gone = [store.put(scene(device, s)) for device, s in (("a", 1.0), ("b", 2.0), ("c", 3.0))]
    assert gone == [{}, {}, {"full": 1}]
    assert [each.device for each in store.devices(Wanted())] == ["b", "c"]
    store = make(max_bytes=2 * scene().size_bytes)
    assert [store.put(scene(start_s=s)) for s in (1.0, 2.0, 3.0)][-1] == {"full": 1}
    assert store.count() == 2


def test_what_is_over_goes(make: Make) -> None:
    store = make()
    store.put(scene(start_s=1.0, keep_until_s=10.0))
    store.put(scene(start_s=2.0, keep_until_s=20.0))
    assert [store.expire(9.0), store.expire(10.0), store.count()] == [0, 1, 1]


def test_the_nearest_are_found_among_what_is_wanted(make: Make) -> None:
    store = make()
    for number in range(40):
        device = f"camera-{number % 4}"
        store.put(scene(device, float(number), space="s", vector=vector(number)))
    store.put(scene("camera-1", 99.0, space="other", vector=vector(5)))
    asked = vector(5) + 0.1 * vector(77)
    asked /= np.linalg.norm(asked)
    found = store.search("s", asked, Wanted(), 3)
    assert (found[0].scene.start_s, found[0].scene.device, len(found)) == (5.0, "camera-1", 3)
    assert found[0].score == pytest.approx(float(vector(5) @ asked), abs=1e-5)
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    elsewhere = store.search("s", asked, Wanted(("camera-2", "camera-3")), 40)
    assert {each.scene.device for each in elsewhere} == {"camera-2", "camera-3"}
    assert len(elsewhere) == 20
    unseen = store.search("s", asked, Wanted(readable=("camera-0",), since_s=20.0), 40)
    assert {(each.scene.device, each.scene.start_s >= 16.0) for each in unseen} == {("camera-0", True)}
    assert store.search("unknown", asked, Wanted(), 3) == []
    assert store.search("s", asked, Wanted(readable=()), 3) == []


def test_deleted_means_not_found_by_anything(make: Make) -> None:
    store = make()
    for device in ("camera-1", "camera-1/left", "camera-10", "mic"):
        store.put(scene(device, space="s", vector=vector(1)))
    assert store.delete(Wanted(("camera-1", "camera-1/*"))) == 2
    assert [each.device for each in store.devices(Wanted())] == ["camera-10", "mic"]
    assert {each.scene.device for each in store.search("s", vector(1), Wanted(), 9)} == {"camera-10", "mic"}
    assert store.count() == 2


def test_nothing_of_a_deleted_scene_is_left_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "scenes.db"
    store = SqliteScenes(path)
    secret = b"what-was-seen-in-the-bedroom" * 40
    store.put(scene(blocks=(SceneBlock("video", 16, 0.0, secret),)))
    here = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert secret[:28] in here
    store.delete(Wanted())
    assert secret[:28] not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
    store.close()


def test_another_process_that_deletes_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "scenes.db"
    server, command = SqliteScenes(path, SceneBounds(per_device=2)), SqliteScenes(path)
    server.put(scene(start_s=1.0))
    server.put(scene(start_s=2.0))
    assert command.delete(Wanted()) == 2
    assert server.count() == 0
    assert server.put(scene(start_s=3.0)) == {}
    server.close()
    command.close()


def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "scenes.db"
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from edge_server.scenes import Scene, SceneBlock, SqliteScenes\n"
        f"store = SqliteScenes(Path({str(path)!r}))\n"
        "for n in range(100000):\n"
        "    block = SceneBlock('video', 1, 0.0, b'x' * 600)\n"
        "    store.put(Scene(f's{n:016x}', 'd', float(n), 4.0, 'b', (block,)))\n"
        "    print(n, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(40)]
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged += [int(line) for line in writer.stdout.read().splitlines() if line.strip()]
    store = SqliteScenes(path)
    found = sorted(int(each.start_s) for each in store.scenes(Wanted(), 10**6))
    assert found[: len(acknowledged)] == acknowledged
    assert len(found) <= len(acknowledged) + 1
    store.close()


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scenes.db"
    path.write_bytes(b"no database at all, but long enough to look like one" * 100)
    with pytest.raises(ConfigurationError, match=r"scenes: .* cannot be used"):
        SqliteScenes(path)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("", At()),
        ("latest", At()),
        ("-90", At(time_s=910.0)),
        ("250.5", At(time_s=250.5)),
        ("s0123456789abcdef", At("s0123456789abcdef")),
        ("1970-01-01T00:10:00", At(time_s=600.0)),
        ("1970-01-01T01:10:00+01:00", At(time_s=600.0)),
    ],
)
def test_times_are_read(text: str, meant: At) -> None:
    assert parse_at(text, 1000.0) == meant


@pytest.mark.parametrize("text", ["yesterday", "nan", "inf", "s123", "'; DROP TABLE scene"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever of Python's readers says so
        parse_at(text, 0.0)


def test_only_a_star_stands_for_anything(make: Make) -> None:
    assert matches(("camera-*",), "camera-1/left")
    assert not matches(("camera-?",), "camera-1")
    assert not matches(("[a-z]",), "a")
    store = make()
    for device in ("a", "camera-1", "camera-?", "[a]"):
        store.put(scene(device))
    for pattern in ("camera-?", "[a]", "a"):
        assert [each.device for each in store.devices(Wanted((pattern,)))] == [pattern]
