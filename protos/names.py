"""What the contract's enums are called everywhere else, and bounds that both sides keep to.

Settings, flags, JSON, bundles and errors spell a value of an enum in lower case, without its enum's name in
front: ``CHANNEL_MODEL_AWGN`` is ``awgn``. The names are read off the enums, so a value that the contract gets
has its name at once. What a name stands for is registered where it is implemented; tests hold that it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from protos.tokenlink.v1 import tokenlink_pb2 as pb

NumberT = TypeVar("NumberT", bound=int)

MIN_SNR_DB, MAX_SNR_DB = -30.0, 40.0
"""What a receiver may be told of Es/N0 after equalisation [dB]; anything beyond is taken as the bound. What
training draws its SNRs from is narrower, and a setting of its own."""

MAX_ABS_SNR_DB = 200.0
"""Largest magnitude of an SNR, or of a ratio of powers, in settings and requests [dB]."""
REQUEST_CHANNEL_USES = 72
"""What a request for more tokens takes of the air: a control channel element, 6 groups of 12 resource
elements with their pilots (3GPP TS 38.211, 7.3.2.2)."""

MAX_DEVICE_CHARS = 128
"""Longest name of a device, or of one of its sources, with whatever its agent adds."""

MAX_TEMPERATURE = 2.0
"""Of sampling; 0 is greedy. These bounds are those of OpenAI's API."""
MAX_ABS_PENALTY = 2.0
"""Of what is taken off the logit of a language token that the answer has already."""
MAX_ABS_LOGIT_BIAS = 100.0
"""Of what is added to the logit of a language token."""
MAX_LOGIT_BIASES = 1024
"""Language tokens whose logits one question may shift."""
MAX_STOPS, MAX_STOP_CHARS = 4, 256
"""Texts that end an answer, and how long each may be."""
MAX_ALTERNATIVES = 20
"""Likeliest language tokens that are told with each one of an answer."""


def clamp_snr_db(snr_db: float) -> float:
    """An SNR as a receiver is told it: within [-30, 40] dB."""
    return min(max(snr_db, MIN_SNR_DB), MAX_SNR_DB)


def check_device_name(name: str, most: int = MAX_DEVICE_CHARS) -> str:
    """A name that a device, or one of its sources, may have: it stands in lines and patterns as it is.

    Args:
        name: whatever was given.
        most: characters.

    Raises:
        ValueError: it is none; says what is allowed.
    """
    if not 1 <= len(name) <= most or not name.isprintable() or "*" in name:
        raise ValueError(f"1 to {most} printable characters are allowed, no '*'")
    return name


class WireNames(Mapping[str, NumberT]):
    """The names of an enum's values, but for the unspecified one.

    Args:
        enum: of the contract; its value 0 is called ``..._UNSPECIFIED``.
    """

    def __init__(self, enum: type[NumberT]) -> None:
        wrapper: Any = enum
        prefix = wrapper.Name(0).removesuffix("UNSPECIFIED")
        self._numbers: dict[str, NumberT] = {
            name.removeprefix(prefix).lower(): number for name, number in wrapper.items() if number
        }
        self._names = {int(number): name for name, number in self._numbers.items()}

    def __getitem__(self, name: str) -> NumberT:
        return self._numbers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def of_number(self) -> Mapping[int, str]:
        """The name of each number on the wire; one that came from outside need not be there."""
        return MappingProxyType(self._names)

    def add(self, name: str, number: NumberT) -> None:
        """Take in a value that the contract lacks: enums are open, and any number travels.

        Raises:
            ValueError: the name or the number is taken, or the number is 0.
        """
        if name in self._numbers or number in self._names or not number:
            raise ValueError(f"{name!r} ({number}): name or number is taken")
        self._numbers[name] = number
        self._names[int(number)] = name

    def remove(self, name: str) -> None:
        """Forget a value that :meth:`add` took in."""
        del self._names[int(self._numbers.pop(name))]


class OneOf:
    """In an ``Annotated`` string: pydantic accepts these names alone, and lists them in a JSON schema.

    Args:
        names: as they are whenever a value is checked, those that came from outside too.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = names

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, as they are now."""
        return tuple(self._names)

    def check(self, name: str) -> str:
        """The name itself.

        Raises:
            ValueError: it is none of these; says what is allowed.
        """
        if name not in self._names:
            raise ValueError(f"allowed: {', '.join(self._names)}")
        return name

    # The two hooks that pydantic looks for; schemas are plain dictionaries, and the contract itself needs no
    # pydantic.

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return {
            "type": "function-after",
            "function": {"type": "no-info", "function": self.check},
            "schema": handler(source),
        }

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        return {**handler(schema), "enum": list(self._names)}


CHANNEL_MODELS = WireNames(pb.ChannelModel)
FADINGS = WireNames(pb.Fading)
MODALITIES = WireNames(pb.Modality)
DTYPES = WireNames(pb.DType)
PRIORITIES = WireNames(pb.Priority)

SLOT_OF: dict[str, str] = {"image": "visual", "video": "visual", "audio": "audio"}
"""Modalities that come as media, and the name of what takes each: a bundle's transmitter, a model's receiver,
a slot of its prompt. Of several that share one, a question holds one."""

ChannelName: TypeAlias = Annotated[str, OneOf(CHANNEL_MODELS)]
"""A model of the radio channel."""
FadingName: TypeAlias = Literal["block", "fast"]
CsiName: TypeAlias = Literal["perfect", "estimated"]
"""One gain per codeword, or one per symbol."""
ModalityName: TypeAlias = Annotated[str, OneOf(MODALITIES)]
"""What a token block is of."""
MediaModality: TypeAlias = Annotated[str, OneOf(SLOT_OF)]
"""What a media file is taken as."""
PayloadName: TypeAlias = Literal["float32", "float16", "int8", "int4"]
"""How the values of a token block are packed."""
PriorityName: TypeAlias = Literal["interactive", "background"]
"""Whether somebody waits for the answer."""
