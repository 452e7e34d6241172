"""What can go wrong on a device, as one tree.

    DeviceAgentError                  exit 1
    ├── ConfigurationError            exit 2   a setting or a flag that cannot be
    ├── MediaError                    exit 3   a file or a capture that is no usable media; names a field
    │   └── MediaLimitError           exit 3   ... because it is larger than allowed
    ├── BundleError                   exit 4   no device bundle, or one that cannot be trusted
    │   └── BundleMismatchError       exit 4   the server answers for another bundle
    ├── TransmitterError              exit 5   a graph that does not do what its manifest says
    │   └── TooSlowError              exit 5   ... or not within the time that was given
    ├── UplinkError                   exit 6   the server did not answer
    │   ├── ServerUnreachableError    exit 6   ... because no connection came about
    │   ├── DeadlineError             exit 7   ... within the time that was given
    │   ├── OverloadedError           exit 8   ... because it is full, after all retries
    │   └── GaveUpError               exit 6   ... because its model failed on this question
    ├── RefusedError                  exit 9   the server answered: no. Names the field
    ├── NotAdmittedError              exit 10  the server does not let this device in
    │   ├── UnauthenticatedError      exit 10  ... because its credential is missing or not good (any more)
    │   └── PermissionDeniedError     exit 10  ... to this, with this credential
    └── OutboxError                   exit 11  the outbox cannot be used
        ├── OutboxFullError           exit 11  ... because its disk is full or fails
        └── OutboxDamagedError        exit 11  ... because it is damaged; the next to open it mends it

After Ctrl-C it is 130. ``device_agent.cli.main.main`` is the one place that turns them into exit codes and
messages.
"""

from __future__ import annotations

from typing import ClassVar


class DeviceAgentError(Exception):
    """Root of the tree. ``str(error)`` is one sentence that a user can act on."""

    exit_code: ClassVar[int] = 1


class ConfigurationError(DeviceAgentError):
    """A setting or a flag that cannot be; names it, what was found and what is allowed."""

    exit_code: ClassVar[int] = 2


class MediaError(DeviceAgentError):
    """Bytes that are no usable media.

    Args:
        field: what was at fault, as the caller named it (``"image"``, ``"audio"``, a file name).
        message: what was found and what is allowed.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class MediaLimitError(MediaError):
    """Media larger than the limits allow."""


class WindowError(MediaError):
    """The media ends before the part of it that is asked about."""


class BundleError(DeviceAgentError):
    """No device bundle, or one that is broken, incomplete or altered.

    Args:
        found: what is wrong.
        advice: what to do about it on a device; elsewhere, something else may be right.
    """

    exit_code: ClassVar[int] = 4

    def __init__(self, found: str, *, advice: str = "") -> None:
        super().__init__(f"{found}; {advice}" if advice else found)
        self.found = found


class BundleMismatchError(BundleError):
    """The server answers for another bundle than the one installed here."""


class TransmitterError(DeviceAgentError):
    """A graph that could not be opened, failed, or returned something its manifest rules out."""

    exit_code: ClassVar[int] = 5


class TooSlowError(TransmitterError):
    """This device did not make and send the tokens of a question within the time that was given."""


class UplinkError(DeviceAgentError):
    """The server did not answer."""

    exit_code: ClassVar[int] = 6


class ServerUnreachableError(UplinkError):
    """No connection to the server came about, after all retries."""


class DeadlineError(UplinkError):
    """No answer came within the time that was given."""

    exit_code: ClassVar[int] = 7


class OverloadedError(UplinkError):
    """The server is full and stayed so through all retries."""

    exit_code: ClassVar[int] = 8


class GaveUpError(UplinkError):
    """The server tried this question and failed on it; another try may go the same way."""


class OutboxError(DeviceAgentError):
    """The file in which questions wait for the network cannot be used."""

    exit_code: ClassVar[int] = 11


class OutboxFullError(OutboxError):
    """Its disk is full, or fails. What is in it is safe; it can be written again once there is space."""


class OutboxDamagedError(OutboxError):
    """What is in the file is damaged. Whoever opens it next puts it aside and keeps what can be read."""


class RefusedError(DeviceAgentError):
    """The server refused the question.

    Args:
        message: the server's words.
        field: the field at fault, as a path; empty where none was.
        given: what the user gave for it, to be named in its place; empty: the field is named.
        code: name of the gRPC status code.
    """

    exit_code: ClassVar[int] = 9

    def __init__(
        self, message: str, *, field: str = "", given: str = "", code: str = "INVALID_ARGUMENT"
    ) -> None:
        said = message.removeprefix(f"{field}: ") if given else message
        name = given or field
        super().__init__(f"{name}: {said}" if name and not said.startswith(name) else said)
        self.field = field
        self.code = code


class NotAdmittedError(DeviceAgentError):
    """The server does not let this device in. Asking again does not help; another credential may."""

    exit_code: ClassVar[int] = 10


class UnauthenticatedError(NotAdmittedError):
    """No certificate or token, or one that is unknown, used up, expired or revoked."""


class PermissionDeniedError(NotAdmittedError):
    """The certificate is good, but what was asked for belongs to another device."""
