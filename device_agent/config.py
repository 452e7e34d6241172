"""Settings of an agent: flags before environment (``TOKENLINK_DEVICE_*``) before file before defaults.

The file is TOML, at ``$TOKENLINK_DEVICE_CONFIG`` or ``~/.config/tokenlink/device.toml``.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import platform
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from device_agent.bundle.acceptance import Acceptance
from device_agent.bundle.proving import ProofLimits
from device_agent.bundle.signature import read_keys
from device_agent.channel import ChannelConfig, EqualizerName, SnrPer
from device_agent.errors import ConfigurationError
from device_agent.media.limits import MediaLimits
from device_agent.outbox.records import Bounds, Evict
from device_agent.places import cloned_model, home, is_file, is_folder, state
from device_agent.progressive import Ladder
from device_agent.settings.catalogue import Catalogue, GivenTwiceError
from device_agent.settings.sources import CONFIG, sources, variable_of
from device_agent.uplink.address import with_port
from device_agent.uplink.credentials import (
    AUTHORITY,
    BUNDLE_KEYS,
    CERTIFICATE,
    KEY,
    Credentials,
    load_credentials,
    mend_identity,
)
from device_agent.uplink.uplink import FETCH_WITHIN_S
from protos.names import (
    MAX_ABS_SNR_DB,
    MAX_SNR_DB,
    MAX_TEMPERATURE,
    MIN_SNR_DB,
    ChannelName,
    CsiName,
    FadingName,
    PayloadName,
    PriorityName,
    check_device_name,
)

ENV_PREFIX = "TOKENLINK_DEVICE_"

_LINK: dict[str, Any] = {"flag": True, "panel": "Radio link"}
_SERVER: dict[str, Any] = {"flag": True, "panel": "Server and bundle"}
_OUTBOX: dict[str, Any] = {"flag": True, "panel": "Outbox"}

_NAME_CHARS = 64
"""Of a device's own name: what its agent adds has room too."""

TextPath: TypeAlias = Literal["ids", "analog"]


def config_file() -> Path:
    """Where the settings file is looked for; it need not exist."""
    named = os.environ.get(f"{ENV_PREFIX}{CONFIG}")
    return Path(named) if named else home() / ".config" / "tokenlink" / "device.toml"


def default_bundle() -> Path:
    """The bundle folder when none is set: a clone's shipped one, else the user's, which ``pull`` fills."""
    shipped = cloned_model()
    if shipped is not None and is_folder(shipped / "bundle"):
        return shipped / "bundle"
    return home() / ".local" / "share" / "tokenlink" / "bundle"


def default_identity() -> Path:
    """Where key and certificate are kept when nothing else is set."""
    return home() / ".local" / "share" / "tokenlink" / "identity"


class DeviceSettings(BaseSettings):
    """Everything about an agent that can be set."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    server: str = Field(default="127.0.0.1:50051", min_length=1, json_schema_extra=_SERVER)
    """The edge server's gRPC address, host:port."""
    bundle: Path = Field(
        default_factory=default_bundle,
        json_schema_extra=_SERVER | {"shown": "a clone's shipped one, or ~/.local/share/tokenlink/bundle"},
    )
    """Folder of the device bundle."""
    device_id: str = Field(
        default_factory=lambda: platform.node() or "device",
        min_length=1,
        max_length=_NAME_CHARS,
        json_schema_extra=_SERVER | {"shown": "host name"},
    )
    """What to call this device; a suffix is added: its outbox's own, or without one a new one each run."""
    channel: ChannelName = Field(default=ChannelConfig.model, json_schema_extra=_LINK)
    """The emulated radio channel."""
    fading: FadingName = Field(default=ChannelConfig.fading, json_schema_extra=_LINK)
    """One gain per codeword, or one per symbol."""
    snr_db: float = Field(default=ChannelConfig.snr_db, ge=MIN_SNR_DB, le=MAX_SNR_DB, json_schema_extra=_LINK)
    """Mean Es/N0, within what receivers can be told."""
    k_factor_db: float = Field(
        default=ChannelConfig.k_factor_db, ge=-MAX_ABS_SNR_DB, le=MAX_ABS_SNR_DB, json_schema_extra=_LINK
    )
    """Rician: line-of-sight power over scattered power."""
    csi: CsiName = Field(default=ChannelConfig.csi, json_schema_extra=_LINK)
    """What the receiver knows of the gain."""
    pilots: int = Field(default=ChannelConfig.pilots, ge=1, le=1000, json_schema_extra=_LINK)
    """Pilots per gain, with estimated CSI."""
    delay_spread_ns: float = Field(
        default=ChannelConfig.delay_spread_ns, ge=0, le=1e5, json_schema_extra=_LINK
    )
    """TDL: root of the mean squared delay [ns]."""
    speed_kmh: float = Field(default=ChannelConfig.speed_kmh, ge=0, le=1e4, json_schema_extra=_LINK)
    """TDL: how fast this device moves."""
    carrier_ghz: float = Field(default=ChannelConfig.carrier_ghz, ge=1e-3, le=1e3, json_schema_extra=_LINK)
    """TDL: carrier frequency [GHz]."""
    subcarrier_khz: float = Field(
        default=ChannelConfig.subcarrier_khz, ge=0.1, le=1e4, json_schema_extra=_LINK
    )
    """TDL: between subcarriers [kHz]."""
    pilot_spacing: int = Field(default=ChannelConfig.pilot_spacing, ge=2, le=1000, json_schema_extra=_LINK)
    """TDL: with estimated CSI, subcarriers from one pilot to the next."""
    csi_age_ms: float = Field(default=ChannelConfig.csi_age_ms, ge=0, le=1e4, json_schema_extra=_LINK)
    """TDL: by which gains that the receiver knows or estimates are older than the tokens [ms]."""
    clip_db: float | None = Field(
        default=None, ge=-20, le=40, json_schema_extra=_LINK | {"shown": "nothing is cut"}
    )
    """TDL: power at which the amplifier saturates, over the mean power."""
    sir_db: float | None = Field(
        default=None,
        ge=-MAX_ABS_SNR_DB,
        le=MAX_ABS_SNR_DB,
        json_schema_extra=_LINK | {"shown": "no neighbour"},
    )
    """Mean power of this device over that of a neighbour on the same resource."""
    equalizer: EqualizerName = Field(default=ChannelConfig.equalizer, json_schema_extra=_LINK)
    """How the gain is undone."""
    snr_per: SnrPer = Field(default=ChannelConfig.snr_per, json_schema_extra=_LINK)
    """What the receiver is told: one SNR of a block, or that of each token too, where gains differ within."""
    trace: Path | None = Field(default=None, json_schema_extra=_LINK)
    """CSV of time_s,snr_db that takes the place of snr_db."""
    bandwidth_hz: float | None = Field(
        default=None, gt=0, le=1e12, json_schema_extra=_LINK | {"shown": "as granted"}
    )
    """Symbols per second; where it is not said, what the server grants."""
    pace: bool = Field(default=True, json_schema_extra=_LINK)
    """Hold each codeword back for its airtime."""
    token_length: int | None = Field(default=None, ge=1, json_schema_extra=_LINK | {"shown": "as suggested"})
    """Tokens per modality; where it is not said, what the server suggests for the SNR."""
    progressive: str | None = Field(
        default=None, pattern=r"^\d{1,4}(,\d{1,4})*$", json_schema_extra=_LINK | {"shown": "all at once"}
    )
    """Tokens per modality of rounds, as 2,8,16: more only as the server asks, while it is not sure."""
    progressive_until: float = Field(default=0.9, ge=0, le=1, json_schema_extra=_LINK)
    """Confidence of an answer from which no more is sent."""
    progressive_abstain: bool = Field(default=False, json_schema_extra=_LINK)
    """Whether an answer that never got so sure is held back, as one that the model is not sure of."""
    payload: PayloadName = Field(default="float16", json_schema_extra=_LINK)
    """How token values are packed."""
    text_path: TextPath = Field(default="ids", json_schema_extra=_LINK)
    """Whether the question goes digitally, or as feature tokens through the channel."""
    seed: int | None = Field(default=None, ge=0, json_schema_extra=_LINK | {"shown": "another each run"})
    """Seed of the channel's randomness."""
    deadline_s: float = Field(default=30.0, gt=0, le=3600, json_schema_extra=_SERVER)
    """Time within which an answer is of use."""
    max_new_tokens: int = Field(
        default=0, ge=0, le=4096, json_schema_extra=_SERVER | {"shown": "0, the server's"}
    )
    """Longest answer in language tokens."""
    temperature: float = Field(default=0.0, ge=0, le=MAX_TEMPERATURE, json_schema_extra=_SERVER)
    """Language tokens are drawn, the more evenly the higher it is; 0: the likeliest are taken."""
    top_p: float = Field(default=1.0, gt=0, le=1, json_schema_extra=_SERVER)
    """Share of the probability from which they are drawn, the likeliest first."""
    sampling_seed: int | None = Field(
        default=None, ge=0, lt=2**64, json_schema_extra=_SERVER | {"shown": "another each time"}
    )
    """Repeats the same draws."""
    priority: PriorityName = Field(default="interactive", json_schema_extra=_SERVER)
    """Whether somebody waits for the answer."""
    retries: int = Field(default=6, ge=0, le=100, json_schema_extra=_SERVER)
    """Tries after the first."""
    threads: int = Field(default=1, ge=1, le=256, json_schema_extra=_SERVER)
    """Threads of each transmitter."""
    tracing_endpoint: str | None = Field(default=None, json_schema_extra=_SERVER)
    """Where spans go, an OTLP collector over gRPC such as http://127.0.0.1:4317; none: they are not made."""
    auto_update: bool = Field(default=False, json_schema_extra=_SERVER)
    """Whether another bundle is fetched and run when the server serves another model."""
    bundle_keys: Path | None = Field(default=None, json_schema_extra=_SERVER | {"shown": "as in identity"})
    """File of public keys, one a line; if there is one, only bundles that one of them signed are taken."""
    bundle_max_bytes: int = Field(default=Acceptance.max_bytes, ge=2**16, le=2**40, json_schema_extra=_SERVER)
    """Largest bundle that is taken from a server."""
    bundle_max_memory_bytes: int = Field(
        default=ProofLimits.memory_bytes, ge=2**26, le=2**44, json_schema_extra=_SERVER
    )
    """Memory that a new bundle may take to run; less for one whose graphs are small."""
    bundle_proof_s: float = Field(default=ProofLimits.cpu_s, gt=0, le=3600, json_schema_extra=_SERVER)
    """Time of the processor that a new bundle may take to run once, before it is installed."""
    fetch_within_s: float = Field(default=FETCH_WITHIN_S, gt=0, le=86_400, json_schema_extra=_SERVER)
    """Time within which a new bundle has to be here and installed."""
    provider: str = Field(
        default="CPUExecutionProvider", pattern=r"^[A-Za-z]+ExecutionProvider$", json_schema_extra=_SERVER
    )
    """What ONNX Runtime computes with."""
    outbox: Path | None = Field(
        default=None, json_schema_extra=_OUTBOX | {"shown": "~/.local/state/tokenlink/outbox.db"}
    )
    """File in which questions wait for the network."""
    outbox_max_questions: int = Field(
        default=Bounds.max_questions, ge=1, le=10_000_000, json_schema_extra=_OUTBOX
    )
    """Questions that may wait for the network."""
    outbox_max_bytes: int = Field(default=Bounds.max_bytes, ge=2**16, le=2**44, json_schema_extra=_OUTBOX)
    """Bytes that questions which wait may take."""
    outbox_ttl_s: float = Field(default=Bounds.ttl_s, gt=0, le=10 * 365 * 86_400.0, json_schema_extra=_OUTBOX)
    """After so long without an answer a question is dropped, and that reported."""
    outbox_evict: Evict = Field(default=Bounds.evict, json_schema_extra=_OUTBOX)
    """Which question is dropped, and that reported, when there is no room."""
    identity: Path = Field(
        default_factory=default_identity,
        json_schema_extra=_SERVER | {"shown": "~/.local/share/tokenlink/identity"},
    )
    """Folder in which `enrol` keeps this device's key and certificate."""
    tls: bool | None = Field(default=None, json_schema_extra=_SERVER | {"shown": "if enrolled"})
    """Whether the link is encrypted; where it is not said: if this device is enrolled, or tls_ca is set."""
    use_proxy: bool | None = Field(
        default=None, json_schema_extra=_SERVER | {"shown": "not to this machine and its network"}
    )
    """Whether the link goes through http_proxy."""
    tls_ca: Path | None = Field(default=None, json_schema_extra=_SERVER | {"shown": "as in identity"})
    """Authorities of servers, PEM."""
    tls_cert: Path | None = Field(default=None, json_schema_extra=_SERVER | {"shown": "as in identity"})
    """This device's certificate, PEM."""
    tls_key: Path | None = Field(default=None, json_schema_extra=_SERVER | {"shown": "as in identity"})
    """Key of this device's certificate, PEM."""
    server_name: str | None = Field(default=None, json_schema_extra=_SERVER)
    """The name in the server's certificate, where it is not the one in its address."""

    media: MediaLimits = MediaLimits()

    @field_validator("server")
    @classmethod
    def _server_has_a_port(cls, server: str) -> str:
        return with_port(server)

    @field_validator("device_id")
    @classmethod
    def _device_id_is_a_name(cls, device_id: str) -> str:
        return check_device_name(device_id, _NAME_CHARS)

    @field_validator("progressive")
    @classmethod
    def _rounds_rise(cls, progressive: str | None) -> str | None:
        lengths = [int(length) for length in progressive.split(",")] if progressive else []
        if any(b <= a for a, b in itertools.pairwise([0, *lengths])):
            raise ValueError("token lengths from 1, each longer than the one before")
        return progressive

    def ladder(self) -> Ladder | None:
        """The rounds of a question; None: it is sent at once."""
        if self.progressive is None:
            return None
        lengths = tuple(int(length) for length in self.progressive.split(","))
        return Ladder(lengths, self.progressive_until, self.progressive_abstain)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, environment, file."""
        return sources(settings_cls, SETTINGS, init_settings(), config_file())

    def outbox_path(self) -> Path:
        """The outbox that is set, or the user's."""
        return self.outbox or state() / "outbox.db"

    def bounds(self) -> Bounds:
        """How much may wait in the outbox."""
        return Bounds(
            max_questions=self.outbox_max_questions,
            max_bytes=self.outbox_max_bytes,
            ttl_s=self.outbox_ttl_s,
            evict=self.outbox_evict,
        )

    def credentials(self) -> Credentials | None:
        """What this device shows the server, and by what it knows it; None: the link is not encrypted.

        Raises:
            ConfigurationError: a file cannot be read, or TLS is asked for and there is no authority.
        """
        enrolled = is_file(self.identity / CERTIFICATE)
        if self.tls is False or (self.tls is None and self.tls_ca is None and not enrolled):
            return None
        if self.tls_ca is None and not enrolled:
            raise ConfigurationError(
                f"tls: is on, but tls_ca is not set and {self.identity} holds no certificate; "
                "enrol this device: device-agent enrol"
            )
        own = enrolled and self.shows_identity
        if own:
            with suppress(OSError):  # said where it is read, if it matters
                mend_identity(self.identity)
        return load_credentials(
            self.tls_ca or self.identity / AUTHORITY,
            self.identity / CERTIFICATE if own else self.tls_cert,
            self.identity / KEY if own else self.tls_key,
            self.server_name,
        )

    @property
    def shows_identity(self) -> bool:
        """Whether the certificate is that of `enrol`, and no other is set."""
        return self.tls_cert is None and self.tls_key is None

    def acceptance(self) -> Acceptance:
        """What a bundle from a server has to meet.

        Raises:
            ConfigurationError: the file of public keys cannot be read.
        """
        pinned = self.bundle_keys or self.identity / BUNDLE_KEYS
        needed = self.bundle_keys is not None or is_file(pinned)
        return Acceptance(
            self.bundle_max_bytes,
            read_keys(pinned) if needed else (),
            ProofLimits(self.bundle_proof_s, self.bundle_max_memory_bytes),
        )

    def channel_config(self, granted_bandwidth_hz: float, granted_power_db: float = 0.0) -> ChannelConfig:
        """The channel as set, at the granted bandwidth [Hz] where none is set, and the granted power [dB]."""
        return ChannelConfig(
            model=self.channel,
            fading=self.fading,
            snr_db=self.snr_db,
            k_factor_db=self.k_factor_db,
            csi=self.csi,
            pilots=self.pilots,
            delay_spread_ns=self.delay_spread_ns,
            speed_kmh=self.speed_kmh,
            carrier_ghz=self.carrier_ghz,
            subcarrier_khz=self.subcarrier_khz,
            pilot_spacing=self.pilot_spacing,
            csi_age_ms=self.csi_age_ms,
            clip_db=self.clip_db,
            sir_db=self.sir_db,
            equalizer=self.equalizer,
            snr_per=self.snr_per,
            tx_power_db=granted_power_db,
            bandwidth_hz=self.bandwidth_hz or granted_bandwidth_hz or ChannelConfig().bandwidth_hz,
        )


SETTINGS = Catalogue(
    DeviceSettings,
    ENV_PREFIX,
    names={f"media_{field.name}": f"media.{field.name}" for field in dataclasses.fields(MediaLimits)},
)
"""Each setting, with its names."""


def load_settings(flags: Mapping[str, Any]) -> DeviceSettings:
    """Settings from flags (those that are None were not given), environment and file.

    Raises:
        ConfigurationError: names the setting, what was found and what is allowed.
    """
    try:
        return DeviceSettings(**{name: value for name, value in flags.items() if value is not None})
    except GivenTwiceError as error:
        raise ConfigurationError(str(error)) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{config_file()} cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "settings"
        setting = SETTINGS.find(name)
        if setting is None:
            closest = SETTINGS.closest(name)
            hint = f"; did you mean {closest}?" if closest else ""
            where = variable_of(SETTINGS, name) or config_file()
            raise ConfigurationError(f"{name}: no such setting ({where}){hint}") from error
        raise ConfigurationError(
            f"{name} ({setting.flag}, {setting.variable}) is {first['input']!r}: "
            f"{first['msg'].removeprefix('Value error, ')}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{config_file()} cannot be read: {error}") from error
