"""What several front doors of one machine are told."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from edge_server.errors import ConfigurationError
from edge_server.server.config import ServerConfig
from edge_server.server.front_doors import Place, check_front_doors, of_door, of_engine
from edge_server.server.telling import told

BROKER = "nats://127.0.0.1:4222"


def config(**given: Any) -> ServerConfig:
    return ServerConfig(**{"front_doors": 4, "cluster": BROKER, **given})


def test_doors_share_out_what_is_bounded_for_everybody(tmp_path: Path) -> None:
    whole = config(enrol_port=50052, node="edge")
    doors = [of_door(whole, number, tmp_path) for number in range(4)]
    for bound in (
        lambda told: told.cell.max_sessions,
        lambda told: told.cell.arrivals_per_s,
        lambda told: told.engine.max_queue,
        lambda told: told.shared.max_held_bytes,
        lambda told: told.shared.max_connections,
        lambda told: told.grpc.max_calls,
    ):
        assert sum(map(bound, doors)) == bound(whole)
    assert {door.cluster.node for door in doors} == {f"edge-door-{number}" for number in range(4)}
    assert [door.security.enrol_port for door in doors] == [50052, None, None, None]
    # What one peer may ask is counted together, and not divided.
    assert all(door.limits == whole.limits for door in doors)
    # Scenes that one is given, the others find.
    assert len({door.scenes.file for door in doors}) == 1


def test_the_engine_has_no_doors_and_ports_follow_one_another(tmp_path: Path) -> None:
    engine = of_engine(config(door_port=9000), tmp_path)
    assert (engine.cluster.role, engine.server.front_doors, engine.rest.port) == ("engine", 1, 9004)


def test_what_a_member_is_told_is_what_it_hears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_server.server import telling

    monkeypatch.setattr(telling, "_end_with", lambda stream: None)
    door, place = of_door(config(questions_per_minute=7), 2, tmp_path), Place(2, tmp_path / "a", 9002)
    meant = ("sha256:1", "digest")
    assert telling.be_told(io.BytesIO(told(door, place, meant))) == telling.Told(door, place, meant)
    engine = of_engine(config(), tmp_path)
    assert telling.be_told(io.BytesIO(told(engine, None))) == telling.Told(engine, None, None)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"cluster": ""}, "need a broker .*nats-server --jetstream"),
        ({"role": "engine"}, "role: is 'engine'"),
        ({"answers": "answers.db"}, "answers: is 'answers.db'"),
        ({"ui": "on"}, "ui: is 'on'"),
    ],
)
def test_what_several_doors_could_not_keep_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        check_front_doors(config(**given))
