"""Names of the contract's enums: complete, the same both ways, and open to values from outside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from edge_server.engine import Priority
from protos import names
from protos.names import (
    CHANNEL_MODELS,
    DTYPES,
    FADINGS,
    MAX_SNR_DB,
    MIN_SNR_DB,
    MODALITIES,
    PRIORITIES,
    ChannelName,
    WireNames,
    check_device_name,
    clamp_snr_db,
)
from protos.tokenlink.v1 import tokenlink_pb2 as pb

ENUMS: list[tuple[Any, WireNames[Any]]] = [
    (pb.ChannelModel, CHANNEL_MODELS),
    (pb.Fading, FADINGS),
    (pb.Modality, MODALITIES),
    (pb.DType, DTYPES),
    (pb.Priority, PRIORITIES),
]


@pytest.mark.parametrize("name", ["camera-1", "Küche 1", "hall/left", "x" * 128])
def test_devices_are_called_by_what_can_be_printed(name: str) -> None:
    assert check_device_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "x" * 129, "a\nb", "a\x1b[2J", "a\x00", "a\u202eb", "\udc80", "camera-*"]
)
def test_what_ends_a_line_or_stands_for_others_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 128 printable characters are allowed"):
        check_device_name(name)


@pytest.fixture
def quantum() -> Iterator[str]:
    """A channel model that the contract lacks."""
    CHANNEL_MODELS.add("quantum", 1000)  # type: ignore[arg-type]
    yield "quantum"
    CHANNEL_MODELS.remove("quantum")


@pytest.mark.parametrize(("enum", "named"), ENUMS)
def test_every_value_of_the_contract_has_one_name(enum: Any, named: WireNames[Any]) -> None:
    specified = [number for number in enum.values() if number]
    assert sorted(named.values()) == sorted(specified)
    for name, number in named.items():
        assert enum.Name(number).endswith(f"_{name.upper()}")
        assert named.of_number[number] == name


def test_no_enum_of_the_contract_lacks_names() -> None:
    assert {enum.DESCRIPTOR.name for enum, _ in ENUMS} == set(pb.DESCRIPTOR.enum_types_by_name)


def test_the_contract_says_these() -> None:
    tapped = {f"tdl_{profile}": number for number, profile in enumerate("abcde", start=5)}
    assert dict(CHANNEL_MODELS) == {"none": 1, "awgn": 2, "rayleigh": 3, "rician": 4, **tapped}
    assert dict(MODALITIES) == {"image": 1, "video": 2, "audio": 3, "text": 4}


@pytest.mark.parametrize(
    ("literal", "named"),
    [
        (names.FadingName, FADINGS),
        (names.PayloadName, DTYPES),
        (names.PriorityName, PRIORITIES),
        # The engine may not know the contract, and has its own.
        (Priority, PRIORITIES),
    ],
)
def test_types_spell_what_the_contract_has(literal: Any, named: WireNames[Any]) -> None:
    assert get_args(literal) == tuple(named)


def test_a_value_from_outside_has_a_name_both_ways_and_travels(quantum: str) -> None:
    number = CHANNEL_MODELS[quantum]
    report = pb.ChannelReport.FromString(pb.ChannelReport(model=number).SerializeToString())
    assert CHANNEL_MODELS.of_number[report.model] == quantum


@pytest.mark.parametrize(("name", "number"), [("awgn", 1000), ("quantum", 2), ("quantum", 0)])
def test_a_name_and_a_number_are_given_once(name: str, number: int) -> None:
    with pytest.raises(ValueError, match=name):
        CHANNEL_MODELS.add(name, number)  # type: ignore[arg-type]
    assert "quantum" not in CHANNEL_MODELS


def test_pydantic_takes_these_names_alone_and_lists_them(quantum: str) -> None:
    adapter = TypeAdapter(ChannelName)
    assert adapter.validate_python("awgn") == "awgn"
    assert adapter.validate_json('"quantum"') == quantum
    assert list(CHANNEL_MODELS)[-1] == quantum
    assert adapter.json_schema() == {"type": "string", "enum": list(CHANNEL_MODELS)}
    with pytest.raises(ValidationError, match=r"allowed: none, awgn, rayleigh, rician, .*quantum"):
        adapter.validate_python("string")
    with pytest.raises(ValidationError):
        adapter.validate_python(2)


@pytest.mark.parametrize(
    ("snr_db", "told"), [(-99.0, MIN_SNR_DB), (12.5, 12.5), (float("inf"), MAX_SNR_DB), (40.0, 40.0)]
)
def test_what_a_receiver_is_told_is_bounded(snr_db: float, told: float) -> None:
    assert clamp_snr_db(snr_db) == told
