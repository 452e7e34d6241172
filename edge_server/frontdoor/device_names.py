"""What devices call themselves, as every door takes it."""

from __future__ import annotations

from edge_server.errors import InvalidQuestionError
from protos.names import MAX_DEVICE_CHARS, check_device_name


def checked_device(name: str, field: str) -> str:
    """A name that a device may have.

    Args:
        name: as it came.
        field: where it stood, as a path.

    Raises:
        InvalidQuestionError: names the field, what was found and what is allowed.
    """
    try:
        return check_device_name(name)
    except ValueError as error:
        raise InvalidQuestionError(field, f"{field} is {name[:MAX_DEVICE_CHARS]!r}; {error}") from error
