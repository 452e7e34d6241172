"""What a server refuses is named as the user gave it."""

from __future__ import annotations

import grpc
import pytest
from typer.core import TyperGroup
from typer.main import get_command

from device_agent.cli.main import app
from device_agent.errors import RefusedError
from device_agent.uplink.given import GIVEN
from device_agent.uplink.status import error_of_failure
from protos.tokenlink.v1 import tokenlink_pb2 as pb


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("rounds.token_lengths", "progressive (--progressive): is 99"),
        ("context_ids", "context (--context): is 99"),
        ("scenes", "scene (--scene): is 99"),
        ("scenes[1].device", "device of scene 2 (--scene): is 99"),
        ("sampling.seed", "sampling_seed (--sampling-seed): is 99"),
        ("payloads[0].crc32", "payloads[0].crc32: is 99"),
    ],
)
def test_a_refusal_names_what_the_user_gave(field: str, said: str) -> None:
    code = grpc.StatusCode.INVALID_ARGUMENT.value[0]
    refused = error_of_failure(pb.Failure(code=code, message=f"{field}: is 99", field=field))
    assert isinstance(refused, RefusedError)
    assert (str(refused), refused.field) == (said, field)


def test_what_users_give_are_options() -> None:
    command = get_command(app)
    assert isinstance(command, TyperGroup)
    options = {option for param in command.commands["ask"].params for option in param.opts}
    assert {name.split("(")[1][:-1] for name in GIVEN.values() if "(" in name} <= options
